"""The probes are exact, and each deliberate fault is seen by its probe, in the way that the table in docs says."""

from pathlib import Path

import pytest

from tests.mutations.faults import FAULTS
from tests.mutations.probes import PROBES, built, verdict

DOCS = Path(__file__).resolve().parents[2] / "docs" / "trust.md"


@pytest.mark.parametrize("probe", PROBES)
def test_the_probes_are_exact(probe):
    assert verdict(built(probe), compiled=True) == ""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fault_is_seen(fault):
    probe = built(fault.probe)
    with fault.applied():
        seen = verdict(probe, fault.compiled)
    assert seen == ("the compiled kernels differ" if fault.compiled else "the optimized graph differs")


def test_the_faults_are_listed():
    listed = [line.split("|")[1].strip() for line in DOCS.read_text(encoding="utf-8").splitlines() if "|" in line]
    assert set(listed) >= {fault.name for fault in FAULTS}
    assert len(FAULTS) >= 10
