"""The quantized operators of ONNX and ONNX Runtime, taken apart: QuantizeLinear and DequantizeLinear, and the QOperator form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from hwgen.arith import IntType
from hwgen.frontend.onnx_constants import fold
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import Constant
from hwgen.frontend.qdq_strip import LAYOUT, MICROSOFT, ON_CODES, Array, Handler, Parameter, RefusedError, Stripper
from hwgen.ir.types import Quantization

REAL_FACTORS = ("PRelu", "LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization")


def quantize(s: Stripper, node: onnx.NodeProto) -> None:
    source = s.operand(node, 0)
    if source in s.codes:
        raise RefusedError("its input holds codes already")
    if source in s.constants:
        s.constants[node.output[0]] = constant_codes(s, node)
        return
    real, quantization, kind = s.alias.get(source, source), s.quantization(node, 1), s.code_type(node, 2)
    if kind.bits < 8:  # codes of fewer bits are bytes here, with limits
        zero_point = quantization.zero_point + quantization.outside_offset
        real = node.output[0]
        s.put_limits(source, real, quantization.scale, kind.min - zero_point, kind.max - zero_point)
    s.mark(node.output[0], real, quantization)


def constant_codes(s: Stripper, node: onnx.NodeProto) -> Array:
    """What QuantizeLinear makes of a constant."""
    real, scale = s.array(node, 0), s.array(node, 1)
    zero_point = s.array(node, 2) if len(node.input) > 2 and node.input[2] else np.zeros((), np.uint8)
    if real.dtype.kind != "f" or scale.dtype.kind != "f" or zero_point.dtype.kind not in "iu" or zero_point.size not in (1, scale.size):
        raise RefusedError("must quantize real numbers by real scales, and have integer zero points, one or as many as scales")
    shape = s.channel_shape(node, real, scale)
    limits = s.code_type(node, 2)
    with np.errstate(all="ignore"):
        codes = np.rint(real.astype(np.float32) / scale.astype(np.float32).reshape(shape)) + zero_point.reshape(shape if zero_point.size > 1 else ())
    result: Array = np.clip(np.nan_to_num(codes), limits.min, limits.max).astype(np.int64)
    return result


def dequantize(s: Stripper, node: onnx.NodeProto) -> None:
    name = s.operand(node, 0)
    if name in s.constants:
        zero_point = s.array(node, 2) if len(node.input) > 2 and node.input[2] else None
        parameter = s.parameter(node, 0, s.array(node, 1), zero_point, s.axis(node))
        s.put_parameter(node.output[0], parameter)
        return
    if name not in s.codes:
        raise RefusedError(f"its input {name!r} is not quantized")
    quantization = s.quantization(node, 1, IntType(8, not s.codes[name].unsigned))
    s.same(name, quantization)
    s.alias[node.output[0]] = s.alias[name]


def keep(s: Stripper, node: onnx.NodeProto) -> None:
    """A float operator, or one that works on codes as on real values."""
    if node.op_type == "Constant":
        for attribute in node.attribute:
            if attribute.name == "value":
                s.put_constant(node.output[0], attribute.t)
    if node.op_type in (*LAYOUT, "Clip") and node.domain in ("", "ai.onnx") and node.input and all(name in s.constants for name in node.input if name):
        operands = [Constant.of(s.constants[name]) if name else None for name in node.input]
        s.constants[node.output[0]] = fold(OnnxNode.read(node, s.opset), operands).probes[0]
    node = with_real_operands(s, node)
    parameters = [name for name in node.input if name in s.result.parameters]
    if parameters and not takes_parameters(s, node, parameters):
        raise RefusedError(f"must not read the quantized constant {parameters[0]!r}")
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = str(len(s.result.names) - 1)
    coded = next((s.codes[name] for name in node.input if name in s.codes), None)
    del copy.input[:]
    copy.input.extend(s.alias.get(name, name) for name in node.input)
    if coded is not None:
        if node.op_type not in ON_CODES:
            raise RefusedError("must read real values, not codes")
        for name in node.input:
            if name in s.codes:
                s.same(name, coded)
        real_limits(s, copy, coded)
        for name in filter(None, node.output):
            s.mark(name, name, coded)
    s.nodes.append(copy)


def with_real_operands(s: Stripper, node: onnx.NodeProto) -> onnx.NodeProto:
    """A quantized constant that is added to a quantized activation, or multiplied by it, is a real constant, as are factors of REAL_FACTORS."""
    quantized = [name for name in node.input if s.alias.get(name, name) in s.result.activations]
    if node.op_type not in REAL_FACTORS and (node.op_type not in ("Add", "Sub", "Mul", "Div") or not quantized):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for index, name in enumerate(node.input):
        if name in s.result.parameters:
            copy.input[index] = s.constant(f"{name}.real", s.result.parameters[name].real)
    return copy


def takes_parameters(s: Stripper, node: onnx.NodeProto, parameters: Sequence[str]) -> bool:
    if node.op_type == "Transpose":
        parameter = s.result.parameters[parameters[0]]
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), list(range(parameter.codes.ndim))[::-1])
        if sorted(order) != list(range(parameter.codes.ndim)):
            raise RefusedError(f"attribute perm must order {parameter.codes.ndim} dimensions, not {order}")
        moved = Parameter(codes=parameter.codes.transpose(order), scale=parameter.scale, axis=order.index(parameter.axis))
        s.result.parameters[node.output[0]] = moved
        return True
    if node.op_type in LAYOUT:
        parameter = s.result.parameters[parameters[0]]
        s.result.parameters[node.output[0]] = parameter
        return bool(parameter.scale.size == 1 or node.op_type == "Identity")
    return node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add")


def real_limits(s: Stripper, node: onnx.NodeProto, quantization: Quantization) -> None:
    """Constant codes of Clip and Pad become real values."""
    for index in {"Clip": (1, 2), "Pad": (2,)}.get(node.op_type, ()):
        if len(node.input) > index and node.input[index]:
            code = s.array(node, index).astype(np.int64) - quantization.outside_offset
            node.input[index] = s.constant(f"{node.output[0]}.limit", quantization.dequantize(code))
    if node.op_type == "Pad" and not (len(node.input) > 2 and node.input[2]):
        node.input.extend([""] * (2 - len(node.input)))
        fill = quantization.dequantize(np.array(-quantization.outside_offset))
        del node.input[2:]
        node.input.append(s.constant(f"{node.output[0]}.fill", fill))


def activation(s: Stripper, node: onnx.NodeProto, index: int) -> str:
    """The codes at operand index, whose scale and zero point follow."""
    name = s.operand(node, index)
    if name not in s.codes:
        raise RefusedError(f"input {index} must be an activation, {name!r} is not")
    s.same(name, s.quantization(node, index + 1))
    return name


def conv(s: Stripper, node: onnx.NodeProto) -> None:
    dense(s, node, "Conv", 0, (8,))


def matmul(s: Stripper, node: onnx.NodeProto) -> None:
    dense(s, node, "MatMul", -1, ())


def gemm(s: Stripper, node: onnx.NodeProto) -> None:
    if node.domain != MICROSOFT:
        raise RefusedError("must be of the domain com.microsoft")
    transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
    dense(s, node, "Gemm", 0 if transposed else 1, (6,))


def real_constant(s: Stripper, node: onnx.NodeProto, index: int) -> str:
    """The constant codes at operand index, whose scale and zero point follow, as real numbers."""
    parameter = s.parameter(node, index, s.array(node, index + 1), s.array(node, index + 2), 0)
    return s.constant(f"{node.input[index]}.real", parameter.real)


def dense(s: Stripper, node: onnx.NodeProto, operator: str, axis: int, bias_at: tuple[int, ...]) -> None:
    x = activation(s, node, 0)
    weight = s.parameter(node, 3, s.array(node, 4), s.array(node, 5), axis)
    inputs = [x, s.put_parameter(s.fresh(f"{node.output[0]}.weight"), weight)]
    result_at = 7 if operator == "Gemm" else 6
    result = s.quantization(node, result_at)
    for index in bias_at:
        if len(node.input) > index and node.input[index]:
            unit = np.float32(s.codes[x].scale) * weight.scale
            bias = s.parameter(node, index, unit, None, 0)
            inputs.append(s.put_parameter(s.fresh(f"{node.output[0]}.bias"), bias))
    s.put(operator, inputs, node.output[0], node.attribute)
    s.mark(node.output[0], node.output[0], result)


def add(s: Stripper, node: onnx.NodeProto) -> None:
    """QLinearAdd, QLinearMul: of two activations, or of one and a constant."""
    operator = node.op_type.removeprefix("QLinear")
    constants = [index for index in (0, 3) if s.operand(node, index) in s.constants]
    if len(constants) == 2:
        raise RefusedError("must have an activation as operand, both are constant")
    operands = [real_constant(s, node, index) if index in constants else activation(s, node, index) for index in (0, 3)]
    s.put(operator, operands, node.output[0])
    s.mark(node.output[0], node.output[0], s.quantization(node, 6))


def pool(s: Stripper, node: onnx.NodeProto) -> None:
    operator = node.op_type.removeprefix("QLinear")
    if any(a.name == "channels_last" and a.i for a in node.attribute):
        raise RefusedError("attribute channels_last must be 0")
    if all(any(a.name == name and a.i for a in node.attribute) for name in ("ceil_mode", "count_include_pad")):
        raise RefusedError("attributes ceil_mode and count_include_pad must not both be 1: its divisor then counts more than ONNX's AveragePool")
    attributes = [a for a in node.attribute if a.name != "channels_last"]
    s.put(operator, [activation(s, node, 0)], node.output[0], attributes)
    s.mark(node.output[0], node.output[0], s.quantization(node, 3))


def concat(s: Stripper, node: onnx.NodeProto) -> None:
    result = s.quantization(node, 0)
    names = [activation(s, node, index) for index in range(2, len(node.input), 3)]
    s.put("Concat", names, node.output[0], node.attribute)
    s.mark(node.output[0], node.output[0], result)


def function(s: Stripper, node: onnx.NodeProto) -> None:
    """QLinearSigmoid, QLinearLeakyRelu: a function of one value."""
    s.put(node.op_type.removeprefix("QLinear"), [activation(s, node, 0)], node.output[0], node.attribute)
    s.mark(node.output[0], node.output[0], s.quantization(node, 3))


def softmax(s: Stripper, node: onnx.NodeProto) -> None:
    """QLinearSoftmax, whose attribute opset says which dimensions are taken together: those of the model's own opset."""
    attributes = {a.name: a for a in node.attribute}
    opset = attributes["opset"].i if "opset" in attributes else s.opset
    if (opset < 13) != (s.opset < 13):
        raise RefusedError(f"attribute opset must be of the same kind as the model's opset {s.opset}, below 13 or not, but is {opset}")
    s.put("Softmax", [activation(s, node, 0)], node.output[0], [a for name, a in attributes.items() if name == "axis"])
    s.mark(node.output[0], node.output[0], s.quantization(node, 3))


def dynamic(s: Stripper, node: onnx.NodeProto) -> None:
    raise RefusedError("belongs to dynamic quantization, whose scales are computed from each input; quantize statically, with calibration data")


HANDLERS: dict[str, Handler] = {
    "": keep,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "QLinearConv": conv,
    "QLinearMatMul": matmul,
    "QGemm": gemm,
    "QLinearAdd": add,
    "QLinearMul": add,
    "QLinearAveragePool": pool,
    "QLinearGlobalAveragePool": pool,
    "QLinearConcat": concat,
    "QLinearSigmoid": function,
    "QLinearLeakyRelu": function,
    "QLinearSoftmax": softmax,
    "DynamicQuantizeLinear": dynamic,
    "ConvInteger": dynamic,
    "MatMulInteger": dynamic,
    "DynamicQuantizeMatMul": dynamic,
    "MatMulIntegerToFloat": dynamic,
}
