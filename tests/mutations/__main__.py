"""Whether deliberate faults are noticed: ``python -m tests.mutations`` prints a table."""

import sys
import time

from tests.mutations.faults import FAULTS
from tests.mutations.probes import built, verdict


def main() -> int:
    """Apply each fault and print who sees it; 1 where nobody does."""
    missed = 0
    print("| fault | in | seen by | as |\n|---|---|---|---|")
    start = time.monotonic()
    for fault in FAULTS:
        probe = built(fault.probe)
        with fault.applied():
            seen = verdict(probe, fault.compiled)
        missed += not seen
        print(f"| {fault.name} | `{fault.place}` | {fault.probe} | {seen or 'NOT SEEN'} |", flush=True)
    print(f"\n{len(FAULTS) - missed} of {len(FAULTS)} faults are seen, in {time.monotonic() - start:.0f} s")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
