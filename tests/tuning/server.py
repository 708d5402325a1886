"""A device for tests: `server.py TRACKER_PORT KEY [LIBRARY]`; prints its port.

LIBRARY : what it runs instead of what it is sent, so that it answers wrongly.
"""

import sys
import time

import tvm.rpc.server as tvm_server

from tvm_bnn.rpc import server


def main(tracker: str, key: str, library: str = "") -> None:
    """Serve until killed."""
    tvm_server.logger.disabled = True
    address = ("127.0.0.1", int(tracker))
    server._prepare(key, address)
    if library:
        honest = tvm_server._load_module
        tvm_server._load_module = lambda _: honest(library)
    running = tvm_server.PopenRPCServerState("127.0.0.1", 9100, 9400, tracker_addr=address, key=key)
    tvm_server.PopenRPCServerState.current = running
    print(running.port, flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
