// What this processor can do, in the words of /proc/cpuinfo.
#pragma once

#include <sched.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include "support.h"

// Names of what it has.
using Flags = List<const char*>;

#if defined(__aarch64__)
#include <asm/hwcap.h>

struct Capability {
  const char* name;
  unsigned long kind, bit;
};

// /proc/cpuinfo is a print of these bits; an emulator tells only here which processor it plays.
constexpr Capability kCapabilities[] = {
    {"fp", AT_HWCAP, HWCAP_FP},
    {"asimd", AT_HWCAP, HWCAP_ASIMD},
    {"asimddp", AT_HWCAP, HWCAP_ASIMDDP},
    {"asimdhp", AT_HWCAP, HWCAP_ASIMDHP},
    {"asimdrdm", AT_HWCAP, HWCAP_ASIMDRDM},
    {"atomics", AT_HWCAP, HWCAP_ATOMICS},
    {"i8mm", AT_HWCAP2, HWCAP2_I8MM},
    {"bf16", AT_HWCAP2, HWCAP2_BF16},
    {"sve", AT_HWCAP, HWCAP_SVE},
    {"sve2", AT_HWCAP2, HWCAP2_SVE2},
};

inline Flags cpu_flags() {
  Flags flags;
  for (const Capability& each : kCapabilities) {
    if (getauxval(each.kind) & each.bit) flags.add(each.name);
  }
  return flags;
}

#elif defined(__x86_64__)

// Linux grants the tile registers of AMX on request.
inline bool tiles_granted() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // of <asm/prctl.h>
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}

inline Flags cpu_flags() {
  Bytes file = read_file("/proc/cpuinfo");
  file.add(0);
  Flags flags;
  char* line = strstr(reinterpret_cast<char*>(file.begin()), "\nflags");
  if (line == nullptr) return flags;
  char* rest = nullptr;
  line = strtok_r(strchr(line, ':') + 1, "\n", &rest);
  for (char* word = strtok_r(line, " ", &rest); word != nullptr; word = strtok_r(nullptr, " ", &rest)) {
    if (strncmp(word, "amx_", 4) != 0 || tiles_granted()) flags.add(word);
  }
  return flags;
}

#else
#error "bundles are made for x86_64 and aarch64"
#endif

// The CPUs that this process may use.
inline List<int> available_cpus() {
  cpu_set_t set;
  List<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.add(cpu);
    }
  }
  if (cpus.empty()) cpus.add(0);
  return cpus;
}
