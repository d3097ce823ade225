"""The processor's part as C: host steps and quantization before the accelerator, dequantization and host steps after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hwgen.emit.firmware_tables import c_array, float_literal, int_array
from hwgen.ir.graph import Graph, GraphInput, GraphOutput
from hwgen.ir.host import Affine, ArgExtremum, HostStep, Reshape, Softmax, Take, Transpose, shape_after
from hwgen.ir.types import FloatArray

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class FunctionView:
    comment: str
    signature: str
    statements: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HostView:
    prefix: str
    uses: frozenset[str]
    tables: tuple[str, ...]
    functions: tuple[FunctionView, ...]


def outside_shape(entry: GraphInput | GraphOutput) -> Shape:
    """The user's shape without the batch dimension."""
    return tuple(entry.shape[1:])


def _strides(shape: Sequence[int]) -> list[int]:
    return [int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape))]


@dataclass(kw_only=True)
class _Chain:
    """Translates one chain of steps; `current` is the C pointer to the data, alternating between the halves of `work`."""

    name: str
    current: str
    half: int
    shape: Shape = ()
    last: str = ""  # where the last moving step writes
    statements: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)
    number: int = 0

    def table(self, suffix: str, values: Sequence[int]) -> str:
        name = f"{self.name}_{suffix}_{self.number}"
        self.tables.append(int_array("uint32_t", name, values))
        return name

    def _target(self, is_last: bool) -> str:
        if is_last and self.last:
            return self.last
        return f"work + {self.half}" if self.current == "work" else "work"

    def add(self, step: HostStep, is_last: bool) -> None:
        """Append one step; reshaping moves nothing."""
        if isinstance(step, Reshape):
            self.shape = step.shape
            return
        target = self._target(is_last)
        if isinstance(step, Transpose):
            self._transpose(step, target)
        elif isinstance(step, Affine):
            self._affine(step, target)
        elif isinstance(step, Take):
            outer, length, inner = self._along(step.axis)
            self.uses.add("take")
            indices = self.table("indices", step.indices)
            self.statements.append(f"take({self.current}, {target}, {outer}, {length}, {inner}, {len(step.indices)}, {indices});")
            self.shape = shape_after(step, self.shape)
        elif isinstance(step, ArgExtremum):
            outer, length, inner = self._along(step.axis)
            self.uses.add("arg_extremum")
            self.statements.append(f"arg_extremum({self.current}, {target}, {outer}, {length}, {inner}, {int(step.largest)}, {int(step.last)});")
            self.shape = shape_after(step, self.shape)
        else:
            name = "softmax" if isinstance(step, Softmax) else "log_softmax"
            outer, length, inner = self._along(step.axis)
            self.uses.add(name)
            self.statements.append(f"{name}({self.current}, {target}, {outer}, {length}, {inner});")
        self.current = target
        self.number += 1

    def _transpose(self, step: Transpose, target: str) -> None:
        axes = [axis - 1 for axis in step.permutation[1:]]
        strides = _strides(self.shape)
        self.shape = tuple(self.shape[axis] for axis in axes)
        shape, moved = self.table("shape", self.shape), self.table("strides", [strides[axis] for axis in axes])
        self.uses |= {"walk", "transpose"}
        self.statements.append(f"transpose({self.current}, {target}, {_count(self.shape)}, {shape}, {moved}, {len(self.shape)});")

    def _factors(self, suffix: str, values: FloatArray, shape: Shape) -> str:
        """A `factors` struct whose strides broadcast `values` against (1, *shape)."""
        array = np.asarray(values, np.float32)
        padded = array.reshape((1,) * (1 + len(shape) - array.ndim) + array.shape)
        strides = [0 if size == 1 else stride for size, stride in zip(padded.shape, _strides(padded.shape), strict=True)][1:]
        name = f"{self.name}_{suffix}_{self.number}"
        self.tables.append(c_array("float", f"{name}_values", map(float_literal, array.reshape(-1).tolist())))
        strides_name = self.table(f"{suffix}_strides", strides)
        self.tables.append(f"static const factors {name} = {{{name}_values, {strides_name}}};")
        return name

    def _affine(self, step: Affine, target: str) -> None:
        self.shape = tuple(np.broadcast_shapes((1, *self.shape), np.shape(step.scale), np.shape(step.offset))[1:])
        shape = self.table("shape", self.shape)
        scale, offset = self._factors("scale", step.scale, self.shape), self._factors("offset", step.offset, self.shape)
        self.uses |= {"walk", "affine"}
        self.statements.append(f"affine({self.current}, {target}, {_count(self.shape)}, {shape}, {len(self.shape)}, &{scale}, &{offset});")

    def _along(self, axis: int) -> tuple[int, int, int]:
        """The shape seen as (outer, length along the axis, inner)."""
        axis = (axis if axis >= 0 else axis + len(self.shape) + 1) - 1
        return _count(self.shape[:axis]), self.shape[axis], _count(self.shape[axis + 1 :])


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _moving(steps: tuple[HostStep, ...]) -> list[int]:
    return [k for k, step in enumerate(steps) if not isinstance(step, Reshape)]


