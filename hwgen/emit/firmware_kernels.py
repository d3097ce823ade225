"""What the processor computes between the accelerator's programs, as C: one function per operator, and for each phase the calls from memory
to memory. The portable reference calls the same functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from hwgen.arith import Requantize
from hwgen.emit.c_expression import c_function
from hwgen.emit.firmware_model import strides_of
from hwgen.emit.firmware_tables import c_array, initializer, int_array
from hwgen.emit.names import kernel_name
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import IntArray
from hwgen.isa.fields import Region
from hwgen.ops.curves import LOG_OF_2, LOGARITHM, InversePower
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.elementwise import Div, Extremum, Mul
from hwgen.ops.integer import ACCUMULATOR, lookup_table
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.lookup import Lookup
from hwgen.ops.matmul import MatMul
from hwgen.ops.move import Move
from hwgen.ops.normalize import Normalize
from hwgen.ops.normalizing import index_codes, log_softmax_stage, normalize_stage, response_stage
from hwgen.ops.processor import PROCESSOR, QuotientStage, division_stage, exponentials, product_stage, softmax_stage
from hwgen.ops.resize import Resize
from hwgen.ops.softmax import ArgExtremum, LogSoftmax, Softmax
from hwgen.schedule.compile import CompiledNetwork
from hwgen.schedule.crossing import Kernel
from hwgen.schedule.homes import HostTensor
from hwgen.schedule.phases import divide, on_processor

Shape = tuple[int, ...]
_POINTERS = {Region.ARENA: "arena", Region.INPUT: "input", Region.OUTPUT: "output"}


@dataclass(frozen=True, kw_only=True)
class FunctionView:
    """One operator: `name` and `operator` as in the graph; `signature`, `tables` and `call` are C."""

    name: str
    operator: str
    signature: str
    tables: tuple[str, ...]
    call: str


@dataclass(frozen=True, kw_only=True)
class CrossingView:
    """A value in memory that the accelerator's program `phase` reads from a kernel (`is_read`) or writes for others."""

    phase: int
    layer: int
    in_output: int
    tensor: str
    is_read: int


@dataclass(frozen=True, kw_only=True)
class KernelsView:
    """`process[k]`: statements before program k, or behind the last. `entries` of the programs."""

    prefix: str
    macro: str
    model_name: str
    uses: frozenset[str]
    requantize: str
    functions: tuple[FunctionView, ...]
    tensors: tuple[str, ...]
    process: tuple[tuple[str, ...], ...]
    entries: tuple[int, ...]
    crossing: tuple[CrossingView, ...]
    largest: int
    scratch_offset: int


def strides(shape: Shape) -> list[int]:
    """Steps from one position to the next along each dimension; 0 along sizes of 1."""
    return [0 if size == 1 else math.prod(shape[k + 1 :]) for k, size in enumerate(shape)]


