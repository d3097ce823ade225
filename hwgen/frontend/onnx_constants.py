"""Evaluation of what is known at import: constants, and the shape arithmetic that exporters leave in a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from hwgen.arith import IntType
from hwgen.errors import ModelError
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import Array, Constant
from hwgen.ops.base import MAX_ELEMENTS

PROBE_BATCHES = (2, 3)  # two sizes that no shape arithmetic confuses: what equals the batch under both is the batch

PACKED_INTEGERS: Mapping[int, IntType] = {  # ONNX's types of a few bits; NumPy has no such kinds
    onnx.TensorProto.INT4: IntType(4),
    onnx.TensorProto.UINT4: IntType(4, False),
    onnx.TensorProto.INT2: IntType(2),
    onnx.TensorProto.UINT2: IntType(2, False),
}

ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Div", "Equal", "Exp", "Floor", "Greater", "GreaterOrEqual", "Identity", "Less",
        "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round", "Sign", "Sqrt", "Sub", "Sum", "Where",
    }
)
MOVING = frozenset(
    {
        "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
        "ReduceSum", "ReduceSumSquare", "Reshape", "Size", "Slice", "Squeeze", "Transpose", "Unsqueeze",
    }
)
FOLDABLE = ELEMENTWISE | MOVING


def constant_node(node: OnnxNode) -> Constant:
    """The value of a Constant node, in any of its forms."""
    forms = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for attribute, value in node.attributes.items():
        if attribute == "value":
            return Constant.of(tensor(value, f"Constant {node.name!r}"))
        if attribute in forms:
            return Constant.of(np.asarray(value, forms[attribute]))
        raise node.refuse("only numbers are supported, dense", attribute)
    raise node.malformed("must hold a value")


def tensor(proto: onnx.TensorProto, where: str) -> Array:
    """Contents of a TensorProto; raises ModelError when its data do not fit its shape, or hold NaN."""
    if any(size < 0 for size in proto.dims):
        raise ModelError(f"{where}: sizes must not be negative, found {list(proto.dims)}")
    if math.prod(proto.dims) > MAX_ELEMENTS:
        raise ModelError(f"{where}: must hold at most {MAX_ELEMENTS} elements, not the {list(proto.dims)} that it declares")
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelError(f"{where}: its external data were not read; load the model from its file")
    try:
        array = np.asarray(onnx.numpy_helper.to_array(proto))
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise ModelError(f"{where}: data do not fit shape {list(proto.dims)} ({_first_line(error)}); the file is damaged") from error
    if proto.data_type in PACKED_INTEGERS:
        array = array.astype(np.int8 if PACKED_INTEGERS[proto.data_type].signed else np.uint8)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ModelError(f"{where}: must be finite, but holds NaN; train or export the model again")
    if array.dtype.kind == "f" and array.size > 1 and np.isinf(array).any():
        raise ModelError(f"{where}: must be finite, but holds infinity; train or export the model again")
    return array


def fold(node: OnnxNode, inputs: Sequence[Constant | None]) -> Constant:
    """The node's first output on constant operands (None: absent). Raises Refusal for operators outside FOLDABLE, ModelError when it fails."""
    if node.operator not in FOLDABLE:
        raise node.refuse("is not supported on constants")
    first, second = ([None if operand is None else operand.probes[probe] for operand in inputs] for probe in (0, 1))
    if any(operand is not None and operand.varies for operand in inputs):
        return Constant(probes=(_evaluate(node, first), _evaluate(node, second)))
    return Constant.of(_evaluate(node, first))


def _evaluate(node: OnnxNode, operands: Sequence[Array | None]) -> Array:
    _refuse_explosion(node, operands)
    feeds = {name: operand for name, operand in zip(node.inputs, operands, strict=True) if name and operand is not None}
    try:
        with np.errstate(all="ignore"):
            (result, *_) = ReferenceEvaluator(_alone(node, feeds)).run(None, feeds)
    except Exception as error:  # the evaluator raises whatever NumPy raises on operands that do not fit
        raise node.malformed(f"cannot be evaluated on its constants ({_first_line(error)})") from error
    return np.asarray(result)


def _alone(node: OnnxNode, feeds: Mapping[str, Array]) -> onnx.ModelProto:
    """A model of this node: given the bare node, the evaluator takes the newest form of its operator instead of the opset's."""
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in feeds.items()]
    outputs = [onnx.helper.make_tensor_value_info(node.output, onnx.TensorProto.UNDEFINED, None)]
    graph = onnx.helper.make_graph([node.proto], "constant", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", node.opset)])


def _refuse_explosion(node: OnnxNode, operands: Sequence[Array | None]) -> None:
    """A few bytes of a hostile model must not ask for gigabytes."""
    known = [operand for operand in operands if operand is not None]
    size = sum(operand.size for operand in known)
    if node.operator in ("ConstantOfShape", "Expand") and known:
        size = math.prod(max(int(n), 1) for n in known[-1].reshape(-1)) * (known[0].size if node.operator == "Expand" else 1)
    elif node.operator == "Gather" and len(known) == 2:
        size = known[0].size * max(known[1].size, 1)
    elif node.operator in ELEMENTWISE:
        try:
            size = math.prod(np.broadcast_shapes(*(operand.shape for operand in known)))
        except ValueError as error:
            raise node.malformed(f"operands of shapes {[operand.shape for operand in known]} do not broadcast") from error
    if size > MAX_ELEMENTS:
        raise node.malformed(f"a constant must hold at most {MAX_ELEMENTS} elements, not {size}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
