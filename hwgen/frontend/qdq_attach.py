"""Put quantization back onto the graph that the float front end imported from a stripped model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx

from hwgen.arith import INT8
from hwgen.errors import ModelError, QuantizationError, Unsupported, UnsupportedError
from hwgen.frontend.fine_conv import fine_conv
from hwgen.frontend.onnx_constants import tensor
from hwgen.frontend.qdq_strip import LAYOUT, Array, Parameter, Stripped
from hwgen.ir.graph import Graph, Node, Value, fresh_name
from hwgen.ir.types import Quantization
from hwgen.ops.base import UNLIMITED, Window
from hwgen.ops.check import COPYING, GREATEST_WEIGHT, MAX_FRACTION, check_scale
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import Conv
from hwgen.ops.lookup import Function, Lookup
from hwgen.optimize.fold_batch_norm import is_affine

COPYING_OPERATORS = (*LAYOUT, "Relu", "Clip", "Min", "Max", "Pad", "Dropout")
ELEMENTWISE = ("Mul", "Div", "Add", "Sub", "Cast")


FRACTION_TOLERANCE = 1e-5  # of a logarithm: what rounding scales to float32 leaves
FACTOR_TOLERANCE = 1e-3  # of a code: what rounding its product with a factor to float32 leaves
WAY_OUT = "quantize the whole model, or give the float model and calibration data"
Reals = npt.NDArray[np.float64]
PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
REDUCTIONS = ("ReduceMean", "ReduceSum")


def attach(graph: Graph, stripped: Stripped) -> Graph:
    """The quantized graph; `graph` holds codes as weights. Raises UnsupportedError naming what is not quantized in a supported way."""
    implied = {name: value.quantization for name, value in graph.values.items() if value.quantization is not None}
    known = quantization_by_value(graph, stripped, {**implied, **stripped.activations})
    values = {name: replace(value, quantization=known.get(name)) for name, value in graph.values.items()}
    problems = [not_quantized(value, graph, stripped) for value in values.values() if value.quantization is None]
    if problems:
        raise UnsupportedError(problems)
    problems = [problem for node in graph.nodes for problem in _rounded_twice(node, values, stripped)]
    nodes = []
    reader = Parameters(stripped)
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Conv):
            try:
                op = reader.quantized(node, op, values[node.inputs[0]].quantized, values[node.output].quantized)
            except ModelError as error:
                problems.append(Unsupported(node=node.name, operator="Conv", reason=str(error)))
        nodes.append(replace(node, op=op, source=tuple(original(stripped, name) for name in node.source)))
    if problems:
        raise UnsupportedError(problems)
    return with_equal_scales(replace(graph, nodes=tuple(nodes), values=values))


def with_equal_scales(graph: Graph) -> Graph:
    """Operators that keep codes get operands of their result's quantization: by a convolution with weight 1 where it is another one. That is
    the same as rounding behind them, because rounding is monotone and they only choose among values."""
    nodes, values = [], dict(graph.values)
    for node in graph.nodes:
        y = values[node.output].quantized
        if isinstance(node.op, COPYING):
            operands = []
            for name in node.inputs:
                x = values[name].quantized
                if (x.scale, x.zero_point) == (y.scale, y.zero_point):
                    pass
                elif isinstance(node.op, Clamp):
                    node = replace(node, op=replace(_rescale(values[name]), clamp=node.op.clamp))
                else:
                    rescaled = fresh_name(f"{name}.rescaled", values)
                    values[rescaled] = replace(values[name], name=rescaled, quantization=y)
                    nodes.append(Node(name=rescaled, op=_rescale(values[name]), inputs=(name,), output=rescaled, source=node.source))
                    name = rescaled
                operands.append(name)
            node = replace(node, inputs=tuple(operands))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), values=values)


def _rescale(value: Value) -> Conv:
    channels = value.type.channels
    weight, bias = np.ones((channels, 1, 1, 1), np.int8), np.zeros(channels, np.int32)
    return Conv(weight=weight, bias=bias, window=Window(kernel=(1, 1)), group=channels, weight_scale=np.ones(channels, np.float32))


def original(stripped: Stripped, number: str) -> str:
    return stripped.names[int(number)]


def not_quantized(value: Value, graph: Graph, stripped: Stripped) -> Unsupported:
    node = graph.producer(value.name)
    if node is None:
        return Unsupported(node=value.name, operator="input", reason=f"must be quantized before the first operator; {WAY_OUT}")
    name = original(stripped, node.source[-1]) if node.source else node.name
    return Unsupported(node=name, operator=type(node.op).__name__, reason=f"its result must be quantized, but is read as real values; {WAY_OUT}")


def _rounded_twice(node: Node, values: dict[str, Value], stripped: Stripped) -> Iterator[Unsupported]:
    """ONNX nodes fused into `node` whose own quantization would be lost: they round before the last one rounds again.

    No harm is done where the codes are only limited or padded afterwards, with one scale.
    """
    if isinstance(node.op, Lookup):
        return  # its steps round
    protos = [proto for proto in stripped.model.graph.node if proto.name in node.source]
    for index, proto in enumerate(protos[:-1]):
        own = stripped.activations.get(proto.output[0])
        if own is None or proto.output[0] == node.output:
            continue
        rest = {other.op_type for other in protos[index + 1 :]} - set(COPYING_OPERATORS)
        kept = values[node.inputs[0] if proto.op_type == "Pad" else node.output].quantization
        if own != kept or (rest and proto.op_type != "Pad"):
            reason = f"its result is quantized on its own before {protos[index + 1].op_type}, which would round twice; quantize once, behind both"
            yield Unsupported(node=original(stripped, proto.name), operator=proto.op_type, reason=reason)


def quantization_by_value(graph: Graph, stripped: Stripped, start: Mapping[str, Quantization] | None = None) -> dict[str, Quantization]:
    """Quantization by value name: found at the tensor itself, through changes of layout, and through operators that keep codes, or multiply real
    values by a positive number: those have the same codes at another scale."""
    known = dict(stripped.activations if start is None else start)
    for node in reversed(stripped.model.graph.node):
        if node.op_type in (*LAYOUT, "Cast") and node.output[0] in known:
            known.setdefault(node.input[0], known[node.output[0]])
    for entry in graph.inputs:
        found = _behind(entry.value, stripped.model, known)
        if entry.value not in known and found is not None:
            known[entry.value] = found
    for _ in graph.nodes:
        before = len(known)
        for node in graph.nodes:
            names = (*node.inputs, node.output)
            found = next((known[name] for name in names if name in known), None)
            if isinstance(node.op, COPYING) and found is not None:
                for name in names:
                    known.setdefault(name, found)
            elif (factor := _positive_factor(node, known)) is not None:
                for name, other, by in ((node.inputs[0], node.output, 1 / factor), (node.output, node.inputs[0], factor)):
                    if name not in known and other in known:
                        known[name] = replace(known[other], scale=np.float32(float(known[other].scale) * by))
        if len(known) == before:
            break
    return known


def _positive_factor(node: Node, known: Mapping[str, Quantization]) -> float | None:
    """The number by which the node multiplies, where that is all; before a value that is quantized, it may limit as well."""
    op, factor = node.op, 0.0
    if isinstance(op, Lookup) and [step.function for step in op.steps] == [Function.SCALE]:
        (factor,) = op.steps[0].parameters
    elif isinstance(op, Conv) and is_affine(node) and not op.bias.any() and (op.weight == op.weight[0]).all():
        factor = float(op.weight.flat[0]) if op.clamp == UNLIMITED or node.output in known else 0.0
    return factor if 0 < factor < math.inf else None


def _behind(name: str, model: onnx.ModelProto, known: dict[str, Quantization]) -> Quantization | None:
    """The quantization of a network input that the processor prepares first: that of the tensor behind its elementwise steps."""
    for _ in model.graph.node:
        if name in known:
            return known[name]
        step = next((node for node in model.graph.node if name in node.input and node.op_type in (*ELEMENTWISE, *LAYOUT)), None)
        if step is None:
            return None
        name = step.output[0]
    return known.get(name)


def _fraction(scale: npt.NDArray[np.float32], unit: npt.NDArray[np.float32]) -> int:
    """f where a bias has the scale unit / 2**f: it is then finer than the products, as hwgen writes those that it must not round."""
    if scale.size not in (1, unit.size):
        return 0
    with np.errstate(all="ignore"):
        bits = np.log2(unit.astype(np.float64) / scale.astype(np.float64))
    nearest = np.rint(bits)
    regular = np.isfinite(bits).all() and (nearest == nearest[0]).all() and np.abs(bits - nearest).max() < FRACTION_TOLERANCE
    return int(nearest[0]) if regular and 1 <= nearest[0] <= MAX_FRACTION else 0


class Parameters:
    """Weights and biases of convolutions, from the ONNX nodes that they came from."""

    def __init__(self, stripped: Stripped) -> None:
        self.stripped = stripped
        self.nodes: dict[str, list[onnx.NodeProto]] = {}
        for node in stripped.model.graph.node:
            self.nodes.setdefault(node.name, []).append(node)
        self.plain = {proto.name: proto for proto in stripped.model.graph.initializer}

    def protos(self, node: Node) -> list[onnx.NodeProto]:
        """The ONNX nodes that a node came from."""
        return [proto for name in node.source for proto in self.nodes.get(name, [])]

    def quantized(self, node: Node, op: Conv, x: Quantization, y: Quantization) -> Conv:
        """Raises ModelError with the reason where the weights are not 8-bit codes or the bias is not understood."""
        sources = self.protos(node)
        if not any(proto.op_type in PRODUCTS for proto in sources):  # scale and offset of a quantized value, or of a sum of such, as constants
            factor = op.weight.reshape(op.channels, -1)[:, 0].astype(np.float64)
            if not op.bias.any() and factor.min() > 0 and any(proto.op_type in REDUCTIONS for proto in sources):
                weight, scale = np.ones(op.weight.shape, np.int8), factor.astype(np.float32)
                return replace(op, weight=weight, bias=np.zeros(op.channels, np.int32), weight_scale=scale)
            return fine_conv(op, np.ones(op.weight.shape, np.int8), factor, op.bias.astype(np.float64), x, y, f"Conv {node.name!r}")
        factor, addends = self._scaled(sources, op.channels)
        scale = (self.weight_scale(op, sources) * np.abs(factor)).astype(np.float32)
        exact = np.asarray(op.weight, np.float64) / np.abs(factor).reshape(-1, 1, 1, 1)
        codes = np.rint(exact)
        if np.abs(exact - codes).max(initial=0) > (FACTOR_TOLERANCE if (factor != 1).any() else 0) or np.abs(codes).max(initial=0) > GREATEST_WEIGHT:
            raise ModelError("its weights must be 8-bit codes, and not be scaled but by one number, or one per channel afterwards")
        for one in np.unique(scale).tolist():
            check_scale(one, f"weights of Conv {node.name!r}")
        bias: Array = np.zeros(op.channels, np.int64)
        seen, unit = np.zeros(op.channels), np.float32(x.scale) * scale
        single = addends[0][0] if len(addends) == 1 else None
        fraction = _fraction(single.scale, unit) if isinstance(single, Parameter) else 0
        for addend, as_imported in addends:
            bias = bias + self._bias_codes(addend, np.ldexp(unit, -fraction), node.name)
            seen = seen + as_imported
        if not np.allclose(seen, op.bias, rtol=1e-4, atol=1e-6 * max(1.0, np.abs(seen).max(initial=0))):
            raise ModelError("its bias must come from a constant that is added to it, and from nothing else")
        limits = np.iinfo(np.int32)
        if (bias < limits.min).any() or (bias > limits.max).any():
            raise QuantizationError(f"Conv {node.name!r}: the bias must fit int32 at the scale of the products, reaches {np.abs(bias).max()}; quantize again")
        narrow = INT8.holds(int(codes.min(initial=0)), int(codes.max(initial=0)))
        kept = codes.astype(np.int8) if narrow else codes.astype(np.int16)
        return replace(op, weight=kept, bias=bias.astype(np.int32), weight_scale=scale, bias_fraction=fraction)

    def weight_scale(self, op: Conv, sources: list[onnx.NodeProto]) -> npt.NDArray[np.float32]:
        """(C,) Raises ModelError where a product's weights are not quantized per output channel or as a whole."""
        products = [proto for proto in sources if proto.op_type in PRODUCTS]
        found = [(proto, index) for proto in products for index in (0, 1) if self._is_parameter(proto, index)]
        if len(found) != 1:
            raise ModelError("its weights must be one quantized constant")
        proto, index = found[0]
        parameter = self.stripped.parameters[proto.input[index]]
        if parameter.scale.size == 1:
            return np.full(op.channels, parameter.scale[0], np.float32)
        transposed = next((a.i for a in proto.attribute if a.name == "transB"), 0)
        if proto.op_type == "ConvTranspose" and parameter.axis == 1 and op.channels % parameter.scale.size == 0:
            return np.tile(parameter.scale, op.channels // parameter.scale.size)  # of each group the same
        outputs = 0 if proto.op_type == "Conv" or transposed or index == 0 else parameter.codes.ndim - 1
        if parameter.axis != outputs or parameter.scale.size != op.channels:
            raise ModelError(f"its weight scales must be one per output channel (axis {outputs}), not along axis {parameter.axis}")
        return parameter.scale

    def _is_parameter(self, proto: onnx.NodeProto, index: int) -> bool:
        return len(proto.input) > index and proto.input[index] in self.stripped.parameters

    def _scaled(self, sources: list[onnx.NodeProto], channels: int) -> tuple[Reals, list[tuple[Parameter | Array, Reals]]]:
        """By what the product is multiplied before or behind it, one number or one per channel; and what is added to it, each addend times what
        follows it, with its numbers as the float front end saw them. Raises ModelError where that cannot be told."""
        places = {"Conv": (2,), "ConvTranspose": (2,), "Gemm": (2,), "Add": (0, 1)}
        factor: Reals = np.ones(1)
        addends: list[tuple[Parameter | Array, Reals]] = []
        for proto in reversed(sources):
            if proto.op_type in ("Mul", "Div"):
                factor = factor * self._factor(proto, channels)
            for index in places.get(proto.op_type, ()):
                name = proto.input[index] if len(proto.input) > index else ""
                if name in self.stripped.parameters:
                    own = self.stripped.parameters[name]
                    codes = _per_channel(own.codes, channels)
                    addends.append((Parameter(codes=codes * np.sign(factor), scale=own.scale * np.abs(factor), axis=0), codes * factor))
                elif name in self.plain:
                    real = _per_channel(tensor(self.plain[name], f"initializer {name!r}"), channels) * factor
                    addends.append((real, real))
        return factor, addends

    def _factor(self, proto: onnx.NodeProto, channels: int) -> Reals:
        name = next((name for name in proto.input if name in self.plain), "")
        if not name or (proto.op_type == "Div" and name != proto.input[1]):
            raise ModelError("it must be multiplied or divided by a constant that is stored as such")
        constant = tensor(self.plain[name], f"initializer {name!r}").astype(np.float64).reshape(-1)
        if constant.size not in (1, channels) or not constant.all() or not np.isfinite(constant).all():
            raise ModelError("it must be multiplied by one number other than 0, or one per channel")
        return 1 / constant if proto.op_type == "Div" else constant

    @staticmethod
    def _bias_codes(addend: Parameter | Array, unit: npt.NDArray[np.float32], name: str) -> Array:
        """The bias (C,) as integers at the scale `unit` of the products."""
        if isinstance(addend, Parameter):
            scale = np.broadcast_to(addend.scale, unit.shape) if addend.scale.size in (1, unit.size) else None
            if scale is None:
                raise ModelError(f"its bias must have 1 or {unit.size} scales, not {addend.scale.size}")
            if np.allclose(scale, unit, rtol=1e-5, atol=0):
                return addend.codes.astype(np.int64)
            real = addend.codes * scale.astype(np.float64)
        else:
            real = addend.astype(np.float64)
        with np.errstate(all="ignore"):
            codes = np.rint(real / unit.astype(np.float64))
        if not np.isfinite(codes).all() or np.abs(codes).max() > 2.0**40:
            raise QuantizationError(f"Conv {name!r}: the bias must fit int32 at the scale of the products; quantize again")
        return codes.astype(np.int64)


def _per_channel(array: Array, channels: int) -> Array:
    """A bias as (C,)."""
    if array.size not in (1, channels):
        raise ModelError(f"its bias must have {channels} elements, not {array.size}")
    return np.broadcast_to(array.reshape(-1), (channels,))
