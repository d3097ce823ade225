"""Take the quantization out of a QDQ or QOperator model: what stays is a float model of the same structure, and tables of what was
taken out. The float front end then imports the structure, and qdq_attach.py puts the tables back.

Weights and biases stay in the float model as their integer codes, so that every permutation by the importer is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwgen.errors import Unsupported, UnsupportedError
from hwgen.frontend.onnx_constants import tensor
from hwgen.ir.graph import fresh_name
from hwgen.ir.types import Quantization

Array = npt.NDArray[Any]
LAYOUT = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
ON_CODES = (*LAYOUT, "MaxPool", "Concat", "Pad", "Clip")  # mean the same on codes as on real values
MICROSOFT = "com.microsoft"


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameter:
    """A quantized constant: real = scale * codes, the zero point subtracted already. `axis` is that of a per-channel scale."""

    codes: Array
    scale: npt.NDArray[np.float32]
    axis: int = 0


@dataclass(kw_only=True)
class Stripped:
    """`model` is float; its nodes are named by their number, `names` gives the file's names.

    `activations`: quantization by the float model's tensor names. `parameters`: quantized constants likewise.
    """

    model: onnx.ModelProto
    names: list[str] = field(default_factory=list)
    activations: dict[str, Quantization] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)


def strip(model: onnx.ModelProto) -> Stripped:
    """Raises UnsupportedError that lists every quantized node which cannot be taken apart, ModelError for malformed ones."""
    return _Stripper(model).run()


class _Refused(Exception):
    """The node that is being taken apart cannot be."""


class _Stripper:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.source = model
        self.constants = {proto.name: tensor(proto, f"initializer {proto.name!r}") for proto in model.graph.initializer}
        self.alias: dict[str, str] = {}  # tensor of the file -> tensor of the float model
        self.codes: dict[str, Quantization] = {}  # tensors of the file that hold codes
        self.nodes: list[onnx.NodeProto] = []
        self.added: list[onnx.TensorProto] = []
        self.result = Stripped(model=model)
        self.used = {name for node in model.graph.node for name in (*node.input, *node.output)} | set(self.constants)
        self.problems: list[Unsupported] = []
        self.unknown: set[str] = set()  # tensors behind refused nodes: not worth a second message

    def run(self) -> Stripped:
        self._inputs()
        for index, node in enumerate(self.source.graph.node):
            self.result.names.append(str(node.name or next(filter(None, node.output), index)))
            if self.unknown.intersection(node.input):
                self.unknown.update(node.output)
                continue
            try:
                if not node.output:
                    raise _Refused("must have an output")
                _HANDLERS.get(node.op_type, _Stripper._keep)(self, node)
            except _Refused as refused:
                self.problems.append(Unsupported(node=self.result.names[-1], operator=node.op_type, reason=str(refused)))
                self.unknown.update(node.output)
        if self.problems:
            raise UnsupportedError(self.problems)
        self._outputs()
        self.result.model = self._model()
        return self.result

    # Reading operands

    def operand(self, node: onnx.NodeProto, index: int) -> str:
        """The name of an operand that must be there."""
        if index >= len(node.input) or not node.input[index]:
            raise _Refused(f"must have input {index}")
        return str(node.input[index])

    def array(self, node: onnx.NodeProto, index: int) -> Array:
        """A constant operand."""
        name = self.operand(node, index)
        if name not in self.constants:
            raise _Refused(f"input {index} must be a constant, {name!r} is not")
        return self.constants[name]

    def quantization(self, node: onnx.NodeProto, index: int) -> Quantization:
        """Scale and zero point of an activation at operands index and index + 1."""
        scale = self.array(node, index)
        has_zero_point = len(node.input) > index + 1 and node.input[index + 1]
        zero_point = self.array(node, index + 1) if has_zero_point else np.zeros((), np.uint8)
        if scale.size != 1 or zero_point.size != 1:
            raise _Refused("activations must have one scale and one zero point, not one per channel")
        if zero_point.dtype not in (np.uint8, np.int8):
            raise _Refused(f"activations must be uint8 or int8, not {zero_point.dtype}")
        unsigned = zero_point.dtype == np.uint8
        return Quantization(scale=np.float32(scale.reshape(-1)[0]), zero_point=int(zero_point.reshape(-1)[0]) - 128 * unsigned, unsigned=unsigned)

    def parameter(self, node: onnx.NodeProto, index: int, scale: Array, zero_point: Array | None, axis: int) -> Parameter:
        """The constant operand `index` as codes less zero point."""
        stored = self.array(node, index)
        if stored.dtype.kind not in "iu":
            raise _Refused(f"constant {node.input[index]!r} must hold integers, not {stored.dtype}")
        codes = stored.astype(np.int64)
        per_channel = scale.size > 1
        axis = axis % max(codes.ndim, 1)
        if per_channel and (not codes.ndim or scale.size != codes.shape[axis]):
            raise _Refused(f"the {scale.size} scales of {node.input[index]!r} must be one for each of its channels, shape {list(codes.shape)}, axis {axis}")
        if zero_point is not None and zero_point.any():
            if zero_point.size not in (1, scale.size):
                raise _Refused(f"the zero points of {node.input[index]!r} must be one or as many as the scales, {scale.size}, not {zero_point.size}")
            shape = [-1 if i == axis else 1 for i in range(codes.ndim)] if zero_point.size > 1 else [1] * codes.ndim
            codes = codes - zero_point.astype(np.int64).reshape(shape)
        return Parameter(codes=codes, scale=scale.astype(np.float32).reshape(-1), axis=axis)

    def same(self, name: str, quantization: Quantization) -> None:
        """The codes `name` must have been made with this quantization."""
        known = self.codes[name]
        if (known.scale, known.zero_point, known.unsigned) != (quantization.scale, quantization.zero_point, quantization.unsigned):
            raise _Refused(
                f"{name!r} is read with scale {quantization.scale:.9g} and zero point {quantization.zero_point + quantization.outside_offset}, "
                f"but was written with {known.scale:.9g} and {known.zero_point + known.outside_offset}"
            )

    # Writing

    def fresh(self, wish: str) -> str:
        name = fresh_name(wish, self.used)
        self.used.add(name)
        return name

    def constant(self, wish: str, array: Array) -> str:
        name = self.fresh(wish)
        self.added.append(numpy_helper.from_array(np.array(array, np.float32), name))
        return name

    def put(self, operator: str, inputs: Sequence[str], output: str, attributes: Sequence[onnx.AttributeProto] = ()) -> None:
        node = helper.make_node(operator, [self.alias.get(name, name) for name in inputs], [output], name=str(len(self.result.names) - 1))
        node.attribute.extend(attributes)
        self.nodes.append(node)

    def put_parameter(self, name: str, parameter: Parameter) -> str:
        self.added.append(numpy_helper.from_array(parameter.codes.astype(np.float32), name))
        self.result.parameters[name] = parameter
        return name

    def mark(self, name: str, real: str, quantization: Quantization) -> None:
        """Tensor `name` of the file holds the codes of tensor `real` of the float model."""
        self.alias[name] = real
        self.codes[name] = quantization
        known = self.result.activations.setdefault(real, quantization)
        if (known.scale, known.zero_point) != (quantization.scale, quantization.zero_point):
            raise _Refused(f"{real!r} is quantized twice, with scales {known.scale:.9g} and {quantization.scale:.9g}")

    # Operators

    def _quantize(self, node: onnx.NodeProto) -> None:
        source = self.operand(node, 0)
        if source in self.codes:
            raise _Refused("its input holds codes already")
        self.mark(node.output[0], self.alias.get(source, source), self.quantization(node, 1))

    def _dequantize(self, node: onnx.NodeProto) -> None:
        name = self.operand(node, 0)
        if name in self.constants:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            zero_point = self.array(node, 2) if len(node.input) > 2 and node.input[2] else None
            parameter = self.parameter(node, 0, self.array(node, 1), zero_point, axis)
            self.put_parameter(node.output[0], parameter)
            return
        quantization = self.quantization(node, 1)
        if name not in self.codes:
            raise _Refused(f"its input {name!r} is not quantized")
        self.same(name, quantization)
        self.alias[node.output[0]] = self.alias[name]

    def _keep(self, node: onnx.NodeProto) -> None:
        """A float operator, or one that works on codes as on real values."""
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    self.constants[node.output[0]] = tensor(attribute.t, f"constant {node.output[0]!r}")
        parameters = [name for name in node.input if name in self.result.parameters]
        if parameters and not self._takes_parameters(node, parameters):
            raise _Refused(f"must not read the quantized constant {parameters[0]!r}")
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = str(len(self.result.names) - 1)
        coded = next((self.codes[name] for name in node.input if name in self.codes), None)
        del copy.input[:]
        copy.input.extend(self.alias.get(name, name) for name in node.input)
        if coded is not None:
            if node.op_type not in ON_CODES:
                raise _Refused("must read real values, not codes")
            for name in node.input:
                if name in self.codes:
                    self.same(name, coded)
            self._real_limits(copy, coded)
            self.mark(node.output[0], node.output[0], coded)
        self.nodes.append(copy)

    def _takes_parameters(self, node: onnx.NodeProto, parameters: Sequence[str]) -> bool:
        if node.op_type == "Transpose":
            parameter = self.result.parameters[parameters[0]]
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), list(range(parameter.codes.ndim))[::-1])
            if sorted(order) != list(range(parameter.codes.ndim)):
                raise _Refused(f"attribute perm must order {parameter.codes.ndim} dimensions, not {order}")
            moved = Parameter(codes=parameter.codes.transpose(order), scale=parameter.scale, axis=order.index(parameter.axis))
            self.result.parameters[node.output[0]] = moved
            return True
        if node.op_type in LAYOUT:
            parameter = self.result.parameters[parameters[0]]
            self.result.parameters[node.output[0]] = parameter
            return bool(parameter.scale.size == 1 or node.op_type == "Identity")
        return node.op_type in ("Conv", "MatMul", "Gemm", "Add")

    def _real_limits(self, node: onnx.NodeProto, quantization: Quantization) -> None:
        """Constant codes of Clip and Pad become real values."""
        for index in {"Clip": (1, 2), "Pad": (2,)}.get(node.op_type, ()):
            if len(node.input) > index and node.input[index]:
                code = self.array(node, index).astype(np.int64) - quantization.outside_offset
                node.input[index] = self.constant(f"{node.output[0]}.limit", quantization.dequantize(code))
        if node.op_type == "Pad" and not (len(node.input) > 2 and node.input[2]):
            node.input.extend([""] * (2 - len(node.input)))
            fill = quantization.dequantize(np.array(-quantization.outside_offset))
            del node.input[2:]
            node.input.append(self.constant(f"{node.output[0]}.fill", fill))

    def _activation(self, node: onnx.NodeProto, index: int) -> str:
        """The codes at operand index, whose scale and zero point follow."""
        name = self.operand(node, index)
        if name not in self.codes:
            raise _Refused(f"input {index} must be an activation, {name!r} is not")
        self.same(name, self.quantization(node, index + 1))
        return name

    def _conv(self, node: onnx.NodeProto) -> None:
        self._dense(node, "Conv", 0, (8,))

    def _matmul(self, node: onnx.NodeProto) -> None:
        self._dense(node, "MatMul", -1, ())

    def _gemm(self, node: onnx.NodeProto) -> None:
        if node.domain != MICROSOFT:
            raise _Refused("must be of the domain com.microsoft")
        transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
        self._dense(node, "Gemm", 0 if transposed else 1, (6,))

    def _dense(self, node: onnx.NodeProto, operator: str, axis: int, bias_at: tuple[int, ...]) -> None:
        x = self._activation(node, 0)
        weight = self.parameter(node, 3, self.array(node, 4), self.array(node, 5), axis)
        inputs = [x, self.put_parameter(self.fresh(f"{node.output[0]}.weight"), weight)]
        result_at = 7 if operator == "Gemm" else 6
        result = self.quantization(node, result_at)
        for index in bias_at:
            if len(node.input) > index and node.input[index]:
                unit = np.float32(self.codes[x].scale) * weight.scale
                bias = self.parameter(node, index, unit, None, 0)
                inputs.append(self.put_parameter(self.fresh(f"{node.output[0]}.bias"), bias))
        self.put(operator, inputs, node.output[0], node.attribute)
        self.mark(node.output[0], node.output[0], result)

    def _add(self, node: onnx.NodeProto) -> None:
        self.put("Add", [self._activation(node, 0), self._activation(node, 3)], node.output[0])
        self.mark(node.output[0], node.output[0], self.quantization(node, 6))

    def _pool(self, node: onnx.NodeProto) -> None:
        operator = node.op_type.removeprefix("QLinear")
        if any(a.name == "channels_last" and a.i for a in node.attribute):
            raise _Refused("attribute channels_last must be 0")
        if all(any(a.name == name and a.i for a in node.attribute) for name in ("ceil_mode", "count_include_pad")):
            raise _Refused("attributes ceil_mode and count_include_pad must not both be 1: its divisor then counts more than ONNX's AveragePool")
        attributes = [a for a in node.attribute if a.name != "channels_last"]
        self.put(operator, [self._activation(node, 0)], node.output[0], attributes)
        self.mark(node.output[0], node.output[0], self.quantization(node, 3))

    def _concat(self, node: onnx.NodeProto) -> None:
        result = self.quantization(node, 0)
        names = [self._activation(node, index) for index in range(2, len(node.input), 3)]
        for name in names:
            self.same(name, result)
        self.put("Concat", names, node.output[0], node.attribute)
        self.mark(node.output[0], node.output[0], result)

    # Inputs, outputs, the model

    def _inputs(self) -> None:
        """Inputs that hold codes become real ones behind an affine step; their quantization is that of their DequantizeLinear."""
        for entry in self.source.graph.input:
            kind = entry.type.tensor_type.elem_type
            reader = self._dequantizer(entry.name) if kind in (TensorProto.UINT8, TensorProto.INT8) and entry.name not in self.constants else None
            if reader is not None:
                self.result.names.append(entry.name)
                quantization = self.quantization(reader, 1)
                zero_point = self.constant(f"{entry.name}.zero_point", np.array(quantization.zero_point + quantization.outside_offset))
                shifted, real = self.fresh(f"{entry.name}.shifted"), self.fresh(f"{entry.name}.real")
                self.put("Sub", [entry.name, zero_point], shifted)
                self.put("Mul", [shifted, self.constant(f"{entry.name}.scale", np.array(quantization.scale))], real)
                self.mark(entry.name, real, quantization)

    def _dequantizer(self, name: str) -> Any:
        """The DequantizeLinear that reads `name`, perhaps behind changes of layout."""
        for node in self.source.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] == name:
                return node
            if node.op_type in LAYOUT and node.input[0] == name:
                name = node.output[0]
        return None

    def _outputs(self) -> None:
        """Outputs keep their names: the tensor that an output stands for is renamed, or copied where it has a fixed name."""
        fixed = {entry.name for entry in self.source.graph.input} | {entry.name for entry in self.source.graph.output}
        for entry in self.source.graph.output:
            real = self.alias.get(entry.name, entry.name)
            if real == entry.name:
                continue
            if real in fixed:
                self.result.names.append(entry.name)
                self.put("Identity", [real], entry.name)
                continue
            for node in self.nodes:
                for names in (node.input, node.output):
                    for index, name in enumerate(names):
                        if name == real:
                            names[index] = entry.name
            self.alias = {name: entry.name if target == real else target for name, target in self.alias.items()}
            if real in self.result.activations:
                self.result.activations[entry.name] = self.result.activations.pop(real)

    def _model(self) -> onnx.ModelProto:
        source = self.source.graph
        graph = onnx.GraphProto(name=source.name)
        graph.node.extend(self.nodes)
        graph.initializer.extend(source.initializer)
        graph.initializer.extend(self.added)
        for entries, target in ((source.input, graph.input), (source.output, graph.output)):
            for entry in entries:
                real = target.add()
                real.CopyFrom(entry)
                real.type.tensor_type.elem_type = TensorProto.FLOAT
        model = onnx.ModelProto()
        model.CopyFrom(self.source)
        model.graph.CopyFrom(graph)
        return model


_HANDLERS: dict[str, Callable[[_Stripper, onnx.NodeProto], None]] = {
    "QuantizeLinear": _Stripper._quantize,
    "DequantizeLinear": _Stripper._dequantize,
    "QLinearConv": _Stripper._conv,
    "QLinearMatMul": _Stripper._matmul,
    "QGemm": _Stripper._gemm,
    "QLinearAdd": _Stripper._add,
    "QLinearAveragePool": _Stripper._pool,
    "QLinearGlobalAveragePool": _Stripper._pool,
    "QLinearConcat": _Stripper._concat,
}
