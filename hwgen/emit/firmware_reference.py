"""The quantized graph as calls of portable C kernels: one call list and its constant tables per layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hwgen.arith import AddRequantize, Requantize
from hwgen.emit.c_expression import c_function
from hwgen.emit.firmware_tables import c_array, initializer, int_array
from hwgen.emit.names import kernel_name
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import IntArray, TensorType
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.integer import (
    ACCUMULATOR,
    OutputStage,
    add_stage,
    average_stages,
    folded_bias,
    identity_stage,
    lookup_table,
    output_stage,
    pad_code,
    weight_parts,
)
from hwgen.ops.interleave import Interleave
from hwgen.ops.lookup import Lookup
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.ops.processor import PROCESSOR_OPERATORS
from hwgen.ops.resize import Resize
from hwgen.ops.slice import Slice

GEOMETRY = (
    *("height", "width", "channels", "out_height", "out_width", "out_channels"),
    *("kernel_rows", "kernel_columns", "stride_rows", "stride_columns", "dilation_rows", "dilation_columns", "pad_top", "pad_left"),
)


@dataclass(frozen=True, kw_only=True)
class LayerView:
    """One layer. `name` and `operator` as in the graph; `result` and `calls` are C."""

    index: int
    name: str
    operator: str
    shape: str
    result: str
    size_bytes: int
    tables: tuple[str, ...]
    calls: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OutputView:
    index: int
    result: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class ReferenceView:
    prefix: str
    model_name: str
    uses: frozenset[str]
    functions: tuple[str, ...]
    layers: tuple[LayerView, ...]
    outputs: tuple[OutputView, ...]
    values_used: bool


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the reference needs besides its text: the int8 weights of all layers in one table, and sizes of its work memory."""

    view: ReferenceView
    weights: bytes
    sums: int
    patch: int
    values: int


@dataclass(kw_only=True)
class _Builder:
    """Collects what the layers use while they are translated in order."""

    graph: Graph
    prefix: str
    pointers: dict[str, str]
    weights: bytearray = field(default_factory=bytearray)
    uses: set[str] = field(default_factory=set)
    sums: int = 1
    patch: int = 1
    tables: list[str] = field(default_factory=list)
    index: int = 0

    @cached_property
    def wide(self) -> bool:
        """Some layer's weights are a sum of several int8 arrays."""
        return any(isinstance(node.op, Conv) and node.op.weight.dtype != np.int8 for node in self.graph.nodes)

    def use(self, *kernels: str) -> None:
        self.uses.update(kernels)

    def table(self, kind: str, suffix: str, items: list[str]) -> str:
        name = f"{suffix}_{self.index}"
        self.tables.append(c_array(kind, name, items))
        return name

    def struct(self, kind: str, values: dict[str, object]) -> str:
        name = f"layer_{self.index}"
        self.tables.append(f"static const {kind} {name} = {initializer(values)};")
        return name

    def store_weights(self, weight: IntArray) -> str:
        self.use("weights")
        offset = len(self.weights)
        self.weights += b"".join(np.ascontiguousarray(part).tobytes() for part in weight_parts(weight))
        return f"{self.prefix}_reference_weights + {offset}"


def plan_memory(graph: Graph) -> tuple[dict[str, int], int]:
    """Byte offset of every value that a node computes, and the total: first fit, space is reused after a value's last reader."""
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in (node.output, *node.inputs)}
    last_use |= {output.value: len(graph.nodes) for output in graph.outputs}
    offsets: dict[str, int] = {}
    live: dict[str, tuple[int, int]] = {}
    total = 1
    for index, node in enumerate(graph.nodes):
        live = {name: place for name, place in live.items() if last_use[name] >= index}
        size, offset = graph.values[node.output].type.elements, 0
        for start, end in sorted(live.values()):
            if offset + size <= start:
                break
            offset = max(offset, end)
        live[node.output] = (offset, offset + size)
        offsets[node.output] = offset
        total = max(total, offset + size)
    return offsets, total


def _geometry(window: Window, x: TensorType, y: TensorType) -> str:
    numbers = (*x.shape, *y.shape, *window.kernel, *window.strides, *window.dilations, *window.pads[:2])
    return initializer(dict(zip(GEOMETRY, numbers, strict=True)))


def _channel(bias: int, stage: OutputStage, c: int) -> str:
    numbers = (bias, stage.multiplier[c], stage.shift[c], stage.zero_point[c], stage.low[c], stage.high[c])
    return "{" + ", ".join(str(int(number)) for number in numbers) + "}"


