"""A float convolution whose large map a max-pooling takes in: against the reference."""

from tvm import relax
from tvm.relax.op.nn import conv2d, max_pool2d, relu

TARGETS = ["avx512", "avx2", "generic with fma"]
CASES = {}
FILLINGS = [("normal", "normal"), ("ties", "ties"), ("high", "low")]  # the reference takes its time


def stem(size, filters=64, kernel=3, stride=2, pool=(3, 2, 1), out="both", batch=1):
    """A case: convolution, scale, relu, max-pooling (window, stride, padding), with one or both outputs."""

    def build(case):
        data = case.argument(batch, 3, *size)
        weight = case.constant(filters, 3, kernel, kernel)
        value = case.emit(conv2d(data, weight, strides=(stride, stride), padding=(kernel // 2,) * 2))
        value = case.emit(relu(case.scaled(value)))
        window, step, padding = pool
        pooled = case.emit(max_pool2d(value, (window,) * 2, strides=(step,) * 2, padding=(padding,) * 2))
        shifted = case.scaled(pooled)
        bits = case.positive(shifted)
        return {"float": shifted, "bits": bits, "both": relax.Tuple([shifted, bits])}[out]

    return build


for size in [(128, 128), (130, 126), (100, 250), (128, 131)]:
    CASES[f"{size[0]}x{size[1]}"] = stem(size)
CASES["7x7"] = stem((128, 128), kernel=7)
CASES["5x5, stride 1"] = stem((64, 72), kernel=5, stride=1)
for out in ("float", "bits"):
    CASES[f"40 filters, {out}"] = stem((160, 160), filters=40, out=out)
CASES["2x2 pooling"] = stem((128, 144), pool=(2, 2, 0))
CASES["pooling of stride 1"] = stem((128, 128), pool=(3, 1, 1))
CASES["pooling of stride 3"] = stem((128, 128), pool=(2, 3, 1))
CASES["batch 2"] = stem((96, 96), batch=2)


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


def test_one_kernel_makes_and_pools_the_map(build_cases, scheduled, target_of):
    module, _, _ = build_cases(CASES, ["128x128"], list(CASES))
    lowered, _ = scheduled(module, target_of("avx2"))
    assert "conv_pool" in lowered.family_of.values() and "reduce" not in lowered.family_of.values()
