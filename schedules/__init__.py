"""Schedules of the operators, written in TensorIR, one file a kernel family."""

from tvm_bnn.schedules.apply import schedule_module

__all__ = ["schedule_module"]
