"""A report made by hand: two tasks, peers, an emulated machine, what was left out, wide spreads, names to escape."""

from tvm_bnn.report.compare.content import (
    Accuracy,
    BranchCount,
    BranchSweep,
    Buffer,
    Figure,
    Latency,
    LayerCall,
    Limits,
    Machine,
    Measurement,
    MemoryPlan,
    Network,
    Refused,
    Report,
    Sample,
    Task,
)
from tvm_bnn.report.compare.wording import timing_of

HERE, BOARD = "desk <Zen>", "cortex-a72"
STREET, SALIENT = "cityscapes", "ecssd"
#: A network whose name is neither ASCII nor safe in HTML, and a table's end in Markdown.
ODD = "k3 <b>größer</b> & | 3"


def latency(*samples):
    """Of samples in ms, as they are measured."""
    timing = timing_of(samples)
    return Latency(
        samples_ms=list(samples),
        median_ms=1e3 * timing.median,
        p95_ms=sorted(samples)[int(0.95 * (len(samples) - 1))],
        least_ms=min(samples),
        spread=timing.spread,
    )


def around(ms):
    """A latency of five samples that spread by 2 %."""
    return latency(*(ms * each for each in (0.98, 0.99, 1.0, 1.01, 1.02)))


def task(**changes):
    about = {
        "data_set": "synthetic-street",
        "synthetic": True,
        "split": "val",
        "images": 40,
        "size": (128, 256),
        "seed": 7,
        "metric": "mIoU",
        "better": "higher",
        "unit": "%",
        "class_names": ["road", "car"],
        "palette": [(128, 64, 128), (0, 0, 142)],
    }
    return Task(**{**about, **changes})


def salient():
    """Lower is better, and a share of 1."""
    names = {"class_names": ["background", "object"], "palette": [(0, 0, 0), (255, 255, 255)]}
    return task(data_set="drawings", size=(96, 96), images=25, seed=3, metric="MAE", better="lower", unit="", **names)


def network(of, kind, twin=None, **changes):
    binary = kind == "binary"
    about = {
        "task": of,
        "kind": kind,
        "twin": twin,
        "branches": 3 if binary else None,
        "attention": "channel" if binary else None,
        "upsampling": "nearest" if binary else None,
        "file": f"checkpoints/{of}-{kind}.safetensors",
        "sha256": "0f1e2d3c" * 8,
        "training": {"command": "python -m trainer", "seed": "5", "seconds": "83"} if binary else {},
        "parameters": 2_345_678,
        "weight_bytes": 456_789 if binary else 9_382_712,
        "binary_macs": 3_210_000_000 if binary else 0,
        "float_macs": 123_000_000 if binary else 3_333_000_000,
        "operations": 173_156_250.0 if binary else 3_333_000_000.0,
        "reduction": 19.248 if binary else None,
        "binary_share": 0.963 if binary else 0.0,
        "layers_binary": 17 if binary else 0,
        "layers_float": 4 if binary else 21,
        "refused": [Refused(path="stem.conv", op="conv2d", reason="the input is real", advice="keep it")]
        if binary
        else [],
    }
    return Network(**{**about, **changes})


def measurement(net, executor, time=None, value=None, *, of=STREET, machine=HERE, threads=2, group=None, **changes):
    """One that took its turns with the others of its task, machine and threads."""
    accuracy = None
    if value is not None:
        judged = task() if of == STREET else salient()
        accuracy = Accuracy(
            figures={judged.metric: Figure(value=value, better=judged.better, unit=judged.unit)},
            difference={judged.metric: 0.0125},
            agreement=0.99987,
        )
    about = {
        "network": net,
        "executor": executor,
        "machine": machine,
        "threads": threads,
        "group": group or f"{of} {machine} {threads}",
        "left_out": None,
        "measured": "2026-01-02T03:04:05Z",
        "accuracy": accuracy,
        "latency": around(time) if isinstance(time, float) else time,
    }
    return Measurement(**{**about, **changes})


