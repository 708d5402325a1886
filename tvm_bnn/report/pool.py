"""A thread of our own with TVM's workers. TVM keeps a pool per Python thread, so that of the caller stays as it is."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import tvm

_SHARE_ALL_CPUS = -3  # see tvm_bnn.runtime


def own_pool(threads: int) -> ThreadPoolExecutor:
    """An executor of one thread, in which TVM's code runs on so many; `shutdown` ends them all."""

    def configure() -> None:
        cpus = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]
        tvm.get_global_func("runtime.config_threadpool")(_SHARE_ALL_CPUS, threads, cpus)

    return ThreadPoolExecutor(1, thread_name_prefix="tvm_bnn-report", initializer=configure)
