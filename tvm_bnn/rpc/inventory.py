"""The devices of a tracker, one by one: who is free, what it is, and whether it computes what it should."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tvm_bnn.errors import BnnError
from tvm_bnn.rpc import client
from tvm_bnn.rpc.address import Address
from tvm_bnn.rpc.board import Description
from tvm_bnn.rpc.client import Session
from tvm_bnn.rpc.tracker import Lent, Registered, Tracker

#: Seconds that a free device has for each step with the small kernel.
ANSWER_S = 20.0
#: Seconds that the tracker has to hand out a device that it counts as free.
LEND_S = 1.0
#: Answers that are no reproach: of a busy one, of one that computes what it should, of one that cannot be tried.
BUSY, EXACT, UNTRIED = "", "exact", "not tried: it does not tell for what to compile"


@dataclass(frozen=True)
class Row:
    """A device of a tracker.

    free : whether nobody used it. description : None of a busy one, and where its server does not tell.
    answer : BUSY, EXACT or UNTRIED, or what is wrong.
    """

    device: Registered
    free: bool
    description: Description | None = None
    answer: str = BUSY

    @property
    def fine(self) -> bool:
        """Whether nothing is known against it."""
        return self.answer in (BUSY, EXACT, UNTRIED)


def take_stock(address: Address, try_out: Callable[[Session, str], str], answer_s: float = ANSWER_S) -> list[Row]:
    """One row per device of the tracker at `address`.

    A tracker tells how many devices of a key are free, not which: those that are free are borrowed for a moment.

    try_out : (session, text of the device's target) -> its answer; called in a thread, several at once.
    answer_s : seconds that a device may take for a step of it.

    Raises DeviceError where the tracker cannot be reached.
    """
    with Tracker(address) as tracker:
        devices, free = tracker.devices(), tracker.free()
    keys = sorted({row.key for row in devices})
    lent = [device for key in keys for device in _borrow(address, key, free.get(key, 0))]
    with ThreadPoolExecutor(max(1, len(lent)), thread_name_prefix="tvm_bnn-list") as pool:
        found = {row.device: row for row in pool.map(lambda each: _row(each, try_out, answer_s), lent)}
    return [found.get(device, Row(device, free=False)) for device in devices]


def _borrow(address: Address, key: str, count: int) -> list[Lent]:
    found: list[Lent] = []
    try:
        with Tracker(address) as tracker:
            while len(found) < count:
                found.append(tracker.lend(key, LEND_S))
    except BnnError:
        pass  # somebody was faster
    return found


def _row(lent: Lent, try_out: Callable[[Session, str], str], answer_s: float) -> Row:
    device = Registered(lent.key, lent.address)
    description = None
    try:
        with client.open_lent(lent, answer_s) as session:
            description = client.describe(session)
            if description is None or description.target is None:
                return Row(device, True, description, UNTRIED)
            return Row(device, True, description, try_out(session, description.target))
    except BnnError as error:
        return Row(device, True, description, str(error))
