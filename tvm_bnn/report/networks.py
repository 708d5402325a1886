"""The suite `networks`: whole compiled networks against their float twins in every peer, and against the limit.

All competitors of a row run in this process, in turns, with the same number of threads, from an input in memory to a
class map (of a classifier: logits) in memory.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tvm_bnn.compiler import compile_source
from tvm_bnn.console import Progress
from tvm_bnn.examples import bimtdp, groupnet, reactnet, restoration, unet
from tvm_bnn.examples import ding2024 as ding
from tvm_bnn.frontend.source import load_source
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.report import memory
from tvm_bnn.report.layer_times import LayerTime
from tvm_bnn.report.limit import work_of
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.peers import PEERS, FloatNetwork, Peer, Run, Telling, first_of, prepared
from tvm_bnn.report.rows import OURS, OURS_ALONE, Compared, compared
from tvm_bnn.report.site import HERE, Site
from tvm_bnn.report.timing import interleave
from tvm_bnn.targets import Target

SUITE = "networks"
ROUNDS = 11


@dataclass(frozen=True)
class Network:
    """One network to measure.

    make : () -> (binary network, float twin, inputs of both), seeded, in eval mode.
    """

    name: str
    make: Callable[[], tuple[nn.Module, nn.Module, tuple[Tensor, ...]]]


class Row(Compared):
    """One measured row.

    target : what ours is compiled for.
    agreement : name -> share of pixels (of a classifier: of images) with the same class as in PyTorch, in the first
        output: of ours with the binary network, of a peer with the float twin. Channels of an image count as classes.
    pytorch_agreement : the same share of PyTorch with itself, oneDNN off, on the binary network. With random weights
        one flipped bit spreads far, and this is what can be expected of ours.
    layers : each kernel of ours in the order of the calls; see `tvm_bnn.report.layer_times`.
    left_out : peer -> why it could not run this network.
    ran_on : peer -> its own names for the kernels that computed the convolutions, of peers that tell.
    memory_mb : name -> peak memory of an inference, growth_mb : how far 20 more raise it; see `tvm_bnn.report.memory`.
        Not of ours on a device.
    compile_s : seconds that ours took to compile, untuned.
    artifact_bytes : size of its file; weight_bytes : of its parameters, a bit for each binary weight and 4 bytes for
        any other.
    """

    suite: str
    name: str
    target: str
    agreement: dict[str, float]
    pytorch_agreement: float
    layers: list[LayerTime]
    left_out: dict[str, str]
    ran_on: dict[str, str]
    memory_mb: dict[str, float]
    growth_mb: dict[str, float]
    compile_s: float
    artifact_bytes: int
    weight_bytes: int


def example(
    name: str,
    package: Any,
    make: Callable[[], nn.Module],
    size: tuple[int, int],
    twin: Callable[[nn.Module], nn.Module] | None = None,
) -> Network:
    """A network of a package of `tvm_bnn.examples` at an input size (H, W).

    make : its factory. twin : network -> float twin, by default that of the package.
    """

    def made() -> tuple[nn.Module, nn.Module, tuple[Tensor, ...]]:
        network = make()
        return network, twin(network) if twin else package.float_twin(), package.example_inputs(network, size)

    return Network(f"{name}-{size[0]}x{size[1]}", made)


def ding2024(stem: str, size: tuple[int, int], branches: int = 1, **kinds: Any) -> Network:
    """`bench` with K branches at an input size (H, W); its twin has one.

    kinds : of upsampling and attention, and other fields of the configuration, where they are not those of `bench`.
    """
    config = dataclasses.replace(ding.BENCH, stem=stem, branches=branches, **kinds)
    name = "-".join(["bench", *([f"k{branches}"] if branches > 1 else []), stem, *map(str, kinds.values())])
    return example(name, ding, partial(ding.build, config), size, _twin_of(ding))


def _twin_of(package: Any) -> Callable[[nn.Module], nn.Module]:
    """The float twin of a network whose package has one for each configuration."""
    return lambda network: package.float_twin(network.config)


#: What `bench` with K=3 can have instead of nearest upsampling, and of attention to channels.
KINDS: tuple[dict[str, str], ...] = (
    {"upsampling": "bilinear"},
    {"upsampling": "transposed"},
    {"upsampling": "pixel_shuffle"},
    {"attention": "none"},
    {"attention": "spatial"},
    {"attention": "token"},
)

NETWORKS: tuple[Network, ...] = (
    ding2024("3x3", (512, 1024)),
    ding2024("3x3", (256, 512)),
    ding2024("7x7", (512, 1024)),
    ding2024("7x7", (256, 512)),
    ding2024("3x3", (512, 1024), branches=3),
    ding2024("3x3", (256, 512), branches=3),
    *(ding2024("3x3", (256, 512), branches=3, **kinds) for kinds in KINDS),
    example("reactnet18", reactnet, reactnet.reactnet18, (224, 224)),
    example("groupnet18-k5", groupnet, groupnet.groupnet, (224, 224), _twin_of(groupnet)),
    example("groupnet18-k5-deeplab", groupnet, groupnet.groupnet_segmentation, (256, 512), _twin_of(groupnet)),
    example("unet", unet, unet.unet, (256, 512)),
    example("bimtdp", bimtdp, bimtdp.bimtdp, (256, 512)),
    example("restoration-x2", restoration, restoration.restoration, (128, 256)),
)


ROWS: Sequence[Network] = NETWORKS


def present(peers: Iterable[Peer] = PEERS) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can take part, and why the others cannot, by name."""
    reasons = {peer: peer.missing() for peer in peers}
    return (
        [peer for peer, reason in reasons.items() if reason is None],
        {peer.name: reason for peer, reason in reasons.items() if reason is not None},
    )