def _conv(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    op = node.op
    assert isinstance(op, Conv)
    source, result = b.graph.values[node.inputs[0]], b.graph.values[node.output]
    stage, bias = output_stage(node, b.graph), folded_bias(node, b.graph)
    depthwise = op.is_lane_wise
    weight = op.codes[..., 0].transpose(1, 2, 0) if depthwise else op.codes
    b.use("geometry", "requantize", "channel", "depthwise" if depthwise else "conv")
    channels = b.table("channel", "channels", [_channel(int(bias[c]), stage, c) for c in range(op.channels)])
    values: dict[str, object] = {
        "g": _geometry(op.window, source.type, result.type),
        "group": op.group,
        "zero_point": source.quantized.zero_point,
        "weights": b.store_weights(weight),
        "channels": channels,
    }
    if b.wide:
        b.use("wide")
        values["parts"] = len(weight_parts(op.codes))
    layer = b.struct("conv_layer", values)
    if depthwise:
        b.sums = max(b.sums, op.channels)
        return [f"depthwise(&{layer}, {x}, work->sums, {y});"]
    b.patch = max(b.patch, int(op.weight[0].size))
    return [f"conv(&{layer}, {x}, work->patch, {y});"]


def _max_pool(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    op = node.op
    assert isinstance(op, MaxPool)
    stage = identity_stage(node, b.graph)
    b.use("geometry", "max_pool")
    geometry = _geometry(op.window, b.graph.values[node.inputs[0]].type, b.graph.values[node.output].type)
    layer = b.struct("max_layer", {"g": geometry, "low": stage.low[0], "high": stage.high[0]})
    return [f"max_pool(&{layer}, {x}, {y});"]


def _average_pool(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    op = node.op
    assert isinstance(op, AveragePool)
    source, result = b.graph.values[node.inputs[0]], b.graph.values[node.output]
    counts, stages = average_stages(node, b.graph)
    divisors = sorted(stages)
    b.use("geometry", "requantize", "channel", "average_pool")
    b.sums = max(b.sums, source.type.channels)
    table = b.table("channel", "channels", [_channel(0, stages[divisor], 0) for divisor in divisors])
    stage_of = "NULL"
    if len(divisors) > 1:
        stage_of = f"stage_of_{b.index}"
        b.tables.append(int_array("uint16_t", stage_of, np.searchsorted(divisors, counts).reshape(-1)))
    layer = b.struct(
        "average_layer",
        {"g": _geometry(op.window, source.type, result.type), "zero_point": source.quantized.zero_point, "stages": table, "stage_of": stage_of},
    )
    return [f"average_pool(&{layer}, {x}, work->sums, {y});"]


def _add(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    stage = add_stage(node, b.graph)
    b.use("add")
    values: dict[str, object] = {"count": b.graph.values[node.output].type.elements}
    values |= {name: f"INT64_C({getattr(stage, name)})" for name in ("multiplier_a", "multiplier_b", "offset")}
    layer = b.struct("add_layer", values | {name: getattr(stage, name) for name in ("shift", "low", "high")})
    return [f"add(&{layer}, {x}, {b.pointers[node.inputs[1]]}, {y});"]


def _clamp(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    stage = identity_stage(node, b.graph)
    b.use("clamp")
    return [f"limit({x}, {y}, {b.graph.values[node.output].type.elements}, {stage.low[0]}, {stage.high[0]});"]


def _copy(x: str, y: str, *numbers: int) -> str:
    return f"copy_rows({x}, {y}, {', '.join(map(str, numbers))});"


def _concat(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    """Seen as (rows, everything from `axis` on), concatenation copies one run per row and input."""
    op = node.op
    assert isinstance(op, Concat)
    b.use("copy")
    shape = b.graph.values[node.output].type.shape
    rows, stride = int(np.prod(shape[: op.axis], dtype=int)), int(np.prod(shape[op.axis :]))
    calls, offset = [], 0
    for name in node.inputs:
        count = b.graph.values[name].type.elements // rows
        calls.append(_copy(b.pointers[name], f"{y} + {offset}", rows, count, count, stride))
        offset += count
    return calls


def _pad(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    op = node.op
    assert isinstance(op, Pad)
    b.use("copy")
    source, result = b.graph.values[node.inputs[0]].type, b.graph.values[node.output]
    top, left, bottom, right = op.pads
    rows = source.height + min(top, 0) + min(bottom, 0)
    count = (source.width + min(left, 0) + min(right, 0)) * source.channels
    x_stride, y_stride = source.width * source.channels, result.type.width * source.channels
    x_offset = max(-top, 0) * x_stride + max(-left, 0) * source.channels
    y_offset = max(top, 0) * y_stride + max(left, 0) * source.channels
    return [
        f"memset({y}, {pad_code(node, b.graph)}, {result.type.elements});",
        _copy(f"{x} + {x_offset}", f"{y} + {y_offset}", rows, count, x_stride, y_stride),
    ]


def _lookup(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    b.use("lookup")
    table = f"codes_{b.index}"
    b.tables.append(int_array("int8_t", table, lookup_table(node, b.graph)))
    return [f"look_up({x}, {y}, {b.graph.values[node.output].type.elements}, {table});"]


def _slice(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    op = node.op
    assert isinstance(op, Slice)
    b.use("slice")
    _, width, channels = b.graph.values[node.inputs[0]].type.shape
    pitches = (width * channels, channels, 1)
    offset = sum(start * pitch for start, pitch in zip(op.starts, pitches, strict=True))
    strides = [step * pitch for step, pitch in zip(op.steps, pitches, strict=True)]
    return [f"slice({x} + {offset}, {y}, {', '.join(map(str, (*op.counts, *strides)))});"]


def _interleave(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    op, source = node.op, b.graph.values[node.inputs[0]].type
    assert isinstance(op, Interleave)
    b.use("spread")
    rows, columns = op.factors
    row = source.width * columns * source.channels
    calls = []
    for k, name in enumerate(node.inputs):
        offset = k // columns * row + k % columns * source.channels
        numbers = (*source.shape, rows * row, columns * source.channels)
        calls.append(f"spread({b.pointers[name]}, {y} + {offset}, {', '.join(map(str, numbers))});")
    return calls


def _kernel(b: _Builder, node: Node, x: str, y: str) -> list[str]:
    """The same function that the processor runs between the accelerator's programs."""
    b.use("kernels")
    return [f"{kernel_name(b.prefix, b.index)}({', '.join(b.pointers[name] for name in node.inputs)}, {y});"]


_TRANSLATORS: dict[type, Callable[[_Builder, Node, str, str], list[str]]] = {
    Conv: _conv,
    MaxPool: _max_pool,
    AveragePool: _average_pool,
    Add: _add,
    Clamp: _clamp,
    Concat: _concat,
    Pad: _pad,
    Lookup: _lookup,
    Slice: _slice,
    Interleave: _interleave,
    **dict.fromkeys((*PROCESSOR_OPERATORS, Resize, DepthToSpace), _kernel),  # the last two: of hardware that cannot leave gaps
}


def _layers(b: _Builder) -> Iterator[LayerView]:
    for index, node in enumerate(b.graph.nodes):
        b.index, b.tables = index, []
        value = b.graph.values[node.output].type
        result = b.pointers[node.output]
        calls = _TRANSLATORS[type(node.op)](b, node, b.pointers[node.inputs[0]], result)
        yield LayerView(
            index=index,
            name=node.name,
            operator=type(node.op).__name__,
            shape=" x ".join(map(str, value.shape)),
            result=result,
            size_bytes=value.elements,
            tables=tuple(b.tables),
            calls=tuple(calls),
        )


def build_reference(graph: Graph, prefix: str) -> Reference:
    """The view of <prefix>_ref.c, its weights and the sizes of its work memory. The arithmetic is printed from hwgen.arith."""
    offsets, total = plan_memory(graph)
    pointers = {entry.value: f"inputs[{k}]" for k, entry in enumerate(graph.inputs)}
    pointers |= {name: f"(values + {offset})" for name, offset in offsets.items()}
    builder = _Builder(graph=graph, prefix=prefix, pointers=pointers)
    layers = tuple(_layers(builder))
    bits, rounding = graph.arithmetic.multiplier_bits, graph.arithmetic.rounding
    functions = []
    if "requantize" in builder.uses:
        functions.append(c_function("requantize", Requantize(accumulator=ACCUMULATOR, multiplier_bits=bits, rounding=rounding)))
    if "add" in builder.uses:
        functions.append(c_function("add_requantize", AddRequantize(multiplier_bits=bits, rounding=rounding)))
    view = ReferenceView(
        prefix=prefix,
        model_name=graph.name,
        uses=frozenset(builder.uses),
        functions=tuple(functions),
        layers=layers,
        outputs=tuple(OutputView(index=k, result=pointers[o.value], size_bytes=graph.values[o.value].type.elements) for k, o in enumerate(graph.outputs)),
        values_used=bool(graph.nodes),
    )
    return Reference(view=view, weights=bytes(builder.weights), sums=builder.sums, patch=builder.patch, values=total)
