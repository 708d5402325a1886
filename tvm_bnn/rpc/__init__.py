"""Devices that are reached over TVM's RPC: asking for one, asking what it is, running on it; and being one."""

#: What the server of `tvm_bnn.rpc.server` offers beyond TVM's, under names that a client looks up: () -> the text of a
#: `board.Description`; (number of threads) -> how many are used from now on; (virtual machine, function, runs) -> the
#: calls of each run, in JSON, see `tvm_bnn.call_times`.
DESCRIBE = "tvm_bnn.device.describe"
USE_THREADS = "tvm_bnn.device.use_threads"
CALLS = "tvm_bnn.device.calls"
#: What the server of an emulated processor offers (tvm_bnn/emulated/server.c): (module, name of a function, arguments)
#: -> how many instructions a call executes.
COUNT = "tvm_bnn.count"