def measure(
    networks: Sequence[Network],
    limits: Mapping[int, Limits],
    peers: Sequence[Peer],
    rounds: int = ROUNDS,
    progress: Progress | None = None,
    *targets: Callable[[int], Target],
    site: Site = HERE,
) -> list[Row]:
    """One row per network, number of threads and target; rows that differ in the target alone were timed in turns.

    limits : number of threads -> what the machine can do with them.
    peers : those of `present`.
    targets : number of threads -> what ours is compiled for; each of them the machine can run. By default its own.
    site : the machine.
    """
    targets = targets or (site.target,)
    progress = progress or Progress(quiet=True)
    rows: list[Row] = []
    for network in networks:
        with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder, torch.no_grad():
            model, twin, inputs = network.make()
            expected_of_peers = first_of(twin(*inputs)).numpy()
            expected = first_of(model(*inputs)).numpy()
            itself = _same(without_onednn(model, inputs), expected)
            shared = FloatNetwork(twin, inputs, Path(folder))
            compiled: dict[tuple[str, int], _Compiled] = {}
            for threads, limit in limits.items():
                with progress.phase(f"{network.name}, threads: {threads}, prepare"):
                    for chosen in (target(count) for target in targets for count in dict.fromkeys((threads, 1))):
                        if (chosen.name, chosen.threads) not in compiled:
                            compiled[chosen.name, chosen.threads] = _Compiled(model, inputs, chosen, Path(folder), site)
                    names = [target(threads).name for target in targets]
                    ours = {name: compiled[name, threads] for name in names}
                    others, left_out = prepared({p.name: partial(p.prepare, shared, threads) for p in peers})
                with progress.phase(f"{network.name}, threads: {threads}, measure"):
                    agreement = {name: _same(first_of(run()), expected_of_peers) for name, run in others.items()}
                    runs: dict[str, Run] = {_ours(name, threads): each.run for name, each in ours.items()}
                    runs.update(others)
                    if threads > 1:
                        runs.update({_ours(name, 1): compiled[name, 1].run for name in names})
                    timings = interleave({name: getattr(run, "seconds", run) for name, run in runs.items()}, rounds)
                    layers = {n: site.layers(each.made, each.run, shared.arrays(), rounds) for n, each in ours.items()}
                with progress.phase(f"{network.name}, threads: {threads}, memory"):
                    memories = {
                        peer.name: memory.of_peer(peer, shared, threads)
                        for peer in peers
                        if peer.name in others and not peer.compiles
                    }
                for name, each in ours.items():
                    own = {OURS: timings[_ours(name, threads)]}
                    if threads > 1:
                        own[OURS_ALONE] = timings[_ours(name, 1)]
                    own_memory = site.memory(each.path, shared.arrays(), threads)
                    used = {**({OURS: own_memory} if own_memory else {}), **memories}
                    rows.append(
                        {
                            "suite": SUITE,
                            "name": network.name if len(ours) == 1 else f"{network.name} {name}",
                            "target": name,
                            **compared(
                                work_of(each.made.optimized), limit, own | {peer: timings[peer] for peer in others}
                            ),
                            "agreement": {OURS: _same(first_of(each.run()), expected), **agreement},
                            "pytorch_agreement": itself,
                            "layers": layers[name],
                            "left_out": left_out,
                            "ran_on": {n: run.ran_on for n, run in others.items() if isinstance(run, Telling)},
                            "memory_mb": {n: taken.peak / MB for n, taken in used.items()},
                            "growth_mb": {n: taken.growth / MB for n, taken in used.items()},
                            "compile_s": each.seconds,
                            "artifact_bytes": each.path.stat().st_size,
                            "weight_bytes": weight_bytes(model, each.made.decisions),
                        }
                    )
    return rows


def _ours(target: str, threads: int) -> str:
    """Among the competitors."""
    return f"{OURS} {target}, threads: {threads}"


class _Compiled:
    """A network compiled for one number of threads: `made`, in so many `seconds`, in the file `path`."""

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...], target: Target, folder: Path, site: Site) -> None:
        start = time.perf_counter()
        self.made = compile_source(load_source(model, inputs), target)
        self.seconds = time.perf_counter() - start
        self.path = folder / f"network.{target.name}.{target.threads}.bnn"
        self.made.artifact.save(self.path)
        self.run = site.run(self.made, [value.numpy() for value in inputs])


def weight_bytes(model: nn.Module, decisions: Decisions) -> int:
    """Bytes of all parameters, at a bit for each weight of a binary layer."""
    paths = {layer.path for layer in decisions.layers if layer.decision == "binary"}
    weights = (getattr(model.get_submodule(path), "weight", None) for path in paths)
    binary = sum(weight.numel() for weight in weights if isinstance(weight, Tensor))
    return binary // 8 + 4 * (sum(parameter.numel() for parameter in model.parameters()) - binary)


def without_onednn(model: nn.Module, inputs: tuple[Tensor, ...]) -> np.ndarray:
    """The result of PyTorch's own kernels."""
    with warnings.catch_warnings():
        # of settings for graphics cards
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            return first_of(model(*inputs)).numpy()


def _same(found: np.ndarray, expected: np.ndarray) -> float:
    """Share of equal classes; logits have their classes along axis 1."""
    if np.issubdtype(expected.dtype, np.floating):
        found, expected = found.argmax(1), expected.argmax(1)
    return float(np.mean(found == expected))
