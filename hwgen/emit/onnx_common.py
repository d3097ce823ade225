"""What the QDQ and the QOperator form have in common: the walk over the graph, window attributes, quantization constants."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from hwgen.emit.onnx_builder import OnnxBuilder
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import IntArray, Quantization
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv
from hwgen.ops.max_pool import MaxPool


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


def onnx_weight(op: Conv) -> IntArray:
    """(C_out, C_in / group, kernel rows, kernel columns)"""
    return np.ascontiguousarray(op.weight.transpose(0, 3, 1, 2)).astype(np.int8)


def weight_scale(op: Conv) -> npt.NDArray[np.float32]:
    """(C,), or a scalar array where the scales of all channels are equal."""
    scales = np.asarray(op.weight_scale, np.float32)
    return scales if (scales != scales[0]).any() else scales[0].reshape(())


def window_attributes(window: Window, *, dilations: bool = True) -> dict[str, Any]:
    attributes = {"kernel_shape": list(window.kernel), "strides": list(window.strides), "pads": list(window.pads)}
    return {**attributes, "dilations": list(window.dilations)} if dilations else attributes


def pool_attributes(builder: OnnxBuilder, node: Node) -> dict[str, Any]:
    """Attributes of MaxPool and AveragePool; what ONNX cannot say is refused."""
    op = node.op
    assert isinstance(op, MaxPool | AveragePool)
    window = op.window
    if any(pad >= window.kernel[axis % 2] for axis, pad in enumerate(window.pads)):
        builder.refuse(node, f"pads must be smaller than the kernel {window.kernel} in ONNX, not {window.pads}")
    if isinstance(op, MaxPool):
        return window_attributes(window)
    if window.dilations != (1, 1):
        builder.refuse(node, f"dilations {window.dilations} cannot be written in opset 13")
    if op.counted_pads not in ((0, 0, 0, 0), window.pads):
        builder.refuse(node, f"a divisor that counts pads {op.counted_pads} of {window.pads} cannot be written")
    return {**window_attributes(window, dilations=False), "count_include_pad": int(any(op.counted_pads))}