def _input_function(graph: Graph, entry: GraphInput, name: str, half: int, prefix: str) -> tuple[_Chain, FunctionView]:
    value = graph.values[entry.value]
    chain = _Chain(name=name, current="real", half=half, shape=outside_shape(entry))
    for step in entry.steps:
        chain.add(step, False)
    q = value.quantized
    quantize = f"quantize({chain.current}, q, {value.type.elements}, {float_literal(q.scale)}, {float_literal(q.zero_point)});"
    statements = (*chain.statements, quantize) if chain.statements else ("(void)work;", quantize)
    signature = f"void {prefix}_quantize_{name}(const float *real, float *work, int8_t *q)"
    return chain, FunctionView(comment=f"input {entry.name}", signature=signature, statements=statements)


def _output_function(graph: Graph, entry: GraphOutput, name: str, half: int, prefix: str) -> tuple[_Chain, FunctionView]:
    value = graph.values[entry.value]
    q, moving = value.quantized, _moving(entry.steps)
    first = "work" if moving else "real"
    chain = _Chain(name=name, current=first, half=half, shape=value.type.shape, last="real")
    for k, step in enumerate(entry.steps):
        chain.add(step, bool(moving) and k == moving[-1])
    dequantize = f"dequantize(q, {first}, {value.type.elements}, {float_literal(q.scale)}, {q.zero_point});"
    statements = (dequantize, *chain.statements) if moving else ("(void)work;", dequantize)
    signature = f"void {prefix}_dequantize_{name}(const int8_t *q, float *work, float *real)"
    return chain, FunctionView(comment=f"output {entry.name}", signature=signature, statements=statements)


def work_half(graph: Graph) -> int:
    """Floats of the largest tensor that a chain of host steps holds: the work memory is two of them."""
    entries: list[GraphInput | GraphOutput] = [*graph.inputs, *graph.outputs]
    largest = 1
    for entry in entries:
        shape: Shape = outside_shape(entry) if isinstance(entry, GraphInput) else graph.values[entry.value].type.shape
        largest = max(largest, _count(shape), _count(outside_shape(entry)))
        for step in entry.steps:
            shape = shape_after(step, shape)
            largest = max(largest, _count(shape))
    return largest


def build_host(graph: Graph, prefix: str) -> HostView:
    """The view of <prefix>_pre.c."""
    half = work_half(graph)
    parts = [_input_function(graph, entry, f"input{k}", half, prefix) for k, entry in enumerate(graph.inputs)]
    parts += [_output_function(graph, entry, f"output{k}", half, prefix) for k, entry in enumerate(graph.outputs)]
    return HostView(
        prefix=prefix,
        uses=frozenset().union(*(chain.uses for chain, _ in parts)),
        tables=tuple(table for chain, _ in parts for table in chain.tables),
        functions=tuple(function for _, function in parts),
    )
