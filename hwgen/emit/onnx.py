"""The quantized network as standard ONNX: runs in ONNX Runtime, opens in Netron, loads again in hwgen."""

from __future__ import annotations

import onnx

from hwgen.emit.onnx_common import write
from hwgen.emit.onnx_qdq import QdqForm
from hwgen.emit.onnx_qoperator import QOperatorForm
from hwgen.ir.graph import Graph


def to_qdq(graph: Graph) -> onnx.ModelProto:
    """Float operators between DequantizeLinear and QuantizeLinear: the form that most tools exchange.
    Weights that fit 4 bits are INT4 constants beside uint8 activations, which ask for opset 21; all else is opset 13.

    Raises UnsupportedError, naming every operator that opset 13 cannot express.
    """
    return write(graph, QdqForm(graph))


def to_qoperator(graph: Graph) -> onnx.ModelProto:
    """Integer operators: in ONNX Runtime, certified networks give exactly the golden model's integers.

    Additions and poolings are operators of the domain com.microsoft. Raises UnsupportedError as `to_qdq`.
    """
    return write(graph, QOperatorForm(graph))
