"""The QDQ form: float operators between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

import numpy as np

from hwgen.emit.onnx_builder import OnnxBuilder
from hwgen.emit.onnx_common import (
    ALIKE_ON_CODES,
    Constants,
    dequantized,
    limit_channels,
    onnx_weight,
    pad_operands,
    pool_attributes,
    weight_scale,
    window_attributes,
    write_alike,
)
from hwgen.emit.onnx_lookup import write_lookup
from hwgen.emit.onnx_processor import write_processor
from hwgen.emit.onnx_transposed import transposed_node
from hwgen.ir.graph import Graph, Node
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import UNLIMITED, Interval, Pads, clamp_of
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import Conv
from hwgen.ops.integer import is_global
from hwgen.ops.lookup import Lookup
from hwgen.ops.pad import Pad


class QdqForm:
    """Every value is a float tensor that is quantized and dequantized once."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.builder = graph, OnnxBuilder(graph)
        self.constants = Constants(self.builder)
        self.codes: dict[str, str] = {}  # value -> quantized tensor
        self.reals: dict[str, str] = {}  # value -> dequantized tensor

    def enter(self, value: str, real: str) -> None:
        self._round_trip(value, real)

    def leave(self, value: str, real: str) -> None:
        self.builder.node("DequantizeLinear", [self.codes[value], *self.constants.pair(value)], real)

    def _round_trip(self, value: str, real: str) -> None:
        builder, pair = self.builder, self.constants.pair(value)
        self.codes[value] = builder.node("QuantizeLinear", [real, *pair], builder.fresh(f"{value}.quantized"))
        self.reals[value] = ""

    def _real(self, value: str) -> str:
        """The dequantized tensor, written when the first operator reads it."""
        if not self.reals[value]:
            name = self.builder.fresh(f"{value}.dequantized")
            self.reals[value] = self.builder.node("DequantizeLinear", [self.codes[value], *self.constants.pair(value)], name)
        return self.reals[value]

    def write(self, node: Node) -> None:
        builder = self.builder
        output = builder.value_name(node.output)
        clamp = clamp_of(node.op)
        limited = clamp != UNLIMITED and not isinstance(node.op, Clamp)
        self._operator(node, builder.fresh(f"{node.output}.unlimited") if limited else output)
        if limited:
            self._limit(builder.nodes[-1].output[0], clamp, output)
        self._round_trip(node.output, output)

    def _operator(self, node: Node, output: str) -> None:
        builder, inputs = self.builder, [self._real(name) for name in node.inputs]
        match node.op:
            case Conv(is_transposed=True):
                transposed_node(builder, node, inputs[0], output)
            case Conv() as op:
                parameters = [self._weight(node, op), self._bias(node, op)]
                builder.node("Conv", [*inputs, *parameters], output, group=op.group, **window_attributes(op.window))
            case Add():
                builder.node("Add", inputs, output)
            case op if isinstance(op, ALIKE_ON_CODES):
                write_alike(builder, node, inputs, output)
            case AveragePool() if is_global(node, self.graph):
                builder.node("GlobalAveragePool", inputs, output)
            case AveragePool():
                pads, attributes = pool_attributes(builder, node)
                builder.node("AveragePool", [self._padded(node, pads)] if any(pads) else inputs, output, **attributes)
            case Pad() as op:
                builder.node("Pad", [*inputs, *pad_operands(builder, output, op.pads, np.array(op.value, np.float32))], output)
            case Lookup() as op:
                write_lookup(builder, op, inputs[0], output)
            case Clamp() as op:
                self._limit(inputs[0], op.clamp, output)
            case _:
                write_processor(builder, node, inputs, output)

    def _padded(self, node: Node, pads: Pads) -> str:
        """The real tensor that the node reads, with zeros around it."""
        builder, value = self.builder, node.inputs[0]
        name, pair = builder.fresh(f"{node.output}.padded"), self.constants.pair(value)
        builder.node("Pad", [self._real(value), *pad_operands(builder, name, pads, np.array(0, np.float32))], name)
        codes = builder.node("QuantizeLinear", [name, *pair], builder.fresh(f"{name}.quantized"))
        return builder.node("DequantizeLinear", [codes, *pair], builder.fresh(f"{name}.dequantized"))

    def _limit(self, real: str, clamp: Interval, output: str) -> None:
        if clamp == (0.0, np.inf):
            self.builder.node("Relu", [real], output)
            return
        if any(np.size(end) > 1 for end in clamp):
            limit_channels(self.builder, real, clamp, output)
            return
        named = zip(("min", "max"), clamp, strict=True)
        ends = [self.builder.constant(f"{output}.{name}", np.array(end, np.float32)) if np.isfinite(end) else "" for name, end in named]
        self.builder.node("Clip", [real, *ends], output)

    def _weight(self, node: Node, op: Conv) -> str:
        codes, zero_point = onnx_weight(op)
        scale = weight_scale(op)
        if zero_point.ndim:
            scale = np.broadcast_to(scale, zero_point.shape)
        return dequantized(self.builder, f"{node.name}.weight", codes, scale, 0, np.broadcast_to(zero_point, scale.shape))

    def _bias(self, node: Node, op: Conv) -> str:
        scale = weight_scale(op)
        unit = np.ldexp(np.asarray(np.float32(self.graph.values[node.inputs[0]].quantized.scale) * scale, np.float32), -op.bias_fraction)
        return dequantized(self.builder, f"{node.name}.bias", op.bias.astype(np.int32), unit)
