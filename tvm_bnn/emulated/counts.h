/* What the emulator counts and the emulated program reads, in a file that both map into memory. */
#include <stdint.h>

#define MOST_NAMES 2048
/* The program makes these system calls, which Linux has not: the emulator then notes how much it has counted. */
#define CALL_BEGINS 0x7be90
#define CALL_ENDS 0x7be91

struct counts {
  uint64_t total; /* instructions executed so far */
  uint64_t names; /* how many of the following are in use */
  struct {
    char name[24]; /* a mnemonic */
    uint64_t count;
  } of[MOST_NAMES];
};

struct noted {
  struct counts begin, end;
};