@dataclass(kw_only=True)
class _Function:
    """One operator while it is translated: `index` of its node."""

    graph: Graph
    node: Node
    index: int
    uses: set[str] = field(default_factory=set)
    tables: list[str] = field(default_factory=list)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of the operands, then of the result."""
        return tuple(self.graph.values[name].type.shape for name in (*self.node.inputs, self.node.output))

    @property
    def zero_points(self) -> list[int]:
        return [self.graph.values[name].quantized.zero_point for name in self.node.inputs]

    def struct(self, kind: str, values: dict[str, object]) -> str:
        name = f"{kind}_{self.index}"
        self.tables.append(f"static const {kind} {name} = {initializer(values)};")
        return name

    def pair(self) -> str:
        """How two operands broadcast: steps of 0 along sizes of 1."""
        self.uses.add("pair")
        result = self.shapes[-1]
        values: dict[str, object] = dict(zip(("height", "width", "channels"), result, strict=True))
        for name, shape in zip("ab", self.shapes[:-1], strict=True):
            values[f"{name}_steps"] = "{" + ", ".join(map(str, strides(shape))) + "}"
        values |= dict(zip(("a_zero_point", "b_zero_point"), self.zero_points, strict=True))
        return self.struct("pair", values)

    def product(self) -> str:
        self.uses.add("product")
        stage = product_stage(self.node, self.graph)
        return self.struct("product_stage", {name: int(getattr(stage, name)[0]) for name in ("multiplier", "shift", "zero_point", "low", "high")})

    def quotient(self, stage: QuotientStage) -> str:
        self.uses.add("quotient")
        return self.struct("quotient_stage", asdict(stage))


def _mul(f: _Function) -> str:
    f.uses.add("mul")
    return f"mul(&{f.pair()}, &{f.product()}, a, b, y);"


def _div(f: _Function) -> str:
    f.uses.add("divide")
    return f"divide(&{f.pair()}, &{f.quotient(division_stage(f.node, f.graph))}, a, b, y);"


def _extremum(f: _Function) -> str:
    op = f.node.op
    assert isinstance(op, Extremum)
    f.uses.add("extremum")
    return f"extremum(&{f.pair()}, {int(op.largest)}, a, b, y);"


def _matmul(f: _Function) -> str:
    f.uses.add("matmul")
    a, b, y = f.shapes
    sizes: dict[str, object] = {"batch": y[0], "rows": a[1], "inner": a[2], "columns": b[2]}
    sizes |= {f"{name}_step": 0 if shape[0] == 1 else shape[1] * shape[2] for name, shape in (("a", a), ("b", b))}
    sizes |= dict(zip(("a_zero_point", "b_zero_point"), f.zero_points, strict=True))
    return f"matmul(&{f.struct('matrices', sizes)}, &{f.product()}, a, b, y);"


def _softmax(f: _Function) -> str:
    op = f.node.op
    assert isinstance(op, Softmax)
    f.uses.add("softmax")
    table = f"exponentials_{f.index}"
    f.tables.append(c_array("uint32_t", table, (f"UINT32_C({value})" for value in exponentials(f.node, f.graph).tolist())))
    stage = f.quotient(softmax_stage(f.node, f.graph))
    return f"softmax({table}, &{stage}, a, y, {_along(f, op.axis)});"


def _along(f: _Function, axis: int) -> str:
    """The operand's shape seen as (outer, length along the axis, inner)."""
    shape = f.shapes[0]
    return f"{math.prod(shape[: axis - 1])}, {shape[axis - 1]}, {math.prod(shape[axis:])}"


def _log_softmax(f: _Function) -> str:
    stage = log_softmax_stage(f.node, f.graph)
    f.uses |= {"shifted", "log_softmax"}
    names = f"exponentials_{f.index}", f"logarithms_{f.index}"
    for name, table in zip(names, (stage.exponentials, LOGARITHM.knots), strict=True):
        f.tables.append(c_array("uint32_t", name, (f"UINT32_C({value})" for value in table.tolist())))
    fields = {name: getattr(stage, name) for name in ("step", "multiplier", "shift", "zero_point", "low", "high")}
    struct = f.struct("log_softmax_stage", {"log_of_2": LOG_OF_2, **fields})
    return f"log_softmax(&{struct}, {', '.join(names)}, a, y, {_along(f, stage.axis)});"


def _arg_extremum(f: _Function) -> str:
    op = f.node.op
    assert isinstance(op, ArgExtremum)
    f.uses.add("arg_extremum")
    table = f"indices_{f.index}"
    f.tables.append(int_array("int8_t", table, index_codes(f.node, f.graph)))
    return f"arg_extremum({table}, {int(op.largest)}, {int(op.last)}, a, y, {_along(f, op.axis)});"


def _power(f: _Function, function: InversePower) -> str:
    f.uses |= {"shifted", "power"}
    fields = {"knots": function.curve.knots, "powers": function.powers, "places": function.exponents}
    return f.struct("power", {name: "{" + ", ".join(map(str, array.tolist())) + "}" for name, array in fields.items()})


