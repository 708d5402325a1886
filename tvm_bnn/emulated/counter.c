/* A plugin of qemu-user that counts the instructions that the emulated program executes, by mnemonic.
 *
 * Loaded with `-plugin counter.so,counts=FILE`: what it has counted when the program asks for it (counts.h) is in FILE,
 * which the program may map. What qemu translates at once (a block, left at its end alone) is counted when it is entered.
 *
 * The interface of qemu 4.2 to 8.2, of which distributions package no header, is declared here.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "counts.h"

#define EXPORTED __attribute__((visibility("default")))
#define NO_REGISTERS 0

typedef uint64_t plugin_id;
struct block;
struct instruction;
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct block*));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct block*, void (*)(unsigned, void*), int, void*);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t,
                                                                     uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                                                     uint64_t));
extern size_t qemu_plugin_tb_n_insns(const struct block*);
extern struct instruction* qemu_plugin_tb_get_insn(const struct block*, size_t);
extern char* qemu_plugin_insn_disas(const struct instruction*);

EXPORTED int qemu_plugin_version = 1;

/* How many instructions a block has, in all and of each mnemonic. */
struct tally {
  uint32_t total, names;
  struct {
    uint32_t name, count;
  } of[];
};

static struct counts counts;
static struct noted* noted;

static uint32_t place_of(const char* text) {
  size_t length = strcspn(text, " \t"), most = sizeof(counts.of[0].name) - 1;
  char name[sizeof(counts.of[0].name)] = {0};
  memcpy(name, text, length < most ? length : most);
  for (uint32_t i = 0; i < counts.names; ++i) {
    if (!strcmp(counts.of[i].name, name)) return i;
  }
  if (counts.names == MOST_NAMES) return MOST_NAMES - 1;
  strcpy(counts.of[counts.names].name, name);
  return (uint32_t)counts.names++;
}

static void executed(unsigned cpu, void* data) {
  const struct tally* tally = data;
  (void)cpu;
  counts.total += tally->total;
  for (uint32_t i = 0; i < tally->names; ++i) counts.of[tally->of[i].name].count += tally->of[i].count;
}

static void translated(plugin_id id, struct block* block) {
  size_t size = qemu_plugin_tb_n_insns(block);
  struct tally* tally = malloc(sizeof(*tally) + size * sizeof(tally->of[0])); /* as long as the block may run */
  (void)id;
  if (!tally) abort();
  tally->total = (uint32_t)size;
  tally->names = 0;
  for (size_t i = 0; i < size; ++i) {
    char* text = qemu_plugin_insn_disas(qemu_plugin_tb_get_insn(block, i));
    uint32_t name = place_of(text), k = 0;
    free(text);
    while (k < tally->names && tally->of[k].name != name) ++k;
    if (k == tally->names) {
      tally->of[tally->names].name = name;
      tally->of[tally->names++].count = 0;
    }
    ++tally->of[k].count;
  }
  qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS, tally);
}

static void asked(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                  uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (number == CALL_BEGINS) noted->begin = counts;
  if (number == CALL_ENDS) noted->end = counts;
}

EXPORTED int qemu_plugin_install(plugin_id id, const void* emulator, int count, char** arguments) {
  static const char key[] = "counts=";
  (void)emulator;
  if (count != 1 || strncmp(arguments[0], key, sizeof(key) - 1)) {
    fprintf(stderr, "counts=FILE is expected\n");
    return 1;
  }
  int file = open(arguments[0] + sizeof(key) - 1, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, sizeof(*noted))) {
    perror(arguments[0]);
    return 1;
  }
  noted = mmap(NULL, sizeof(*noted), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (noted == MAP_FAILED) {
    perror("mmap");
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, asked);
  return 0;
}
