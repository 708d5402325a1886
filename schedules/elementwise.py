"""Kernels without an anchor: chains of elementwise operators, layout copies and packing."""

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from tvm_bnn.schedules.stages import Stages, extent, inner_loops, pack_tail, vectorize_channels


def apply(sch: Schedule, target) -> str:
    """Rows in parallel, channels in vectors, bits packed where they are made; returns the name of the rule."""
    stages = Stages.of(sch)
    place_readers(sch, stages.values, None, target, _read_once(sch, stages.starting("cond_"), target))
    for name in stages.starting("word_"):
        _pack_pixels(sch, name.removeprefix("word_"), target)
    return f"elementwise-{target.isa}"


def _read_once(sch: Schedule, names: list[str], target) -> dict[str, LoopRV | None]:
    """Load a map that several predicates read element for element into registers; returns its stage's name and loop."""
    if len(names) < 2:
        return {}
    blocks = [sch.get_sblock(name) for name in names]
    sources = [read.source for read in sch.get(blocks[0]).reads]
    shared = [i for i, source in enumerate(sources) if all(_reads_alike(sch, block, source) for block in blocks)]
    if not shared or any(sch.get_producers(block) for block in blocks):
        return {}
    loaded = sch.cache_read(blocks[0], shared[0], "local", blocks)
    return {sch.get(loaded).name_hint: _own_loops(sch, loaded, target)}


def _reads_alike(sch: Schedule, block: SBlockRV, source: tirx.Buffer) -> bool:
    """Whether a stage reads of a map what lies at the place that it computes."""
    places = sch.get(block).iter_vars
    if len(source.shape) != len(places):
        return False
    for read in sch.get(block).reads:
        if read.source.same_as(source):
            pairs = zip(read.region, places, source.shape, strict=True)
            return all(part.min.same_as(place.var) or int(extent) == 1 for part, place, extent in pairs)
    return False


def _pack_pixels(sch: Schedule, number: str, target) -> None:
    """Pack bits whose channels lie apart: for each row and channel, one bit of a vector of pixels after the other.

    A row of words stays in the first-level cache, and each channel's row is read as a whole.
    """
    test, word, bits = (sch.get_sblock(f"{stage}_{number}") for stage in ("test", "word", "bits"))
    rows = sch.fuse(*sch.get_loops(bits)[:2])
    sch.parallel(rows)
    sch.compute_at(word, rows, preserve_unit_loops=True)
    *_, position, x, bit = inner_loops(sch, word, rows)
    pixels = vectorize_channels(sch, x, target.lanes32)
    sch.reorder(position, bit, *pixels)
    sch.compute_at(test, pixels[0], preserve_unit_loops=True)
    if len(pixels) > 1:
        sch.vectorize(inner_loops(sch, test, pixels[0])[-1])
    sch.set_scope(test, 0, "local")
    sch.decompose_reduction(word, bit)


def parallel_rows(sch: Schedule, loops: list[LoopRV]) -> LoopRV | None:
    """Share rows among the threads: all but the last loop, fused. Returns the last loop, None if there is none."""
    if not loops:
        return None
    if len(loops) == 1:
        if extent(sch, loops[0]) > 1:
            sch.parallel(loops[0])
        return loops[0]
    rows = sch.fuse(*loops[:-1]) if len(loops) > 2 else loops[0]
    if extent(sch, rows) > 1:
        sch.parallel(rows)
    return loops[-1]


def place_readers(
    sch: Schedule, names: list[str], at: LoopRV | None, target, placed: dict[str, LoopRV] | None = None
) -> None:
    """Schedule the values of a kernel, and the bits behind them.

    A value that reads stages which are already scheduled under one loop (``at``, or where an earlier value went) goes
    there; any other value gets loops of its own. placed : values that have their place, and the loop of each.
    """
    homes: dict[str, LoopRV | None] = dict(placed or {})
    packed = {name: loop for name, loop in (placed or {}).items() if name.startswith("cond_")}
    for name in names:
        if name in homes:
            continue
        value = sch.get_sblock(name)
        sources = [sch.get(block).name_hint for block in sch.get_producers(value)]
        reached = [homes.get(source, at) for source in sources]
        home = reached[0] if reached and all(loop is reached[0] for loop in reached) else None
        if home is not None and _placed_under(sch, value, home):
            loops = inner_loops(sch, value, home)
            if name.startswith("sums_"):  # pixels are added one by one, channels side by side
                *_, channels, pixels = loops
                sch.reorder(pixels, channels)
                loops = [channels]
            _vectors(sch, loops[-1], target)
        else:
            home = _own_loops(sch, value, target)
        homes[name] = home
        if name.startswith("cond_") and home is not None:
            packed[name] = home
    pack_tail(sch, packed)


def _own_loops(sch: Schedule, value: SBlockRV, target) -> LoopRV | None:
    """Rows in parallel and channels in vectors for a value by itself; a single number has no loops."""
    if not sch.get_loops(value):
        return None
    if _turns_channels(sch, value):
        return _transposed_loops(sch, value, target)
    *outer, channels = sch.get_loops(value)
    _vectors(sch, channels, target)
    return parallel_rows(sch, outer)


def _turns_channels(sch: Schedule, value: SBlockRV) -> bool:
    """Whether neighbours in memory of all maps that a value reads are its second of four axes.

    Not so for predicates that are packed: all channels of a word are needed together.
    """
    block = sch.get(value)
    if len(block.iter_vars) != 4 or block.name_hint.startswith("cond_"):
        return False
    c = block.iter_vars[1].var
    maps = [read.region[-1].min for read in block.reads if len(read.region) == 4]
    return bool(maps) and all(isinstance(last, tirx.Var) and last.same_as(c) for last in maps)


def _transposed_loops(sch: Schedule, value: SBlockRV, target) -> LoopRV:
    """Rows in parallel; within one, all channels of a few pixels, whose lines stay in the first-level cache."""
    n, c, y, x = sch.get_loops(value)
    width = extent(sch, x)
    pixels = max(p for p in range(1, min(width, target.lanes32) + 1) if width % p == 0)
    xo, xi = sch.split(x, [None, pixels])
    sch.reorder(n, y, xo, c, xi)
    if pixels == target.lanes32:
        sch.vectorize(xi)
    rows = sch.fuse(n, y)
    sch.parallel(rows)
    return c


def _placed_under(sch: Schedule, value: SBlockRV, loop: LoopRV) -> bool:
    """Move a value under a loop of what it reads; False where it does not read element for element."""
    try:
        sch.reverse_compute_at(value, loop, preserve_unit_loops=True)
    except (ScheduleError, ValueError):  # clamped or permuted reads
        return False
    return True


def _vectors(sch: Schedule, channels: LoopRV, target) -> None:
    loops = vectorize_channels(sch, channels, target.lanes32)
    if len(loops) == 2 and extent(sch, loops[0]) <= 16:
        sch.unroll(loops[0])
