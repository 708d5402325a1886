"""Schedules of the operators, written in TensorIR, one file a kernel family."""
