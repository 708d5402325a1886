"""Devices that are reached over TVM's RPC: asking for one, asking what it is, running on it; and being one."""

#: What the server of `tvm_bnn.rpc.server` offers beyond TVM's, under names that a client looks up: () -> the text of a
#: `board.Description`, and (number of threads) -> how many are used from now on.
DESCRIBE = "tvm_bnn.device.describe"
USE_THREADS = "tvm_bnn.device.use_threads"
