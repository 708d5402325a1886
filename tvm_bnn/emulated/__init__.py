"""A processor that is not there: TVM's runtime for AArch64 under qemu, and the instructions that it executes."""
