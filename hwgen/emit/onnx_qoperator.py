"""The QOperator form: integer operators (QLinearConv, QLinearAdd, ...), whose results in ONNX Runtime are the golden integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwgen.arith import INT8
from hwgen.emit.onnx_builder import TO_CHANNELS_FIRST, OnnxBuilder
from hwgen.emit.onnx_common import (
    ALIKE_ON_CODES,
    Constants,
    limit_channels,
    onnx_weight,
    outside_code,
    pad_operands,
    pool_attributes,
    weight_scale,
    window_attributes,
    write_alike,
)
from hwgen.emit.onnx_lookup import write_lookup
from hwgen.emit.onnx_processor import ON_CODES, as_matrices, write_processor
from hwgen.emit.onnx_transposed import transposed_node
from hwgen.frontend.qdq_strip import MICROSOFT
from hwgen.ir.graph import Graph, Node
from hwgen.layout import Int64Array
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Pads, channel_limits, clamp_of
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import Conv
from hwgen.ops.elementwise import Mul
from hwgen.ops.integer import channel_clamp_codes, is_global, pad_code
from hwgen.ops.lookup import Lookup
from hwgen.ops.matmul import MatMul
from hwgen.ops.pad import Pad


class QOperatorForm:
    """Every value is one uint8 or int8 tensor."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.builder = graph, OnnxBuilder(graph)
        self.constants = Constants(self.builder)
        self.codes: dict[str, str] = {}

    def enter(self, value: str, real: str) -> None:
        name = self.builder.fresh(f"{value}.quantized")
        self.codes[value] = self.builder.node("QuantizeLinear", [real, *self.constants.pair(value)], name)

    def leave(self, value: str, real: str) -> None:
        self.builder.node("DequantizeLinear", [self.codes[value], *self.constants.pair(value)], real)

    def write(self, node: Node) -> None:
        builder, q = self.builder, self.graph.values[node.output].quantized
        output = self.codes[node.output] = builder.value_name(node.output)
        low, high = channel_clamp_codes(clamp_of(node.op), q, self.graph.values[node.output].type.channels)
        if isinstance(node.op, Clamp):
            self._limit(node.output, self.codes[node.inputs[0]], (low, high), output)
            return
        limited = bool((low > INT8.min).any() or (high < INT8.max).any())
        self._operator(node, builder.fresh(f"{node.output}.unlimited") if limited else output)
        if limited:
            self._limit(node.output, builder.nodes[-1].output[0], (low, high), output)

    def _limit(self, value: str, source: str, codes: tuple[Int64Array, Int64Array], output: str) -> None:
        """Codes (C,) by Clip where all channels have the same; else on real values, since ONNX Runtime's Min and Max take no 8-bit codes.
        From code to real value and back is exact."""
        builder, q = self.builder, self.graph.values[value].quantized
        if all((end == end[0]).all() for end in codes):
            ends = [builder.constant(f"{output}.{name}", outside_code(q, int(end[0]))) for name, end in zip(("min", "max"), codes, strict=True)]
            builder.node("Clip", [source, *ends], output)
            return
        real = builder.node("DequantizeLinear", [source, *self.constants.pair(value)], builder.fresh(f"{output}.real"))
        limited = builder.fresh(f"{output}.limits")
        limit_channels(builder, real, (channel_limits(q.dequantize(codes[0])), channel_limits(q.dequantize(codes[1]))), limited)
        builder.node("QuantizeLinear", [limited, *self.constants.pair(value)], output)

    def _operator(self, node: Node, output: str) -> None:
        builder, inputs = self.builder, [self.codes[name] for name in node.inputs]
        operands = [part for name in node.inputs for part in (self.codes[name], *self.constants.pair(name))]
        result = self.constants.pair(node.output)
        match node.op:
            case Conv(is_transposed=True):
                self._between_reals(node, output, lambda real, result: transposed_node(builder, node, real, result))
            case Conv() as op:
                if op.bias_fraction:
                    builder.refuse(node, "QLinearConv takes a bias in whole products only")
                parameters = [*self._weight(node, op), *result, builder.constant(f"{node.name}.bias", op.bias.astype(np.int32))]
                builder.node("QLinearConv", [*operands, *parameters], output, group=op.group, **window_attributes(op.window))
            case Add():
                builder.node("QLinearAdd", [*operands, *result], output, domain=MICROSOFT)
            case op if isinstance(op, ALIKE_ON_CODES):
                write_alike(builder, node, inputs, output)
            case AveragePool() if is_global(node, self.graph):
                builder.node("QLinearGlobalAveragePool", [*operands, *result], output, domain=MICROSOFT, channels_last=0)
            case AveragePool():
                pads, attributes = pool_attributes(builder, node)
                operands[:1] = [self._padded(node, pads)] if any(pads) else inputs
                builder.node("QLinearAveragePool", [*operands, *result], output, domain=MICROSOFT, **attributes)
            case Lookup() as lookup:
                self._between_reals(node, output, lambda real, result: write_lookup(builder, lookup, real, result))
            case Pad() as op:
                q = self.graph.values[node.output].quantized
                fill = outside_code(q, pad_code(node, self.graph))
                builder.node("Pad", [*inputs, *pad_operands(builder, output, op.pads, fill)], output)
            case Mul():
                builder.node("QLinearMul", [*operands, *result], output, domain=MICROSOFT)
            case MatMul():
                turned, product = as_matrices(builder, inputs, output)
                builder.note_name(product, node.output)
                factors = [part for matrix, name in zip(turned, node.inputs, strict=True) for part in (matrix, *self.constants.pair(name))]
                builder.node("QLinearMatMul", [*factors, *result], product)
                builder.node("Transpose", [product], output, perm=list(TO_CHANNELS_FIRST))
            case op if isinstance(op, ON_CODES):
                write_processor(builder, node, inputs, output)
            case _:
                self._on_reals(node, output)

    def _on_reals(self, node: Node, output: str) -> None:
        """An operator without an integer form in ONNX, between DequantizeLinear and QuantizeLinear."""
        builder = self.builder
        reals = [builder.node("DequantizeLinear", [self.codes[name], *self.constants.pair(name)], builder.fresh(f"{output}.operand")) for name in node.inputs]
        result = builder.fresh(f"{output}.real")
        builder.note_name(result, node.output)
        write_processor(builder, node, reals, result)
        builder.node("QuantizeLinear", [result, *self.constants.pair(node.output)], output)

    def _between_reals(self, node: Node, output: str, write: Callable[[str, str], None]) -> None:
        """An operator without an integer kernel: `write` writes it from a real tensor to another."""
        builder, (source,) = self.builder, node.inputs
        real = builder.node("DequantizeLinear", [self.codes[source], *self.constants.pair(source)], builder.fresh(f"{output}.operand"))
        result = builder.fresh(f"{output}.real")
        if output == self.codes[node.output]:  # else a limit follows, whose result has the value's name
            builder.note_name(result, node.output)
        write(real, result)
        builder.node("QuantizeLinear", [result, *self.constants.pair(node.output)], output)

    def _padded(self, node: Node, pads: Pads) -> str:
        """The codes that the node reads, with zeros around them."""
        name, q = self.builder.fresh(f"{node.output}.padded"), self.graph.values[node.inputs[0]].quantized
        operands = pad_operands(self.builder, name, pads, outside_code(q, q.zero_point))
        return self.builder.node("Pad", [self.codes[node.inputs[0]], *operands], name)

    def _weight(self, node: Node, op: Conv) -> list[str]:
        codes, zero_point = onnx_weight(op)
        scale = weight_scale(op)
        if zero_point.ndim:
            self.builder.refuse(node, "QLinearConv takes one weight zero point for all channels")
            zero_point = zero_point[0]
        arrays = {"weight": codes, "weight.scale": scale, "weight.zero_point": np.broadcast_to(zero_point, scale.shape)}
        return [self.builder.constant(f"{node.name}.{name}", array) for name, array in arrays.items()]
