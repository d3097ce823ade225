"""Operators that the processor computes, as ONNX: on real tensors (N, C, H, W), and where they only move or choose codes, on codes as well."""

from __future__ import annotations

from hwgen.emit.onnx_builder import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, OnnxBuilder
from hwgen.ir.graph import Node
from hwgen.ir.host import Transpose, simplified
from hwgen.ops.elementwise import Div, Extremum, Mul
from hwgen.ops.matmul import MatMul
from hwgen.ops.move import Move
from hwgen.ops.softmax import Softmax

ON_CODES = (Move, Extremum)  # the same on codes as on real values
AXIS = {1: 2, 2: 3, 3: 1}  # of (N, H, W, C) in (N, C, H, W)


def write_processor(builder: OnnxBuilder, node: Node, inputs: list[str], output: str) -> None:
    """The node's operator on the tensors `inputs`."""
    match node.op:
        case Mul() | Div():
            builder.node(type(node.op).__name__, inputs, output)
        case Extremum() as op:
            builder.node("Max" if op.largest else "Min", inputs, output)
        case Softmax() as op:
            builder.node("Softmax", inputs, output, axis=AXIS[op.axis])
        case Move() as op:
            kind = builder.graph.values[node.inputs[0]].type
            ends = Transpose(permutation=TO_CHANNELS_LAST), Transpose(permutation=TO_CHANNELS_FIRST)
            steps = simplified((ends[0], *op.steps, ends[1]), (kind.channels, kind.height, kind.width))
            builder.host(steps, inputs[0], output)
            if not steps:
                builder.node("Identity", inputs, output)
        case MatMul():
            turned, product = as_matrices(builder, inputs, output)
            builder.note_name(product, node.output)
            builder.node("MatMul", turned, product)
            builder.node("Transpose", [product], output, perm=list(TO_CHANNELS_FIRST))


def as_matrices(builder: OnnxBuilder, inputs: list[str], output: str) -> tuple[list[str], str]:
    """The operands with rows and columns last, and the name of their product before it is turned back."""
    turned = [builder.node("Transpose", [name], builder.fresh(f"{output}.operand"), perm=list(TO_CHANNELS_LAST)) for name in inputs]
    return turned, builder.fresh(f"{output}.product")
