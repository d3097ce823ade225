"""A transposed convolution as ConvTranspose, its weights and bias as codes behind DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwgen.emit.onnx_builder import OnnxBuilder
from hwgen.emit.onnx_common import dequantized, weight_scale
from hwgen.ir.graph import Node
from hwgen.ops.conv import Conv


def transposed_node(builder: OnnxBuilder, node: Node, real: str, output: str) -> None:
    """From the float tensor `real` to `output`. Only the kernel's own padding can be written, and less."""
    op = node.op
    assert isinstance(op, Conv)
    scale = weight_scale(op)
    codes = np.ascontiguousarray(op.codes[:, ::-1, ::-1].transpose(3, 0, 1, 2))
    unit = np.asarray(np.float32(builder.graph.values[node.inputs[0]].quantized.scale) * scale, np.float32)
    if op.bias_fraction or codes.dtype != np.int8:
        builder.refuse(node, "weights beyond int8, and a bias in parts of products, cannot be written for a transposed convolution")
    weight = dequantized(builder, f"{node.name}.weight", codes, scale, 1)
    bias = dequantized(builder, f"{node.name}.bias", op.bias.astype(np.int32), unit)
    attributes: dict[str, Any] = {"kernel_shape": list(op.window.kernel), "strides": list(op.spread), "dilations": list(op.window.dilations), **padding(op)}
    builder.node("ConvTranspose", [real, weight, bias], output, **attributes)


def padding(op: Conv) -> dict[str, list[int]]:
    """pads and output_padding of a transposed convolution."""
    reach = [extent - 1 for extent in op.window.extent]
    begins = [reach[axis] - op.window.pads[axis] for axis in (0, 1)]
    ends = [reach[axis] - op.window.pads[axis + 2] for axis in (0, 1)]
    return {"pads": [*begins, *(max(end, 0) for end in ends)], "output_padding": [max(-end, 0) for end in ends]}
