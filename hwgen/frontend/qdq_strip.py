"""Take the quantization out of a QDQ or QOperator model: what stays is a float model of the same structure, and tables of what was
taken out. The float front end then imports the structure, and qdq_attach.py puts the tables back.

Weights and biases stay in the float model as their integer codes, so that every permutation by the importer is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwgen.arith import UINT8, IntType
from hwgen.errors import Unsupported, UnsupportedError
from hwgen.frontend.onnx_constants import PACKED_INTEGERS, tensor
from hwgen.frontend.onnx_file import opset_of
from hwgen.ir.graph import fresh_name
from hwgen.ir.types import Quantization

Array = npt.NDArray[Any]
LAYOUT = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
MOVING = ("Slice", "Split", "Resize", "Upsample", "DepthToSpace", "SpaceToDepth")
ON_CODES = (*LAYOUT, *MOVING, "MaxPool", "Concat", "Pad", "Clip")  # mean the same on codes as on real values
MICROSOFT = "com.microsoft"
_ACTIVATIONS = "activations must be uint8 or int8"


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameter:
    """A quantized constant: real = scale * codes, the zero point subtracted already. `axis` is that of a per-channel scale."""

    codes: Array
    scale: npt.NDArray[np.float32]
    axis: int = 0

    @property
    def real(self) -> npt.NDArray[np.float64]:
        """The numbers that it stands for."""
        shape = [-1 if index == self.axis else 1 for index in range(self.codes.ndim)] if self.scale.size > 1 else []
        return np.asarray(self.codes * self.scale.astype(np.float64).reshape(shape), np.float64)


@dataclass(kw_only=True)
class Stripped:
    """`model` is float; its nodes are named by their number, `names` gives the file's names.

    `activations`: quantization by the float model's tensor names. `parameters`: quantized constants likewise. Of activations, `bipolar` are
    those of -1 and +1 only, and `rounding` says which do not round to nearest.
    """

    model: onnx.ModelProto
    names: list[str] = field(default_factory=list)
    activations: dict[str, Quantization] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    bipolar: set[str] = field(default_factory=set)
    rounding: dict[str, str] = field(default_factory=dict)


Handler = Callable[["Stripper", onnx.NodeProto], None]


def strip(model: onnx.ModelProto, handlers: Mapping[str, Handler]) -> Stripped:
    """Raises UnsupportedError that lists every quantized node which cannot be taken apart, ModelError for malformed ones.

    `handlers` by operator; "" is for all others.
    """
    return Stripper(model).run(handlers)


class RefusedError(Exception):
    """The node that is being taken apart cannot be."""


class Stripper:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.source = model
        self.constants: dict[str, Array] = {}
        self.packed: dict[str, IntType] = {}  # constants of types that NumPy does not know
        for proto in model.graph.initializer:
            self.put_constant(proto.name, proto)
        self.opset = opset_of(model, "quantized")
        self.alias: dict[str, str] = {}  # tensor of the file -> tensor of the float model
        self.codes: dict[str, Quantization] = {}  # tensors of the file that hold codes
        self.nodes: list[onnx.NodeProto] = []
        self.added: list[onnx.TensorProto] = []
        self.result = Stripped(model=model)
        self.used = {name for node in model.graph.node for name in (*node.input, *node.output)} | set(self.constants)
        self.problems: list[Unsupported] = []
        self.unknown: set[str] = set()  # tensors behind refused nodes: not worth a second message

    def run(self, handlers: Mapping[str, Handler]) -> Stripped:
        self._inputs()
        for index, node in enumerate(self.source.graph.node):
            self.result.names.append(str(node.name or next(filter(None, node.output), index)))
            if self.unknown.intersection(node.input):
                self.unknown.update(node.output)
                continue
            try:
                if not node.output:
                    raise RefusedError("must have an output")
                handlers.get(node.op_type, handlers[""])(self, node)
            except RefusedError as refused:
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
            raise RefusedError(f"must have input {index}")
        return str(node.input[index])

    def array(self, node: onnx.NodeProto, index: int) -> Array:
        """A constant operand."""
        name = self.operand(node, index)
        if name not in self.constants:
            raise RefusedError(f"input {index} must be a constant, {name!r} is not")
        return self.constants[name]

    def code_type(self, node: onnx.NodeProto, index: int, default: IntType = UINT8) -> IntType:
        """Of the codes that a node makes or reads: that of the zero point at operand index; without one that of output_dtype, or `default`."""
        if len(node.input) > index and node.input[index]:
            name, kind = node.input[index], self.array(node, index).dtype
        else:
            number = next((a.i for a in node.attribute if a.name == "output_dtype" and node.op_type == "QuantizeLinear"), 0)
            if not number:
                return default
            if number in PACKED_INTEGERS:
                return PACKED_INTEGERS[number]
            name, kind = "", _numpy_type(number)
        if kind.kind not in "iu":
            raise RefusedError(f"{_ACTIVATIONS}, not {kind}")
        return self.packed.get(name, IntType(8 * kind.itemsize, kind.kind == "i"))

    def quantization(self, node: onnx.NodeProto, index: int, default: IntType = UINT8) -> Quantization:
        """Scale and zero point of an activation at operands index and index + 1; without a zero point its codes are of type `default`."""
        scale, kind = self.array(node, index), self.code_type(node, index + 1, default)
        has_zero_point = len(node.input) > index + 1 and node.input[index + 1]
        zero_point = self.array(node, index + 1) if has_zero_point else np.zeros(())
        if scale.size != 1 or zero_point.size != 1:
            raise RefusedError("activations must have one scale and one zero point, not one per channel")
        if kind.bits > 8 or (kind.bits < 8 and node.op_type not in ("QuantizeLinear", "DequantizeLinear")):
            raise RefusedError(f"{_ACTIVATIONS}, not {kind}")
        unsigned = not kind.signed
        return Quantization(scale=np.float32(scale.reshape(-1)[0]), zero_point=int(zero_point.reshape(-1)[0]) - 128 * unsigned, unsigned=unsigned)

    def parameter(self, node: onnx.NodeProto, index: int, scale: Array, zero_point: Array | None, axis: int) -> Parameter:
        """The constant operand `index` as codes less zero point."""
        stored = self.array(node, index)
        if stored.dtype.kind not in "iu":
            raise RefusedError(f"constant {node.input[index]!r} must hold integers, not {stored.dtype}")
        if not scale.size or scale.dtype.kind != "f":
            raise RefusedError(f"the scale of {node.input[index]!r} must be a real number, or one for each channel")
        codes = stored.astype(np.int64)
        per_channel = scale.size > 1
        axis = axis % max(codes.ndim, 1)
        if per_channel and (not codes.ndim or scale.size != codes.shape[axis]):
            raise RefusedError(f"the {scale.size} scales of {node.input[index]!r} must be one for each of its channels, shape {list(codes.shape)}, axis {axis}")
        if zero_point is not None and zero_point.any():
            if zero_point.size not in (1, scale.size):
                raise RefusedError(f"the zero points of {node.input[index]!r} must be one or as many as the scales, {scale.size}, not {zero_point.size}")
            shape = [-1 if i == axis else 1 for i in range(codes.ndim)] if zero_point.size > 1 else [1] * codes.ndim
            codes = codes - zero_point.astype(np.int64).reshape(shape)
        return Parameter(codes=codes, scale=scale.astype(np.float32).reshape(-1), axis=axis)

    def axis(self, node: onnx.NodeProto) -> int:
        """That of the scales, for QuantizeLinear and DequantizeLinear of a constant."""
        if any(a.name == "block_size" and a.i for a in node.attribute):
            raise RefusedError("attribute block_size must be 0: scales of blocks are not supported, one per channel or per tensor is")
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        rank = self.array(node, 0).ndim
        if self.array(node, 1).size > 1 and not -rank <= axis < rank:
            raise RefusedError(f"attribute axis must lie within the {rank} dimensions of {node.input[0]!r}, not {axis}")
        return axis

    def channel_shape(self, node: onnx.NodeProto, array: Array, scale: Array) -> tuple[int, ...]:
        """That in which scales broadcast to the constant `array`: along their axis, or () of a single one."""
        axis = self.axis(node)
        if scale.size == 1:
            return ()
        if scale.size != array.shape[axis]:
            raise RefusedError(f"the {scale.size} scales of {node.input[0]!r} must be one for each of its channels, shape {list(array.shape)}, axis {axis}")
        return tuple(-1 if index == axis % array.ndim else 1 for index in range(array.ndim))

    def same(self, name: str, quantization: Quantization) -> None:
        """The codes `name` must have been made with this quantization."""
        known = self.codes[name]
        if (known.scale, known.zero_point, known.unsigned) != (quantization.scale, quantization.zero_point, quantization.unsigned):
            raise RefusedError(
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

    def put_constant(self, name: str, proto: onnx.TensorProto) -> None:
        """The constant `name` of the file."""
        self.constants[name] = tensor(proto, f"constant {name!r}")
        if proto.data_type in PACKED_INTEGERS:
            self.packed[name] = PACKED_INTEGERS[proto.data_type]

    def put_limits(self, source: str, output: str, scale: np.float32, low: int, high: int) -> None:
        """Tensor `output`: `source` limited to so many steps of its quantizer. The limits are fused into the layer before like any other."""
        ends = [self.constant(f"{output}.limit", np.array(scale * np.float32(steps))) for steps in (low, high)]
        self.put("Clip", [source, *ends], output)

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
            raise RefusedError(f"{real!r} is quantized twice, with scales {known.scale:.9g} and {quantization.scale:.9g}")

    # Inputs, outputs, the model

    def _inputs(self) -> None:
        """Inputs that hold codes become real ones behind an affine step; their quantization is that of their DequantizeLinear."""
        for entry in self.source.graph.input:
            kind = entry.type.tensor_type.elem_type
            reader = self._dequantizer(entry.name) if kind in (TensorProto.UINT8, TensorProto.INT8) and entry.name not in self.constants else None
            if reader is not None:
                self.result.names.append(entry.name)
                quantization = self.quantization(reader, 1, IntType(8, kind == TensorProto.INT8))
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


def _numpy_type(number: int) -> np.dtype[Any]:
    """Raises RefusedError for numbers that no type of ONNX has."""
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, TypeError) as error:
        raise RefusedError(f"attribute output_dtype must be a type of ONNX, not {number}") from error
