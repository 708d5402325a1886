"""Generated samples of a task, written in the layout of its data set; or a look at whether a data set is complete.

python -m tvm_bnn.examples.data TASK -o DIR --count N
python -m tvm_bnn.examples.data TASK --data-root ROOT
"""

from pathlib import Path

from tvm_bnn.console import ArgumentParser, Progress, main_guard, positive
from tvm_bnn.interrupt import held_back


@main_guard
def main(arguments: list[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.examples.data",
        description="Write generated samples (street scenes, roads, salient objects) in the layout of a data set. They "
        "are drawn, not photographed, and are labelled as synthetic. Or see whether a data set is there and complete.",
    )
    parser.add_argument("task", metavar="TASK", help="cityscapes, kitti-road or ecssd")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-o", "--output", type=Path, metavar="DIR", help="a new folder to write generated samples to")
    what.add_argument("--data-root", type=Path, metavar="ROOT", help="where the data set is, or a folder above it")
    parser.add_argument("--count", type=positive, default=8, metavar="N", help="samples of each folder; default 8")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--size", type=positive, nargs=2, metavar=("H", "W"), help="in pixels; default the task's own")
    given = parser.parse_args(arguments)
    with held_back():
        from tvm_bnn.examples.data.layout import find
        from tvm_bnn.examples.data.tasks import task_named
        from tvm_bnn.examples.data.writer import write_data

    task = task_named(given.task)
    if given.data_root is not None:
        for split in task.layout.splits:
            found = find(task.layout, given.data_root, split)
            print(f"{found.name}, split {split}: {len(found.keys)} samples")
        return 0
    size = tuple(given.size) if given.size else None
    with Progress() as progress, progress.phase("draw") as detail:
        counts = write_data(task, given.output, given.count, given.seed, size, detail)
    for folder, count in counts.items():
        print(f"{given.output / folder}: {count} synthetic samples")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
