"""The state of one import: what each ONNX tensor is so far, and the canonical nodes made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hwgen.errors import ModelError, Unsupported
from hwgen.frontend.onnx_node import OnnxNode, Refusal
from hwgen.frontend.onnx_view import Array, Axes, C, Constant, H, Image, RawInput, Result, View, W, default_roles
from hwgen.ir import host
from hwgen.ir.graph import GraphInput, Node, Value, fresh_name
from hwgen.ir.types import Quantization, TensorType
from hwgen.ops.add import Add
from hwgen.ops.base import Operator, limited
from hwgen.ops.lookup import Function, Lookup, Step


class PoisonedError(Exception):
    """An operand comes from a refused node: nothing is known of it, and the refusal is reported already."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A graph input as the file declares it: shape without the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(kw_only=True)
class Builder:
    """Handlers read operands by `constant` and `image`, and add nodes by `emit`.

    Where an input's layout cannot be known at its first consumer, `channels_last` decides, and `guessed` records that it did.
    `rounded`: of a quantized model whose quantization was taken out, that of each tensor which had one; weights are then codes.
    Scaling of an input is the processor's, if `scale_outside`; `conflict` records that readers of one input want different steps.
    """

    declared: dict[str, Declared]
    rounded: Mapping[str, Quantization] | None = None
    channels_last: bool = False
    guessed: bool = False
    scale_outside: bool = True
    conflict: bool = False
    env: dict[str, Constant | View | None] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    inputs: dict[str, GraphInput] = field(default_factory=dict)
    origin: dict[str, OnnxNode] = field(default_factory=dict)  # by tensor: the node that computes it
    normalized: dict[str, Node] = field(default_factory=dict)  # by value: the Normalize that computes it
    foldable_elements: int = 0  # of constants that may still be computed

    def define_constant(self, node: OnnxNode, constant: Constant) -> None:
        """The node's result is known. Raises ModelError when all such results together hold far more than the file."""
        self.foldable_elements -= constant.elements
        if self.foldable_elements < 0:
            raise node.malformed("the constants computed so far are far larger than the model's own; a few bytes must not ask for gigabytes")
        self.env[node.output] = constant

    def lookup(self, name: str) -> Constant | View:
        found = self.env.get(name)
        if found is None:
            raise PoisonedError(name)
        return found

    def operand(self, node: OnnxNode, index: int) -> Constant | View:
        """Whatever the node's input is; raises ModelError when a required input is absent."""
        if not node.has_input(index):
            raise node.malformed(f"needs input {index}")
        return self.lookup(node.inputs[index])

    def constant(self, node: OnnxNode, index: int, what: str) -> Array:
        """A constant operand, `what` naming its role in the refusal otherwise."""
        operand = self.operand(node, index)
        if not isinstance(operand, Constant):
            raise node.refuse(f"{what} must be constant, but {node.inputs[index]!r} is computed at run time")
        if operand.varies:
            raise node.refuse(f"{what} must not depend on the batch size")
        return operand.probes[0]

    def optional(self, node: OnnxNode, index: int, what: str) -> Array | None:
        return self.constant(node, index, what) if node.has_input(index) else None

    def numbers(self, node: OnnxNode, index: int, attribute: str) -> list[int] | None:
        """A list of integers given as attribute (older opsets) or as constant input; None when absent."""
        if attribute in node.attributes:
            return node.integers(attribute)
        array = self.optional(node, index, attribute)
        return None if array is None else [int(number) for number in array.reshape(-1)]

    def view(self, node: OnnxNode, index: int) -> View:
        """An operand that depends on the graph's inputs; an accelerated operator asks for `image` instead."""
        operand = self.operand(node, index)
        if isinstance(operand, Constant):
            raise node.refuse(f"input {node.inputs[index]!r} must be computed from a graph input, but is constant")
        return operand

    def image(self, node: OnnxNode, index: int, roles: Sequence[Axes] | None = None, channels_last: bool | None = None) -> Image:
        """An operand on the accelerator. If it is still a raw input, its dimensions get `roles`, or the usual ones of the layout."""
        view = self.view(node, index)
        if isinstance(view, Result):
            image = self.from_result(node, view, node.inputs[index], roles, channels_last)
            self.env[node.inputs[index]] = image
            return image
        if isinstance(view, Image):
            return view
        if channels_last is None and roles is None:
            self.guessed = True
        last = self.channels_last if channels_last is None else channels_last
        axes = default_roles(len(view.shape), last)
        if roles is not None and len(roles) == len(view.shape) and all(len(role) <= 1 for role in roles):
            axes = self._filled(roles)
        if axes is None:
            raise node.refuse(f"inputs must have 2 to 4 dimensions with the batch, not {len(view.shape) + 1}")
        return self._resolve(node, view, axes)

    def _filled(self, roles: Sequence[Axes]) -> Axes:
        free = [axis for axis in (H, W, C) if (axis,) not in roles]
        return tuple(role[0] if role else free.pop(0) for role in roles)

    def _resolve(self, node: OnnxNode, raw: RawInput, axes: Axes) -> Image:
        """The raw input becomes the graph's value: transposed and reshaped by the processor to (N, H, W, C)."""
        sizes = dict(zip(axes, raw.shape, strict=True))
        shape = TensorType(sizes.get(H, 1), sizes.get(W, 1), sizes.get(C, 1))
        permutation = (0, *(1 + axes.index(axis) for axis in (H, W, C) if axis in axes))
        declared = self.declared[raw.source]
        steps = host.simplified((*raw.steps, host.Transpose(permutation=permutation), host.Reshape(shape=shape.shape)), declared.shape)
        known = self.inputs.get(raw.source)
        if known is None:
            self.values[raw.source] = Value(name=raw.source, type=limited(f"input {raw.source!r}", shape))
            self.inputs[raw.source] = GraphInput(name=raw.source, shape=(-1, *declared.shape), dtype=declared.dtype, value=raw.source, steps=steps)
        elif known.steps != steps or self.values[raw.source].type != shape:
            return self.read_again(node, Image(value=raw.source, type=shape, dims=tuple((axis,) for axis in axes)), steps)
        return Image(value=raw.source, type=shape, dims=tuple((axis,) for axis in axes))

    @property
    def processor(self) -> bool:
        """Whether the processor may compute between operators of the accelerator."""
        return False

    def refused(self, node: OnnxNode, result: Result) -> Refusal:
        """To be raised: `node` reads what only the processor can express."""
        return Refusal(replace(result.cause, reason=f"{result.cause.reason}, but {node.operator} {node.name!r} reads it"))

    def from_result(self, node: OnnxNode, result: Result, name: str, roles: Sequence[Axes] | None, last: bool | None) -> Image:
        """The array of the tensor `name` on the accelerator; see ProcessorBuilder."""
        raise self.refused(node, result)

    def read_again(self, node: OnnxNode, image: Image, steps: Sequence[host.HostStep]) -> Image:
        """A network input as `image`, made by `steps`, where other steps have made it already; see ProcessorBuilder."""
        self.conflict = True
        raise node.refuse(f"input {image.value!r} is read in two layouts or scalings; apply one to all its readers")

    def rounded_input(self, node: OnnxNode) -> View:
        """Operand 0, a quantized network input, as a value of the network; see ProcessorBuilder."""
        raise node.refuse("runs on the processor, but its operand is a network input that is quantized")

    def copied(self, name: str, raw: RawInput) -> View:
        """A network output that no operator computes but the processor, as one; see ProcessorBuilder."""
        return raw

    def fresh(self, wish: str) -> str:
        """A name that no value has."""
        return fresh_name(wish, self.values)

    def add_value(self, node: OnnxNode, name: str, op: Operator, inputs: tuple[str, ...]) -> str:
        """Add a canonical node that computes the value `name`; returns the name."""
        kinds = [self.values[value].type for value in inputs]
        try:
            self.values[name] = Value(name=name, type=op.infer(*kinds))
        except ModelError as error:
            raise node.malformed(str(error)) from error
        sources = node.parts or ((node.name,) if node.name else ())
        self.nodes.append(Node(name=name, op=op, inputs=inputs, output=name, source=sources))
        return name

    def emit(self, node: OnnxNode, op: Operator, inputs: Sequence[Image], dims: tuple[Axes, ...]) -> None:
        """Add a canonical node named after the ONNX output, whose dimensions run over `dims`."""
        name = self.add_value(node, node.output, op, tuple(image.value for image in inputs))
        self.env[name] = Image(value=name, type=self.values[name].type, dims=dims)

    def free_name(self, node: OnnxNode, what: str) -> str:
        """A name for an intermediate value of the node."""
        name = f"{node.output}.{what}"
        if name in self.env:
            raise node.malformed(f"the name {name!r} must be free for a partial result; rename the tensor that has it")
        return name

    def part(self, node: OnnxNode, what: str, op: Operator, image: Image, dims: tuple[Axes, ...]) -> Image:
        """An intermediate value of the ONNX node, named after its output and `what` it is."""
        name = self.free_name(node, what)
        self.emit(replace(node, outputs=(name,)), op, [image], dims)
        part = self.env[name]
        assert isinstance(part, Image)
        return part

    def require_broadcast(self, node: OnnxNode, array: Array, shape: tuple[int, ...]) -> None:
        """The constant must fit (N, *shape) without making it larger, and be the same for the whole batch."""
        missing = len(shape) + 1 - array.ndim
        full = (1,) * missing + array.shape
        if missing < 0 or full[0] != 1 or any(n not in (1, size) for n, size in zip(full[1:], shape, strict=True)):
            raise node.refuse(f"the constant of shape {list(array.shape)} must broadcast to the operand's {['N', *shape]} without enlarging it")

    def per_channel(self, node: OnnxNode, image: Image, array: Array) -> Array:
        """A constant that broadcasts against (N, *shape) as (C,) float32; refused where it varies over the image."""
        if array.size == 1:
            return np.full(image.type.channels, array.reshape(()), np.float32)
        self.require_broadcast(node, array, image.shape)
        missing = len(image.dims) + 1 - array.ndim
        canonical = image.canonical(array.reshape(((1,) * missing + array.shape)[1:]))
        row = canonical[:1, :1]
        if not (canonical == row).all():
            raise node.refuse("the constant must be one number per channel, but varies over height or width")
        return np.ascontiguousarray(np.broadcast_to(row.reshape(-1), image.type.channels), np.float32)

    def is_per_channel(self, node: OnnxNode, image: Image, array: Array) -> bool:
        """Whether `per_channel` can be had of this constant."""
        try:
            self.per_channel(node, image, array)
        except Refusal:
            return False
        return True

    def imply(self, value: str, scale: float, zero_point: int) -> None:
        """An intermediate value of a node of a quantized model, which has no tensor there, is quantized so."""
        self.values[value] = replace(self.values[value], quantization=Quantization(scale=np.float32(scale), zero_point=zero_point))

    def is_rounded(self, value: str) -> bool:
        """In a quantized model: the value is quantized itself, or computed by a table or an addition that a table may take in."""
        if self.rounded is None:
            return False
        return value in self.rounded or any(node.output == value and isinstance(node.op, Lookup | Add) for node in self.nodes)

    def rounding_steps(self) -> dict[str, Step]:
        """What quantizes each value that is quantized."""
        known = (self.rounded or {}).items()
        return {name: Step(function=Function.QUANTIZE, parameters=(float(q.scale), float(q.zero_point))) for name, q in known}

    def hand_over(self, node: OnnxNode, view: View, step: host.HostStep, reason: str, output: str = "") -> None:
        """The processor takes over: `step` works on the array before the first or after the last accelerated operator. `output`: which of
        the node's, if not the first."""
        name = output or node.output
        if isinstance(view, RawInput) and not isinstance(step, host.MovingStep) and node.inputs[0] in (self.rounded or {}):
            view = self.rounded_input(node)  # real numbers would not be rounded in between
        if isinstance(view, Image):
            cause = Unsupported(node=node.name, operator=node.operator, reason=reason)
            steps = view.to_host()
            view = Result(source=view.value, shape=view.shape, steps=steps, names=(view.value,) * len(steps), cause=cause)
        self.env[name] = view.then(step, name)


def reals(array: Array) -> Array:
    """Contiguous float32 copy of a constant of any numeric type."""
    return np.ascontiguousarray(array, np.float32)
