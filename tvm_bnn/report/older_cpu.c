/* Loaded before all other libraries (LD_PRELOAD), it hides from them what is newer than x86-64-v3.

   Linux can let CPUID fault in a thread and its descendants (arch_prctl(ARCH_SET_CPUID, 0)). The fault is a SIGSEGV, whose
   handler here executes CPUID itself, takes the newer features out, and goes on behind the instruction. So that the
   handler stays, nobody else may set one for SIGSEGV; they are told that it worked. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

/* Leaf 7: AVX-512 F, DQ, IFMA, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; VP2INTERSECT, AMX-BF16, FP16, TILE, INT8. */
#define NEWER_EBX (BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31))
#define NEWER_ECX (BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14))
#define NEWER_EDX (BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25))

typedef int (*set_action)(int, const struct sigaction *, struct sigaction *);

static int real_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    static set_action found;
    if (!found) found = (set_action)dlsym(RTLD_NEXT, "sigaction");
    return found(number, action, old);
}

int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    return number == SIGSEGV ? 0 : real_sigaction(number, action, old);
}

sighandler_t signal(int number, sighandler_t handler) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    if (number == SIGSEGV) return SIG_DFL;
    return real_sigaction(number, &action, &old) ? SIG_ERR : old.sa_handler;
}

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)registers[REG_RIP];
    unsigned leaf = registers[REG_RAX], part = registers[REG_RCX], a, b, c, d;
    (void)info;
    if (info->si_code != SI_KERNEL || at[0] != 0x0f || at[1] != 0xa2) {
        struct sigaction ordinary = {.sa_handler = SIG_DFL};
        real_sigaction(number, &ordinary, NULL); /* the instruction faults again, and ends the process */
        return;
    }
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
    __cpuid_count(leaf, part, a, b, c, d);
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    if (leaf == 7 && part == 0) {
        b &= ~NEWER_EBX;
        c &= ~NEWER_ECX;
        d &= ~NEWER_EDX;
    } else if (leaf == 7) {
        a = b = c = d = 0;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    real_sigaction(SIGSEGV, &action, NULL);
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) {
        perror("error: this processor cannot hide its features");
        _exit(2);
    }
}
