"""What the QDQ and the QOperator form have in common: the walk over the graph, window attributes, quantization constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from hwgen.emit.onnx_builder import OPSET, OnnxBuilder
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import FloatArray, IntArray, Quantization, TensorType
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Interval, Pads, Window, ceil_padding
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.ops.resize import Resize
from hwgen.ops.slice import Slice
from hwgen.packing import WeightFormat


class Form(Protocol):
    """One way to write a quantized network. Tensors are (N, C, H, W)."""

    builder: OnnxBuilder

    def enter(self, value: str, real: str) -> None:
        """Quantize the float tensor `real` of a network input."""

    def leave(self, value: str, real: str) -> None:
        """Write the float tensor `real` from a value of the graph."""

    def write(self, node: Node) -> None:
        """Write one operator."""


def write(graph: Graph, form: Form) -> onnx.ModelProto:
    """The whole network; raises UnsupportedError for operators that the form cannot express."""
    builder = form.builder
    for entry in graph.inputs:
        builder.note_name(entry.name, entry.value)
        form.enter(entry.value, builder.enter(entry))
    for node in graph.nodes:
        form.write(node)
    for output in graph.outputs:
        steps = builder.leave_steps(output)
        if not steps:
            builder.note_name(output.name, output.value)
        real = builder.fresh(f"{output.name}.real") if steps else output.name
        form.leave(output.value, real)
        builder.host(steps, real, output.name)
    return builder.model()


class Constants:
    """Scales and zero points as initializers, one pair for each quantization."""

    def __init__(self, builder: OnnxBuilder) -> None:
        self.builder = builder
        self._pairs: dict[tuple[float, int, bool], tuple[str, str]] = {}

    def pair(self, value: str) -> tuple[str, str]:
        """Names of scale and zero point of a value, as the outside sees them (uint8 or int8)."""
        q = self.builder.graph.values[value].quantized
        key = (float(q.scale), q.zero_point, q.unsigned)
        if key not in self._pairs:
            scale = self.builder.constant(f"{value}.scale", np.array(q.scale, np.float32))
            self._pairs[key] = scale, self.builder.constant(f"{value}.zero_point", outside_code(q, q.zero_point))
        return self._pairs[key]


def outside_code(q: Quantization, code: int) -> IntArray:
    """An int8 code as a scalar array of the outside type."""
    return np.array(code + q.outside_offset, np.uint8 if q.unsigned else np.int8)


def onnx_weight(op: Conv) -> tuple[IntArray, IntArray]:
    """8-bit codes (C_out, C_in / group, kernel rows, kernel columns) and their zero point: 0 or one number as a scalar array, else (C_out,)."""
    weight = np.ascontiguousarray(op.codes.transpose(0, 3, 1, 2))
    if weight.dtype == np.int8:
        return weight, np.zeros((), np.int8)
    flat = weight.reshape(len(weight), -1)
    least, most = np.maximum(-flat.min(1), 0), 255 - flat.max(1)  # zero points that make uint8 of a channel
    zero_point = np.array(least.max()) if least.max() <= most.min() else least
    return (weight + zero_point.reshape(-1, 1, 1, 1)).astype(np.uint8), zero_point.astype(np.uint8)


def dequantized(builder: OnnxBuilder, name: str, codes: IntArray, scale: FloatArray, axis: int = 0, zero_point: IntArray | None = None) -> str:
    """A constant and its DequantizeLinear, along `axis` where `scale` has one entry for each channel.

    Weights that fit 4 bits are INT4 beside uint8 activations, unless each channel has only one: then it saves nothing, and asks for a newer
    opset. They are never INT2: ONNX Runtime 1.32 makes an integer convolution of it, which it then refuses.
    """
    few_bits = codes.dtype == np.int8 and codes.size > codes.shape[axis] and WeightFormat.INT4.holds(codes)
    operands = [builder.constant(name, codes, few_bits=few_bits), builder.constant(f"{name}.scale", scale)]
    if zero_point is not None:
        operands.append(builder.constant(f"{name}.zero_point", zero_point, few_bits=few_bits))
    attributes: dict[str, Any] = {"axis": axis} if scale.ndim else {}
    return builder.node("DequantizeLinear", operands, builder.fresh(f"{name}.dequantized"), **attributes)


def weight_scale(op: Conv) -> npt.NDArray[np.float32]:
    """(C,), or a scalar array where the scales of all channels are equal."""
    scales = np.asarray(op.weight_scale, np.float32)
    return scales if (scales != scales[0]).any() else scales[0].reshape(())


def limit_channels(builder: OnnxBuilder, real: str, clamp: Interval, output: str) -> None:
    """Limit the real tensor (N, C, H, W) to an interval per channel. Clip takes scalars only."""
    for operator, end in zip(("Max", "Min"), clamp, strict=True):
        if np.isfinite(end).any():
            limits = builder.constant(f"{output}.{operator.lower()}", np.asarray(end, np.float32).reshape(1, -1, 1, 1))
            wish = output if operator == "Min" or not np.isfinite(clamp[1]).any() else builder.fresh(f"{output}.limited")
            real = builder.node(operator, [real, limits], wish)


def window_attributes(window: Window, *, dilations: bool = True) -> dict[str, Any]:
    attributes = {"kernel_shape": list(window.kernel), "strides": list(window.strides), "pads": list(window.pads)}
    return {**attributes, "dilations": list(window.dilations)} if dilations else attributes


def pad_operands(builder: OnnxBuilder, output: str, pads: Pads, fill: FloatArray | IntArray) -> list[str]:
    """The constant operands of the Pad that writes tensor `output`."""
    top, left, bottom, right = pads
    amounts = builder.constant(f"{output}.pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    return [amounts, builder.constant(f"{output}.value", fill)]


def slice_operands(builder: OnnxBuilder, output: str, op: Slice) -> list[str]:
    """The constant operands of the Slice that writes tensor `output`."""
    starts, counts, steps = ([triple[axis] for axis in (2, 0, 1)] for triple in (op.starts, op.counts, op.steps))
    ends = [start + (count - 1) * step + 1 for start, count, step in zip(starts, counts, steps, strict=True)]
    named = {"starts": starts, "ends": ends, "axes": [1, 2, 3], "steps": steps}
    return [builder.constant(f"{output}.{name}", np.array(numbers, np.int64)) for name, numbers in named.items()]


def resize_node(builder: OnnxBuilder, op: Resize, source: str, output: str) -> None:
    """Tensor `source` enlarged."""
    scales = builder.constant(f"{output}.scales", np.array([1, 1, *op.factors], np.float32))
    builder.node("Resize", [source, "", scales], output, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


ALIKE_ON_CODES = (MaxPool, Concat, DepthToSpace, Resize, Slice)  # the same nodes on codes as on real values


def write_alike(builder: OnnxBuilder, node: Node, inputs: list[str], output: str) -> None:
    """An operator of ALIKE_ON_CODES from tensors to tensor `output`."""
    match node.op:
        case MaxPool():
            builder.node("MaxPool", inputs, output, **pool_attributes(builder, node)[1])
        case Concat() as op:
            builder.node("Concat", inputs, output, axis=(2, 3, 1)[op.axis])
        case DepthToSpace() as op:
            builder.node("DepthToSpace", inputs, output, blocksize=op.block, mode="CRD" if op.together else "DCR")
        case Resize() as op:
            resize_node(builder, op, inputs[0], output)
        case Slice() as op:
            builder.node("Slice", [*inputs, *slice_operands(builder, output, op)], output)


def pool_attributes(builder: OnnxBuilder, node: Node) -> tuple[Pads, dict[str, Any]]:
    """Attributes of MaxPool and AveragePool behind a Pad by zero of the given amounts; what ONNX cannot say is refused.

    A Pad is needed where one part of the padding counts in the divisor and another does not.
    """
    op, source = node.op, builder.graph.values[node.inputs[0]].type
    assert isinstance(op, MaxPool | AveragePool)
    direct = next(_pool_forms(op, source), None)
    if direct is not None:
        return (0, 0, 0, 0), direct
    if isinstance(op, AveragePool) and all(own >= counted for own, counted in zip(op.window.pads, op.counted_pads, strict=True)):
        top, left, bottom, right = (own - counted for own, counted in zip(op.window.pads, op.counted_pads, strict=True))
        rest = AveragePool(window=replace(op.window, pads=(top, left, bottom, right)))
        behind = next(_pool_forms(rest, Pad(pads=op.counted_pads).infer(source)), None)
        if behind is not None:
            return op.counted_pads, behind
    dilated = f" and dilations {op.window.dilations}" if isinstance(op, AveragePool) and op.window.dilations != (1, 1) else ""
    builder.refuse(node, f"kernel {op.window.kernel} with pads {op.window.pads}{dilated} cannot be written in opset {OPSET}")
    return (0, 0, 0, 0), {}


def _pool_forms(op: MaxPool | AveragePool, source: TensorType) -> Iterator[dict[str, Any]]:
    """Ways to write a pooling of `source`: rows and columns at the end of the padding may be left to ceil_mode, or be left out where no
    window reaches them. Not with a divisor that counts padding: ONNX Runtime's integer kernel then counts what ceil_mode adds as well."""
    window = op.window
    average = isinstance(op, AveragePool)
    if average and window.dilations != (1, 1):
        return
    counted = op.counted_pads if isinstance(op, AveragePool) else (0, 0, 0, 0)
    top, left, bottom, right = window.pads
    ends = [(rows, columns) for rows in range(bottom, -1, -1) for columns in range(right, -1, -1)]
    for include, ceil, (rows, columns) in product((any(counted), not any(counted)), (0, 1), ends):
        own = (top, left, rows, columns)
        if (ceil and include) or any(pad >= window.kernel[axis % 2] for axis, pad in enumerate(own)):
            continue
        written = replace(window, pads=_with_ceil(window, own, source) if ceil else own)
        same_size = _outputs(written, source) == _outputs(window, source)
        if same_size and (written.counts(source, own if include else (0, 0, 0, 0)) == window.counts(source, counted)).all():
            attributes = window_attributes(replace(window, pads=own), dilations=not average)
            yield attributes | ({"ceil_mode": 1} if ceil else {}) | ({"count_include_pad": int(include)} if average else {})


def _with_ceil(window: Window, own: Pads, source: TensorType) -> Pads:
    """All padding of a pooling that has pads `own` and ceil_mode."""
    rows = ceil_padding(source.height + own[0], own[2], window.extent[0], window.strides[0])
    columns = ceil_padding(source.width + own[1], own[3], window.extent[1], window.strides[1])
    return (own[0], own[1], own[2] + rows, own[3] + columns)


def _outputs(window: Window, source: TensorType) -> tuple[int, int]:
    return window.output_size(source.height, source.width)
