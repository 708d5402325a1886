"""Families of reasons for which a layer stays float, by a word of each; every one has to occur."""

REASONS = {
    "weights depend on the input": "weights depend on the input",
    "too many weight levels": "more than two weight levels",
    "a real operand": "the input of the model is real-valued",
    "an average": "it is an average",
    "an interpolation": "it is interpolated",
    "a sum with a real tensor": "combines a binary tensor with a real-valued one",
    "a scale of the data per channel": "scales each input channel by a value that depends on the data",
    "different steps": "different distances between their levels",
    "uneven levels": "are not evenly spaced",
    "too many levels": "levels; up to",
}
#: Reasons that may occur, and are too rare to be asked for.
RARE = (
    "combines two real-valued tensors", "real-valued result", "pads channels with different levels",
    "pools channels with different levels",
    "that was scaled by data", "scaled by data along the sum", "joins tensors with different numbers of levels",
    "joins binary tensors that were scaled by data", "it is constant", "change over the plane", "change along the sum",
    "which is not one of its levels", "and only those below",
)  # fmt: skip


def family_of(reason: str) -> str | None:
    """The family of a reason, "rare", or None for a reason that nobody has heard of."""
    for family, words in REASONS.items():
        if words in reason:
            return family
    return "rare" if any(words in reason for words in RARE) else None
