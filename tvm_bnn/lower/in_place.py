"""Memory: a kernel writes its map over one that nobody reads afterwards.

A residual block adds to a map as large as its result. Written over it, the result needs no memory of its own, and a
processor need not fetch from memory what it is about to overwrite: a third of the traffic of such a kernel.

A kernel may do so where one stage alone reads the argument, each element of it at the place of its own result, and the
output is made from that stage, again place by place: an element is then read before it is written, whatever the order
of loops. (A sum over what the stage makes would read other places: on a map of one pixel, what other filters wrote.)
Several stages in the same loops are one, as long as the output comes behind these loops.
"""

import tvm
from tvm import relax, tirx
from tvm.s_tir import Schedule
from tvm_ffi import structural_equal

from tvm_bnn.relay_passes.rewriter import bindings_of, op_name

#: Positions among the parameters of a kernel: an output, and the argument that it is written over.
_Pair = tuple[int, int]
#: Attribute of a kernel that is to be scheduled: its pairs.
IN_PLACE = "tvm_bnn.in_place"
#: Families whose schedules compute no element of a stage twice.
_FAMILIES = frozenset(
    "conv grouped_conv masked_conv matrix_conv matrix_conv_pair matrix_masked_conv elementwise".split()
)


def write_in_place(module: tvm.IRModule, family_of: dict[str, str]) -> tvm.IRModule:
    """Turn calls of kernels into calls in place, where every call of the kernel allows it."""
    bindings = list(bindings_of(module["main"]))
    last_read = _last_reads(module["main"], bindings)
    pairs: dict[str, list[_Pair]] = {}
    for position, binding in enumerate(bindings):
        if op_name(binding.value) != "relax.call_tir":
            continue
        name, arguments = binding.value.args[0].name_hint, list(binding.value.args[1].fields)
        if name not in pairs:
            pairs[name] = _overwritable(module[name], len(arguments)) if family_of[name] in _FAMILIES else []
        pairs[name] = [
            (output, argument)
            for output, argument in pairs[name]
            if isinstance(arguments[argument], relax.Var) and last_read.get(arguments[argument]) == position
        ]
    return _rewritten(module, {name: _disjoint(found) for name, found in pairs.items()})


def _last_reads(function: relax.Function, bindings) -> dict[relax.Var, int]:
    """For each result of a kernel that only kernels read: the position of the last one that does."""
    made: set[relax.Var] = set()
    last: dict[relax.Var, int] = {}
    for position, binding in enumerate(bindings):
        value = binding.value
        if op_name(value) == "relax.call_tir":
            made.add(binding.var)
            last.update((a, position) for a in value.args[1].fields if isinstance(a, relax.Var))
        elif isinstance(value, relax.TupleGetItem) and value.tuple_value in made:
            made.add(binding.var)
        else:
            made -= set(relax.analysis.free_vars(value))
    made -= set(relax.analysis.free_vars(function.body.body))
    return {var: position for var, position in last.items() if var in made}


def _overwritable(func: tirx.PrimFunc, arguments: int) -> list[_Pair]:
    """Outputs, and arguments that they may be written over."""
    sch = Schedule(tvm.IRModule({"main": func}))
    stages = sch.get_child_blocks(sch.get_sblock("root"))
    blocks = [sch.get(stage) for stage in stages]
    pairs: list[_Pair] = []
    for number, argument in enumerate(func.params[:arguments]):
        readers = [(i, read) for i, block in enumerate(blocks) for read in block.reads if read.source.same_as(argument)]
        if not readers or not all(_reads_its_own_place(blocks[i], read) for i, read in readers):
            continue
        if len(readers) > 1 and not _in_one_nest(sch, [stages[i] for i, _ in readers]):
            continue
        made = _made_from([blocks[i] for i, _ in readers], blocks)
        for output, buffer in enumerate(func.params[arguments:]):
            alike = structural_equal(argument.shape, buffer.shape) and argument.dtype == buffer.dtype
            if alike and any(buffer.same_as(other) for other in made):
                pairs.append((arguments + output, number))
    return pairs


def _reads_its_own_place(block, read) -> bool:
    """Whether a block reads of a buffer the element at the place that it writes."""
    written = block.writes[0]
    if len(read.region) != len(written.region):
        return False
    return all(
        int(size) == 1 or (isinstance(r.extent, tirx.IntImm) and r.extent.value == 1 and structural_equal(r.min, w.min))
        for r, w, size in zip(read.region, written.region, read.source.shape, strict=True)
    )


def _in_one_nest(sch: Schedule, stages) -> bool:
    """Whether the same loops hold some stages."""
    innermost = [sch.get(loops[-1]) for stage in stages if (loops := sch.get_loops(stage))]
    return len(innermost) == len(stages) and all(loop.same_as(innermost[0]) for loop in innermost)


def _made_from(first: list, blocks) -> list:
    """What a block writes, and all that is made from that place by place; of several in one nest, the latter alone."""
    made = [block.writes[0].source for block in first]
    for block in blocks:  # in order: none reads what a later one makes
        if any(r.source.same_as(buffer) and _reads_its_own_place(block, r) for r in block.reads for buffer in made):
            made.append(block.writes[0].source)
    return made if len(first) == 1 else made[len(first) :]


def _disjoint(pairs: list[_Pair]) -> list[_Pair]:
    """Pairs of which no two share an output or an argument."""
    chosen: list[_Pair] = []
    for output, argument in pairs:
        if all(output != o and argument != a for o, a in chosen):
            chosen.append((output, argument))
    return chosen


def _rewritten(module: tvm.IRModule, pairs: dict[str, list[_Pair]]) -> tvm.IRModule:
    main, result = module["main"], module.clone()
    renamed: dict[str, tvm.ir.GlobalVar] = {}
    for name, found in pairs.items():
        if found:
            func = module[name].with_attr(IN_PLACE, [list(pair) for pair in found])
            renamed[name] = tvm.ir.GlobalVar(name)  # of its own: its type is that of the scheduled kernel
            relax.expr._update_type(renamed[name], share_memory(func).ty)
            del result[name]
            result[renamed[name]] = func

    def in_place(value: relax.Expr) -> relax.Expr:
        if op_name(value) != "relax.call_tir" or not pairs[value.args[0].name_hint]:
            return value
        kernel, arguments = value.args[:2]
        over = {output - len(arguments.fields): argument for output, argument in pairs[kernel.name_hint]}
        (types,) = value.ty_args
        out = list(types.fields) if isinstance(types, relax.TupleType) else [types]
        indices = [over.get(output, -1) for output in range(len(out))]
        return relax.op.call_tir_inplace(renamed[kernel.name_hint], arguments, indices, out if len(out) > 1 else out[0])

    blocks = [
        relax.DataflowBlock([relax.VarBinding(b.var, in_place(b.value)) for b in block.bindings])
        for block in main.body.blocks
    ]
    function = relax.Function(main.params, relax.SeqExpr(blocks, main.body.body), main.ret_ty, attrs=main.attrs)
    result.update_func(module.get_global_var("main"), function)
    return result


def share_memory(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A scheduled kernel, with each output that its attribute names written over its argument."""
    if func.attrs is None or IN_PLACE not in func.attrs:
        return func
    pairs = {func.params[int(output)]: func.params[int(argument)] for output, argument in func.attrs[IN_PLACE]}
    return func.specialize(pairs).without_attr(IN_PLACE)
