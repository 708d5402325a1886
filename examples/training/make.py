"""A plan, carried out: trained, rounded to what is stored, measured, written."""

from pathlib import Path

from tvm_bnn.examples.data.metrics import metric_of
from tvm_bnn.examples.training.evaluate import measure
from tvm_bnn.examples.training.plan import Plan
from tvm_bnn.examples.training.run import Run, Watcher, train
from tvm_bnn.examples.training.splits import Splits
from tvm_bnn.examples.training.trained import Trained, load_trained, notes_of


def make(
    plan: Plan, splits: Splits, out: Path, watch: Watcher, device: str = "cpu", workers: int = 0
) -> tuple[Run, Trained]:
    """Train on one split, measure what is stored on the other, and write it to `out`, with its figures."""
    task = splits.train.task
    metric_of(task)  # where its package is missing, say so now and not after the training
    run = train(plan, splits.train, out, device, watch=watch, workers=workers)
    # two classes are judged by a probability, so they need their logits
    network = run.network(argmax=len(task.palette) > 2)
    figures = measure(network, network.preprocessing, splits.val)
    run.write(out, network, notes_of(task, splits.train.name, len(splits.train), figures))
    return run, load_trained(out)