def _normalize(f: _Function) -> str:
    stage = normalize_stage(f.node, f.graph)
    f.uses.add("normalize")
    shape, (scale, offset) = f.shapes[0], (stage.multiplier, stage.offset)
    axes = [axis in stage.axes for axis in (1, 2, 3)]
    triples: dict[str, list[int]] = {
        "kept": [1 if shared else size for shared, size in zip(axes, shape, strict=True)],
        "shared": [size if shared else 1 for shared, size in zip(axes, shape, strict=True)],
        "steps": strides(shape),
        "scale_steps": strides(scale.shape),
        "offset_steps": strides(offset.shape),
    }
    fields: dict[str, object] = {name: "{" + ", ".join(map(str, triple)) + "}" for name, triple in triples.items()}
    numbers = {name: getattr(stage, name) for name in ("count", "x_zero_point", "extra", "down", "shift", "zero_point", "low", "high")}
    fields |= {"epsilon": f"INT64_C({stage.epsilon})", "least": f"INT64_C({stage.least})", "centered": int(stage.centered), **numbers}
    f.tables.append(int_array("int32_t", f"scale_{f.index}", scale.reshape(-1)))
    f.tables.append(c_array("int64_t", f"offset_{f.index}", (f"INT64_C({value})" for value in offset.reshape(-1).tolist())))
    struct, power = f.struct("normalization", fields), _power(f, stage.root)
    return f"normalize(&{struct}, &{power}, scale_{f.index}, offset_{f.index}, a, y);"


def _respond(f: _Function) -> str:
    stage, (height, width, channels) = response_stage(f.node, f.graph), f.shapes[0]
    f.uses.add("respond")
    fields: dict[str, object] = {name: f"INT64_C({getattr(stage, name)})" for name in ("bias", "factor")}
    fields |= {"before": stage.op.before, "size": stage.op.size}
    fields |= {name: getattr(stage, name) for name in ("multiplier", "shift", "x_zero_point", "zero_point", "low", "high")}
    return f"respond(&{f.struct('response', fields)}, &{_power(f, stage.power)}, a, y, {height * width}, {channels});"


def _move(f: _Function) -> str:
    """By one table of offsets per dimension of the result, or where a source does not split so, by one for all elements."""
    op, kind = f.node.op, f.graph.values[f.node.inputs[0]].type
    f.uses.add("move")
    numbers = np.arange(kind.elements).reshape(1, *kind.shape)
    if isinstance(op, Move):
        sources = op.sources(kind)
    else:
        assert isinstance(op, Resize | DepthToSpace)
        sources = (op.enlarged(numbers) if isinstance(op, Resize) else op.spread(numbers))[0]
    parts = [sources[:, 0, 0], sources[0, :, 0] - sources[0, 0, 0], sources[0, 0, :] - sources[0, 0, 0]]
    joined: IntArray = parts[0][:, None, None] + parts[1][:, None] + parts[2]
    if not (joined == sources).all():
        parts = [np.zeros(1, np.int64), np.zeros(1, np.int64), sources.reshape(-1)]
    names = []
    for name, part in zip(("rows", "columns", "channels"), parts, strict=True):
        names.append(f"{name}_{f.index}")
        f.tables.append(int_array("int32_t", names[-1], part))
    sizes = ", ".join(str(len(part)) for part in parts)
    return f"move(a, y, {sizes}, {', '.join(names)});"


def _lookup(f: _Function) -> str:
    f.uses.add("lookup")
    table = f"codes_{f.index}"
    f.tables.append(int_array("int8_t", table, lookup_table(f.node, f.graph)))
    return f"look_up({table}, a, y, {math.prod(f.shapes[0])});"


_TRANSLATORS: dict[type, Callable[[_Function], str]] = {
    Mul: _mul,
    Div: _div,
    Extremum: _extremum,
    MatMul: _matmul,
    Softmax: _softmax,
    Move: _move,
    Resize: _move,
    DepthToSpace: _move,
    Lookup: _lookup,
    LogSoftmax: _log_softmax,
    ArgExtremum: _arg_extremum,
    Normalize: _normalize,
    LocalResponse: _respond,
}


def _function(graph: Graph, node: Node, index: int, prefix: str) -> tuple[FunctionView, set[str]]:
    f = _Function(graph=graph, node=node, index=index)
    call = _TRANSLATORS[type(node.op)](f)
    operands = "".join(f"const int8_t *{name}, " for name in "ab"[: len(node.inputs)])
    signature = f"void {kernel_name(prefix, index)}({operands}int8_t *y)"
    return FunctionView(name=node.name, operator=type(node.op).__name__, signature=signature, tables=tuple(f.tables), call=call), f.uses