def calls(*, binary=4):
    """Kernel calls of a network, float ones around binary ones."""
    stem = {"binary_macs": 0, "float_macs": 88_000_000, "bytes": 410_000}
    found = [LayerCall(kernel="conv2d", layers=["stem.conv"], ms=0.41, **stem)]
    for number in range(binary):
        path = f"encoder.stages.{number}.0.conv"
        about = {"binary_macs": 700_000_000, "float_macs": 0, "bytes": 65_536 << number % 3}
        found.append(LayerCall(kernel=f"bconv2d{number}", layers=[path], ms=0.17 + 0.05 * number, **about))
    found.append(LayerCall(kernel="argmax", layers=[], ms=0.05, binary_macs=0, float_macs=0, bytes=99_000))
    return found


def plan():
    sizes = [(409_600, 0, 1), (65_536, 1, 2), (262_144, 2, 4), (65_536, 3, 4), (131_072, 4, 5)]
    buffers = [Buffer(bytes=size, first=first, last=last) for size, first, last in sizes]
    names = [each.kernel for each in calls()]
    return MemoryPlan(calls=names, buffers=buffers, planned_bytes=524_288, peak_bytes=475_136)


def machine(**changes):
    limits = Limits(
        binary_macs_per_s=1.23e12,
        fp32_macs_per_s=5.9e10,
        int8_macs_per_s=None,
        int8_tile_macs_per_s=None,
        copy_bytes_per_s={"1": 8.1e10, "64": 2.2e10},
    )
    about = {
        "cpu": "A Processor 9000",
        "cpus": 4,
        "memory_gb": 15.6,
        "system": "Linux-6.1",
        "target": "x86-64-v4",
        "device": None,
        "emulated": False,
        "virtual": True,
        "clock": {"governor": "performance", "load": "0.12"},
        "limits": {"1": limits, "2": limits},
        "versions": {"tvm_bnn": "0.1.0", "onnxruntime": "1.31.1"},
    }
    return Machine(**{**about, **changes})


def sweep():
    counts = []
    for branches, ms in ((1, 2.0), (2, 2.6), (4, 4.0)):
        about = {"moved_bytes": 1_000_000 + 50_000 * branches, "binary_macs": branches * 10**9, "float_macs": 10**8}
        multiple = branches * 2.0 / ms
        counts.append(
            BranchCount(branches=branches, latency=around(ms), limit_ms=ms / 2, multiple=multiple, **about)
        )
    return BranchSweep(network="bench", machine=HERE, threads=2, size=(64, 128), counts=counts)


def ablation():
    runs = []
    names = {"k3-channel-nearest": (3, "channel", 81.0), "k1-channel-nearest": (1, "channel", 79.5)}
    for name, (branches, attention, value) in names.items():
        for seed in (0, 1, 2):
            runs.append(
                {
                    "name": name,
                    "branches": branches,
                    "attention": attention,
                    "upsampling": "nearest",
                    "seed": seed,
                    "figures": {"MaxF": {"value": value + 0.25 * seed, "better": "higher", "unit": "%"}},
                    "seconds": 61.5,
                    "losses": [[step, 0.7 / (1 + step / 30)] for step in range(0, 200, 10)],
                    "diagnostics": {"uniform_masks": 0.125},
                }
            )
    about = {"task": "kitti-road", "data_set": "synthetic-road", "synthetic": True, "size": [128, 256], "unit": "%"}
    comparison = {"factor": "branches", "from": 1, "to": 3, "difference": 1.5, "seed_spread": 0.25}
    none = {"factor": "branches", "from": 3, "to": 5, "difference": -0.125, "seed_spread": 0.25}
    return {
        **about,
        "metric": "MaxF",
        "better": "higher",
        "seeds": [0, 1, 2],
        "command": "python -m tvm_bnn.examples.training.ablation OUT",
        "threads": 1,
        "centre": "k3-channel-nearest",
        "runs": runs,
        "comparisons": [{**comparison, "distinguishable": True}, {**none, "distinguishable": False}],
        "findings": [
            {"question": "Does more K help?", "answer": "From 1 to 3 by 1.5 points.", "numbers": {"gain": 1.5}}
        ],
        "other_tasks": [],
    }


