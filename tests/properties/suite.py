"""The two tests of a range of graphs; several files share them, so that several processes do."""

from collections.abc import Sequence

from tests.properties.grammar import STEPS
from tests.properties.numbered import Group, groups_of, merged, outcome_of
from tests.properties.reasons import REASONS, family_of
from tests.properties.shrink import report


def check_group(group: Group) -> None:
    """Every graph of a group gives the same bits in its three forms; failures are shrunk and printed."""
    wrong = outcome_of(group).wrong
    reports = [
        report(choices, message, group.targets, group.sign_zero) for choices, message in list(wrong.items())[:2]
    ]
    assert not wrong, f"{len(wrong)} of {len(group.graphs)} graphs fail\n\n" + "\n\n".join(reports)


def check_reach(graphs: range) -> None:
    """Every step of the grammar and every decision occurs in a range of graphs."""
    steps, decisions = merged([outcome_of(group) for group in groups_of(graphs)])
    assert sorted(set(STEPS) - steps) == []
    families = {family_of(reason) if decision == "float" else "binary" for decision, reason in decisions}
    assert None not in families, sorted(r for d, r in decisions if d == "float" and family_of(r) is None)
    assert sorted({"binary", *REASONS} - families, key=str) == []


def names(found: Sequence[str]) -> str:
    """A list for a message."""
    return ", ".join(found) or "none"
