"""`python -m tvm_bnn.package ARTIFACT -o bundle.tar.gz`: all that a board needs to run a compiled network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tvm_bnn import artifact
from tvm_bnn.console import ArgumentParser, Progress, main_guard
from tvm_bnn.errors import OutputError
from tvm_bnn.interrupt import held_back

ENDINGS = (".tar.gz", ".tgz")


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    output = Path(options.output)
    if not output.name.endswith(ENDINGS):
        raise OutputError(f"cannot write {output}: a bundle is a {' or '.join(ENDINGS)}; try -o bundle.tar.gz")
    if not output.parent.is_dir():
        raise OutputError(f"cannot write {output}: there is no folder {output.parent}; make it, or choose another")
    with Progress() as progress:
        with progress.phase("load"), held_back():
            from tvm_bnn import runtime_libraries
            from tvm_bnn.bundle import archive, contents, runner
        with artifact.opened(options.artifact) as content:
            target = content.manifest["target"]["name"]
            arch = contents.check_target(content.manifest)
            with progress.phase("fetch TVM's runtime"):
                runtime_libraries.folder(arch)
            with progress.phase("build the runner"):
                runner.build(arch)
            with progress.phase("pack"):
                bundle = contents.bundle(content, output.name, options.input_example)
                archive.write(output, bundle.root, bundle.members)
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB, for {target}")
    print("copy it to the board, and there unpack it and run it:")
    for line in bundle.commands:
        print(f"    {line}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.package",
        description="Pack a compiled network with TVM's runtime and a runner, for a board that has nothing installed.",
    )
    parser.add_argument("artifact", help="compiled network (.bnn), made by python -m tvm_bnn.compile")
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE.tar.gz", help="file to write")
    parser.add_argument(
        "--input-example",
        nargs="+",
        default=(),
        metavar="FILE",
        help="what the bundle's own example reads: an image, or an .npy file for each input (default: generated)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
