"""The table of idioms and outcomes in docs/idioms.md, written from what the compiler does with them.

python -m tests.idioms.table            # write it
python -m tests.idioms.table --check    # or only compare; 1 where it differs
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.idioms.families import FAMILIES
from tests.idioms.idiom import Idiom
from tests.idioms.zoo import Outcome, of_family

PATH = Path(__file__).resolve().parents[2] / "docs" / "idioms.md"

_HEAD = """# Ways of writing binary, and what becomes of them

Every row is a small PyTorch module in `tests/idioms`, compiled by `make test`. `python -m tests.idioms.table` writes
this file from the outcomes, and a test compares it.

*Outcome* is the decision of the layers under test. *Values* says how the result was compared:

* `same`: PyTorch, the imported graph evaluated operator by operator, the optimized graph and the compiled artifact
  agree in every element. The numbers are short binary fractions, so that no order of summation matters.
* `checks`: the checks (a) and (b) of `tvm_bnn/checks.py`. The artifact equals the reference evaluator bit for bit, and
  every value follows from PyTorch's own within 1e-5.

*Said* is what the compiler tells: that it used the convention for sign(0), that it keeps zeros as a third level, or why
a layer stays float and what to change.
"""

_ABOUT = {
    "activations": "`x` is a real tensor. Unless a row names the convention, 0 goes where PyTorch sends it.",
    "weights": "`w` is the latent real weight of a trained layer.",
    "scales": "Around a convolution of {-1, +1} by {-1, +1}.",
    "padding": "Between the activation and the convolution.",
    "order": "Two binary layers with these operators between them, unless the row says otherwise.",
    "geometry": "Of the convolution.",
    "passing": "Between the sign and the convolution.",
    "products": "Linear layers, and products of two activations.",
    "zeros": "`torch.sign` where its input may be exactly 0.",
    "near misses": "These stay float.",
}


def text() -> str:
    """The whole file."""
    lines = [_HEAD]
    for family, idioms in FAMILIES.items():
        outcomes = of_family(family)
        lines += [f"## {family.capitalize()}", "", _ABOUT[family], "", "| idiom | outcome | values | said |"]
        lines += ["|---|---|---|---|", *(_row(name, idioms[name], outcomes[name]) for name in idioms), ""]
    lines.append(_tail())
    return "\n".join(lines)


def _row(name: str, idiom: Idiom, outcome: Outcome | Exception) -> str:
    if isinstance(outcome, Exception):
        raise outcome
    decisions = " and ".join(dict.fromkeys(layer.decision for layer in outcome.layers))
    values = "same" if idiom.exact else "checks"
    cells = (f"`{name}`", decisions, values, "; ".join(_said(outcome)))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _said(outcome: Outcome) -> Iterator[str]:
    if outcome.guessed:
        yield "sign(0) by `--sign-zero`"
    if outcome.kept:
        yield "zeros kept"
    if outcome.weights:
        yield "zeros in the weights kept"
    for layer in outcome.layers:
        if layer.decision == "float":
            yield outcome.spoken(f"{layer.reason}: {layer.advice}" if layer.advice else layer.reason)
            break


def _tail() -> str:
    rows = [outcome for family in FAMILIES for outcome in of_family(family).values() if isinstance(outcome, Outcome)]
    binary = sum(all(layer.decision == "binary" for layer in row.layers) for row in rows)
    return f"{len(rows)} idioms: {binary} binary, {len(rows) - binary} float.\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.idioms.table", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    options = parser.parse_args()
    made = text()
    if options.check:
        differs = not PATH.exists() or PATH.read_text(encoding="utf-8") != made
        print(f"{PATH.name} {'differs: run python -m tests.idioms.table' if differs else 'is up to date'}")
        return int(differs)
    PATH.write_text(made, encoding="utf-8")
    print(f"written to {PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