def empty():
    return Report(
        title="A comparison",
        made="2026-01-02T03:04:05Z",
        commands=[],
        notes=[],
        machines={},
        tasks={},
        networks={},
        measurements=[],
        samples=[],
        sweeps=[],
        ablations=[],
        verdicts=[],
    )


def small(*measurements, twin="float"):
    """One task with a float network and `k3`, and these measurements."""
    networks = {"float": network(STREET, "float"), "k3": network(STREET, "binary", twin)}
    about = {"tasks": {STREET: task()}, "networks": networks, "machines": {HERE: machine()}}
    return empty().model_copy(update={**about, "measurements": list(measurements)})


def whole():
    """Everything at once."""
    board = machine(cpu="Cortex-A72", target="cortex-a72", emulated=True, virtual=None, limits={}, clock={})
    detailed = {
        "throughput_per_s": 430.5,
        "memory_mb": 31.25,
        "artifact_bytes": 1_234_567,
        "compile_s": 11.5,
        "limit_ms": 1.17,
        "limit_fraction": 0.504,
        "bound": "bandwidth",
        "energy_mj": 88.5,
        "tuned_layers": 3,
        "layers": calls(),
        "memory_plan": plan(),
    }
    wide = latency(10.0, 20.0, 30.0, 40.0, 50.0)
    made = [
        measurement("float", "pytorch-eager", 40.0, 84.9),
        measurement("float", "onnxruntime-fp32", 17.0, 84.9),
        measurement("float", "onnxruntime-int8", 7.1, 83.7),
        measurement("float", "openvino-fp32", wide, 84.9),
        measurement("float", "tvm_bnn", 15.5, 84.9),
        measurement("k1", "tvm_bnn", 1.61, 81.2, **{**detailed, "layers": calls(binary=2)}),
        measurement("k1", "pytorch-eager", 55.0, 81.2),
        measurement(ODD, "tvm_bnn", 2.32, 83.1, **detailed),
        measurement(ODD, "tvm_bnn-tuned", 2.31, 83.1),
        measurement(ODD, "pytorch-eager", 90.0, 83.1),
        measurement("float", "tvm-stock", left_out="it takes 33 s", measured=None),
        measurement("float", "onnxruntime-fp32", 30.0, 84.9, threads=1),
        measurement(ODD, "tvm_bnn", 4.4, 83.1, threads=1),
        # merged in from another run: no ratio between it and the others
        measurement(ODD, "tvm_bnn", 2.1, 83.1, group="another run"),
        measurement("shape", "onnxruntime-fp32", 6.0, 0.031, of=SALIENT),
        measurement("shape-k3", "tvm_bnn", 8.0, 0.0435, of=SALIENT),
        measurement("float", "tvm_bnn", machine=BOARD, threads=1, instructions=456_000_000, energy_mj=None),
        measurement(ODD, "tvm_bnn", machine=BOARD, threads=1, instructions=91_200_000),
    ]
    return Report(
        title="Binary & float <networks>",
        made="2026-01-02T03:04:05Z",
        commands=["python -m tvm_bnn.report compare --config 'a & b.toml' -o out"],
        notes=["openvino-int8 left out: not installed", "no energy counter on cortex-a72"],
        machines={HERE: machine(), BOARD: board},
        tasks={STREET: task(), SALIENT: salient()},
        networks={
            "float": network(STREET, "float"),
            "k1": network(STREET, "binary", "float", branches=1),
            ODD: network(STREET, "binary", "float"),
            "shape": network(SALIENT, "float"),
            "shape-k3": network(SALIENT, "binary", "shape", refused=[]),
        },
        measurements=made,
        samples=[
            Sample(
                task=STREET,
                name="scene 3",
                image="samples/3-image.png",
                truth="samples/3-truth.png",
                predictions={"float": "samples/3-float.png", ODD: "samples/3-k3.png"},
                difference="samples/3-difference.png",
                differing=0.0342,
            )
        ],
        sweeps=[sweep()],
        ablations=[ablation()],
        verdicts=[],
    )
