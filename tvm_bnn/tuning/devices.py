"""The devices of a tuner: each measures in a process of its own, and is used no more once it answers wrongly."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from tvm.support.popen_pool import PopenWorker

from tvm_bnn.errors import DeviceError
from tvm_bnn.interrupt import kept_here
from tvm_bnn.rpc.tracker import Tracker
from tvm_bnn.tuning import worker
from tvm_bnn.tuning.log import SECONDS
from tvm_bnn.tuning.worker import Job, Place

#: Seconds in which a device must be there, and what a job may take besides its timings.
CONNECT_S, JOB_S = 30.0, 60.0
#: Where a process does not end by itself after its time, it is killed after so many more.
_GRACE_S = 5.0
#: So many devices may be lost with a job before it is the job's fault, and so often a device may come back.
_LIVES, _RETURNS = 2, 3


class CandidateError(Exception):
    """A candidate crashed, took too long or gave a wrong result, on a device that is in order."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job: costs of its functions, or why there are none; and where.

    unit : of the costs: `log.SECONDS`, or `log.INSTRUCTIONS` of an emulated processor.
    """

    costs: Sequence[Sequence[float]]
    failure: str
    device: str
    unit: str = SECONDS


class Device:
    """One device, from the time it is taken; `retired` says why it is used no more.

    threads, gpu : see `worker.connect`. job_s : seconds that a job may take.
    """

    def __init__(self, place: Place, threads: int, job_s: float = JOB_S, gpu: str | None = None) -> None:
        """Raises DeviceError where it cannot be reached."""
        self.retired = ""
        self._place, self._threads, self._job_s, self._gpu = place, threads, job_s, gpu
        self._worker, self._checked = PopenWorker(), False
        self.name, self.unit = self._connect()

    def measure(self, job: Job, probe: Job) -> Sequence[Sequence[float]]:
        """Costs of each function, timing by timing, in the device's `unit`.

        Whatever goes wrong: a device that then gives a right result for the probe, a job that always does, is in order.
        It is asked in a new process and session, since the old ones may have lost their GPU with a fault.

        Raises CandidateError where it is, DeviceError where it is not; it is retired then.
        """
        if not self._checked:
            self.check(probe)
            self._checked = True
        try:
            return self._call(worker.measure, job, self._job_s)
        except Exception as error:
            failure = told(error)
        self.check(probe, after=failure)
        raise CandidateError(failure)

    def check(self, probe: Job, after: str = "") -> None:
        """Retire the device, and raise DeviceError, unless it gives a right result for a probe."""
        try:
            if after:
                self._reconnect()
            self._call(worker.measure, replace(probe, repeats=0), self._job_s)
        except Exception as error:
            self.retired = after or told(error)
            if not isinstance(error, worker.WrongResult):
                self.close()  # one that lies is kept, or its tracker would lend it again
            raise DeviceError(f"{self.name} is used no more: {self.retired}") from None

    def close(self) -> None:
        """Give the device back."""
        self._worker.kill()

    def _connect(self) -> tuple[str, str]:
        try:
            name, unit = self._call(worker.connect, self._place, CONNECT_S, self._threads, self._gpu)
            return str(name), str(unit)
        except Exception as error:
            self.close()
            raise DeviceError(told(error)) from None

    def _reconnect(self) -> None:
        self._worker.kill()
        name, _ = self._connect()
        if name != self.name:
            raise DeviceError(f"lost; {name} answers in its place")

    def _call(self, function: Callable[..., Any], argument: Any, seconds: float, *more: Any) -> Any:
        """Call a function in the device's process; raises what it raises, TimeoutError, or ChildProcessError."""
        with kept_here():
            self._worker.send(function, (argument, *more), timeout=seconds)
        # the process limits itself as long as Python's code is run in it
        watchdog = threading.Timer(seconds + _GRACE_S, self._worker._proc.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            return self._worker.recv()
        finally:
            watchdog.cancel()


class Pool:
    """All devices of a tuner.

    threads, gpu, job_s : see `Device`. report : told of each device that comes or goes, in a line.
    """

    def __init__(
        self,
        place: Place,
        threads: int,
        report: Callable[[str], None],
        job_s: float = JOB_S,
        gpu: str | None = None,
    ) -> None:
        """Take the devices that are there; raises DeviceError where there is none."""
        self._place, self._threads, self._report, self._job_s, self._gpu = place, threads, report, job_s, gpu
        self.devices: list[Device] = []
        if place.tracker is None:
            self._take()
        else:
            self._grow()
        if place.tracker is not None and not self.devices:
            with Tracker(place.tracker) as tracker:
                tracker.lend(place.key, CONNECT_S)  # says what is there instead
            raise DeviceError(f"no device {place.key!r} of the tracker at {place.tracker} can be reached")

    @property
    def working(self) -> list[Device]:
        """Those that are used."""
        return [device for device in self.devices if not device.retired]

    @property
    def unit(self) -> str:
        """What costs are in: the first device decides."""
        return self.devices[0].unit

    def measure(self, jobs: Sequence[Job], probe: Job) -> Iterator[tuple[int, Outcome]]:
        """What becomes of each job, by its place in the list, as soon as it is known; devices work at the same time.

        A job whose device is retired is done by another; one that cost two devices has failed.

        Raises DeviceError where no device is left.
        """
        self._grow()
        waiting, lost = deque(range(len(jobs))), Counter[int]()
        idle, busy = self.working, dict[Future, tuple[int, Device]]()
        with ThreadPoolExecutor(max(len(idle), 1)) as threads:
            while waiting or busy:
                while waiting and idle:
                    index, device = waiting.popleft(), idle.pop()
                    busy[threads.submit(device.measure, jobs[index], probe)] = index, device
                if not busy:
                    gone = "; ".join(f"{device.name}: {device.retired}" for device in self.devices)
                    raise DeviceError(f"no device is left ({gone}); what was measured is in the log")
                for ended in wait(busy, return_when=FIRST_COMPLETED).done:
                    index, device = busy.pop(ended)
                    outcome = self._outcome(ended, device)
                    if outcome is not None:
                        idle.append(device)
                    elif (lost := lost + Counter([index]))[index] < _LIVES:
                        waiting.append(index)
                        continue
                    yield index, outcome or Outcome((), f"lost with {_LIVES} devices", device.name, device.unit)

    def close(self) -> None:
        """Give all devices back."""
        for device in self.devices:
            device.close()

    def _outcome(self, ended: Future, device: Device) -> Outcome | None:
        """What a device made of a job; None where the device is retired."""
        try:
            return Outcome(ended.result(), "", device.name, device.unit)
        except CandidateError as error:
            return Outcome((), str(error), device.name, device.unit)
        except DeviceError as error:
            self._report(str(error))
            return None

    def _grow(self) -> None:
        """Take all devices that the tracker has free: at the start, and those that come, or come back, later."""
        if self._place.tracker is None:
            return
        try:
            with Tracker(self._place.tracker) as tracker:
                free = tracker.free().get(self._place.key, 0)
            for _ in range(free):
                self._take()
        except DeviceError as error:
            if not self.working:
                raise
            self._report(str(error))

    def _take(self) -> None:
        device = Device(self._place, self._threads, self._job_s, self._gpu)
        self.devices.append(device)
        if Counter(each.name for each in self.devices)[device.name] > _RETURNS:
            device.retired = f"it was lost {_RETURNS} times"
        elif device.unit != self.unit:
            device.retired = f"it tells {device.unit}, and {self.devices[0].name} {self.unit}"
            self._report(f"{device.name} is used no more: {device.retired}")
        else:
            self._report(f"{device.name} measures")


def told(error: BaseException) -> str:
    """An error of another process in a few words: its last line, which has the message."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, ChildProcessError):
        return "its process ended"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