@dataclass(kw_only=True)
class _Memory:
    """Descriptions of tensors in memory, each written once."""

    graph: Graph
    tables: list[str] = field(default_factory=list)
    known: dict[tuple[str, Region, int], str] = field(default_factory=dict)

    def tensor(self, place: HostTensor) -> str:
        key = (place.value, place.region, place.offset)
        if key not in self.known:
            name = f"tensor_{len(self.known)}"
            self.known[key] = name
            strides, kind = strides_of(place.layout), self.graph.values[place.value].type
            self.tables.append(int_array("uint32_t", f"{name}_offsets", strides.channels))
            fields: dict[str, object] = {"name": '""', "height": kind.height, "width": kind.width, "channels": kind.channels}
            fields |= {"offset": place.offset, "size_bytes": place.size_bytes, "rows": strides.rows.outputs, "row_stride": strides.row}
            fields |= {"column_stride": strides.column, "fold_rows": strides.rows.kernel, "fold_stride": strides.fold, "row_step": strides.rows.stride}
            fields |= {"row_dilation": strides.rows.dilation, "row_top": strides.rows.top}
            fields |= {"channel_offsets": f"{name}_offsets", "fill": place.layout.fill}
            self.tables.append(f"static const npu_tensor {name} = {initializer(fields)};")
        return self.known[key]

    def statements(self, kernel: Kernel, index: int, prefix: str) -> tuple[str, ...]:
        """Operands out of their layouts into scratch memory, the function, and its result to where it belongs."""
        found, names, at = [], [], 0
        for place, shape in zip(kernel.inputs, kernel.shapes, strict=False):
            names.append(f"scratch + {at}")
            found.append(f"npu_unpack(&{self.tensor(place)}, memory->{_POINTERS[place.region]}, {names[-1]});")
            at += math.prod(shape)
        found.append(f"{kernel_name(prefix, index)}({', '.join(names)}, scratch + {at});")
        found += [f"npu_pack(&{self.tensor(place)}, scratch + {at}, memory->{_POINTERS[place.region]});" for place in kernel.outputs]
        return tuple(found)


def _crossing(network: CompiledNetwork, memory: _Memory) -> tuple[CrossingView, ...]:
    """For tests: what each program finds of the kernels before it, and what it leaves in memory for others."""
    index = {node.output: k for k, node in enumerate(network.graph.nodes)}
    handed = {place.value: place for place in network.crossing}
    found = []
    for number, phase in enumerate(divide(network.graph, network.config)[: len(network.phases)]):
        written = {node.output for node in phase.nodes}
        found += [(number, handed[node.output], 1) for node in phase.kernels if node.output in handed]
        found += [(number, place, 0) for place in (*network.crossing, *network.outputs) if place.value in written]
    return tuple(
        CrossingView(phase=number, layer=index[place.value], in_output=int(place.region is Region.OUTPUT), tensor=memory.tensor(place), is_read=is_read)
        for number, place, is_read in found
    )


def build_kernels(network: CompiledNetwork, prefix: str) -> KernelsView:
    """The view of <prefix>_kernels.c and .h, of a network with processor kernels."""
    graph, memory = network.graph, _Memory(graph=network.graph)
    translated = {k: _function(graph, node, k, prefix) for k, node in enumerate(graph.nodes) if on_processor(node.op, network.config)}
    index = {node.output: k for k, node in enumerate(graph.nodes)}
    process = []
    for group in network.kernels:
        statements: list[str] = []
        for kernel in group:
            statements += memory.statements(kernel, index[kernel.node.output], prefix)
        process.append(tuple(statements))
    process += [()] * (len(network.phases) + 1 - len(process))
    rule = Requantize(accumulator=ACCUMULATOR, multiplier_bits=PROCESSOR.multiplier_bits, rounding=PROCESSOR.rounding)
    crossing = _crossing(network, memory)
    return KernelsView(
        prefix=prefix,
        macro=prefix.upper(),
        model_name=graph.name,
        uses=frozenset().union(*(uses for _, uses in translated.values())),
        requantize=c_function("requantize", rule),
        functions=tuple(view for view, _ in translated.values()),
        tensors=tuple(memory.tables),
        process=tuple(process),
        entries=network.entries,
        crossing=crossing,
        scratch_offset=network.scratch_offset,
        largest=max(value.type.elements for value in graph.values.values()),
    )
