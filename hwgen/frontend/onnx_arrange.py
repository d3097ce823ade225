"""Elements moved by the processor, where an operator asks for another order of dimensions than its operand has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np
import onnx

from hwgen.errors import Unsupported
from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import Axes, C, H, Image, RawInput, Result, View, W, default_roles
from hwgen.ir import host
from hwgen.ir.types import TensorType
from hwgen.ops.base import UNLIMITED
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import scaling
from hwgen.ops.move import Move
from hwgen.ops.softmax import ArgExtremum, LogSoftmax, Softmax

Shape = tuple[int, ...]


def canonical_steps(shape: Shape, dims: Sequence[Axes], sizes: dict[int, int]) -> tuple[host.MovingStep, ...]:
    """Steps from the ONNX tensor (N, *shape), whose dimension i runs over dims[i] of these sizes, to (N, H, W, C)."""
    order = [axis for dim in dims for axis in dim]
    flat = tuple(sizes[axis] for axis in order)
    ranks = tuple(1 + order.index(axis) for axis in sorted(order))
    return (host.Reshape(shape=flat), host.Transpose(permutation=(0, *ranks)), host.Reshape(shape=tuple(sizes.get(axis, 1) for axis in (H, W, C))))


def _sizes(shape: Shape, dims: Sequence[Axes]) -> dict[int, int] | None:
    """Size of each axis where each dimension is one axis, or of size 1; None where it is several."""
    if any(len(dim) > 1 for dim in dims) or any(not dim and size != 1 for dim, size in zip(dims, shape, strict=True)):
        return None
    return {dim[0]: size for dim, size in zip(dims, shape, strict=True) if dim}


def _usual(rank: int, last: bool) -> list[tuple[Axes, ...]]:
    """All ways to name so many dimensions: the usual orders first, of them that with the channels `last` or first."""
    if rank > 3:
        return []
    found = [axes for order in (last, not last) if (axes := default_roles(rank, order)) is not None]
    return [tuple((axis,) for axis in axes) for axes in dict.fromkeys((*found, *permutations((H, W, C), rank)))]


def place(
    builder: Builder,
    node: OnnxNode,
    source: str,
    steps: Sequence[host.HostStep],
    shape: Shape,
    roles: Sequence[Axes] | None,
    name: str,
    last: bool | None = None,
) -> Image:
    """The ONNX tensor (N, *shape), which `steps` make of value `source`, as a value with the dimensions `roles`; without them those that move
    nothing, or else the usual ones, with channels `last` or first. A Move `name` where elements must move."""
    kind = builder.values[source].type
    wanted = [tuple(roles)] if roles is not None else _usual(len(shape), builder.channels_last if last is None else last)
    found = []
    for dims in wanted:
        sizes = _sizes(shape, dims)
        if sizes is not None:
            moving = host.simplified((*steps, *canonical_steps(shape, dims, sizes)), kind.shape)
            found.append((len(moving) > 0, dims, moving, TensorType(*(sizes.get(axis, 1) for axis in (H, W, C)))))
    if not found:
        raise node.refuse(f"inputs must have 2 to 4 dimensions with the batch, not {len(shape) + 1}")
    moves, dims, moving, target = min(found, key=lambda entry: entry[0])
    if not moves:
        return Image(value=source, type=kind, dims=dims)
    op = Move(steps=moving)  # type: ignore[arg-type]  # callers give moving steps
    value = builder.add_value(node, name, op, (source,))
    return Image(value=value, type=target, dims=dims)


def arranged(builder: Builder, node: OnnxNode, image: Image, roles: Sequence[Axes]) -> Image:
    """`image` with its dimensions along `roles`: itself where it is so already."""
    if all(core in ((), tuple(role)) for core, role in zip(image.core, roles, strict=True)):
        return image
    if not builder.processor:
        raise node.refuse("would need one operand transposed at run time: their channels lie in different dimensions")
    return place(builder, node, image.value, image.to_host(), image.shape, roles, builder.fresh(f"{image.value}.moved"))


def flattened(builder: Builder, node: OnnxNode, image: Image) -> Image:
    """All elements as channels of one pixel, in ONNX's order."""
    size = math.prod(image.shape)
    steps = (*image.to_host(), host.Reshape(shape=(size,)))
    return place(builder, node, image.value, steps, (size,), [(C,)], builder.fresh(f"{image.value}.flat"))


def like(image: Image) -> tuple[Axes, ...]:
    """The dimensions of `image` as roles for another operand, those of size 1 with an axis as well where one is free."""
    return tuple(core or label for core, label in zip(image.core, image.labels, strict=True))


def _accelerated(step: host.Softmax | host.LogSoftmax | host.ArgExtremum, axis: int) -> Softmax | LogSoftmax | ArgExtremum:
    """The step along `axis` of (N, H, W, C), as an operator between others."""
    if isinstance(step, host.ArgExtremum):
        return ArgExtremum(axis=axis, largest=step.largest, last=step.last)
    return Softmax(axis=axis) if isinstance(step, host.Softmax) else LogSoftmax(axis=axis)


@dataclass(kw_only=True)
class ProcessorBuilder(Builder):
    """A builder that lets the processor move elements and compute between operators of the accelerator."""

    copies: dict[str, str] = field(default_factory=dict)  # of network inputs that are outputs as well
    computed: dict[str, tuple[str, list[host.HostStep], Shape]] = field(default_factory=dict)  # by tensor: a value, what makes the tensor of it

    @property
    def processor(self) -> bool:
        return True

    def from_result(self, node: OnnxNode, result: Result, name: str, roles: Sequence[Axes] | None, last: bool | None) -> Image:
        """What the processor holds, as a value that the accelerator can read; `name` is its tensor."""
        source = result.source
        pending: list[host.HostStep] = []
        shape: Shape = self.values[source].type.shape
        for step, label in zip(result.steps, result.names, strict=True):
            if isinstance(step, host.MovingStep):
                pending = [*pending, step]
                shape = host.shape_after(step, shape)
            else:
                if label not in self.computed:
                    self.computed[label] = self._computed(self.origin.get(label, node), label, step, source, pending, shape)
                source, pending, shape = self.computed[label]
        return place(self, node, source, pending, shape, roles, self.fresh(name), last)

    def _computed(
        self, node: OnnxNode, label: str, step: host.HostStep, source: str, before: Sequence[host.HostStep], shape: Shape
    ) -> tuple[str, list[host.HostStep], Shape]:
        """The step of `node` as an operator between others, on the tensor (N, *shape) that `before` makes of `source`: a value, and what makes
        the tensor `label` of it."""
        if isinstance(step, host.Affine):
            image = self._scaled(node, label, step, source, before, shape)
        else:
            assert isinstance(step, host.Softmax | host.LogSoftmax | host.ArgExtremum)
            grouped, axis = shape, step.axis - 1
            if len(shape) > 3:
                grouped, axis = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])), 1
            image = place(self, node, source, [*before, host.Reshape(shape=grouped)], grouped, None, self.fresh(f"{label}.rows"))
            name = self.add_value(node, self.fresh(label), _accelerated(step, 1 + image.dims[axis][0]), (image.value,))
            image, shape = replace(image, value=name, type=self.values[name].type), host.shape_after(step, shape)
        return image.value, [*image.to_host(), host.Reshape(shape=shape)], shape

    def _scaled(self, node: OnnxNode, label: str, step: host.Affine, source: str, before: Sequence[host.HostStep], shape: Shape) -> Image:
        """By a scale and an offset for each channel, or for each element in a row."""
        scale, offset = step.scale, step.offset
        name, image = self.fresh(f"{label}.rows"), None
        if len(shape) <= 3:
            image = place(self, node, source, before, shape, None, name)
        if image is None or not all(self.is_per_channel(node, image, array) for array in (scale, offset)):
            size = math.prod(shape)
            image = place(self, node, source, [*before, host.Reshape(shape=(size,))], (size,), [(C,)], self.fresh(name))
            scale, offset = (np.broadcast_to(array, (1, *shape)).reshape(1, -1) for array in (scale, offset))
        op = scaling(self.per_channel(node, image, scale), self.per_channel(node, image, offset))
        value = self.add_value(node, self.fresh(label), op, (image.value,))
        return replace(image, value=value)

    def read_again(self, node: OnnxNode, image: Image, steps: Sequence[host.HostStep]) -> Image:
        """A network input that lies in memory already, as `steps` would have brought it there."""
        entry = self.inputs[image.value]
        if not all(isinstance(step, host.Reshape | host.Transpose) for step in (*steps, *entry.steps)):
            return super().read_again(node, image, steps)
        moving = host.simplified((*host.inverted(entry.steps, entry.shape[1:]), *steps), self.values[image.value].type.shape)
        op = Move(steps=moving)  # type: ignore[arg-type]  # checked above
        return replace(image, value=self.add_value(node, self.fresh(f"{image.value}.moved"), op, (image.value,)))

    def rounded_input(self, node: OnnxNode) -> View:
        """On the accelerator's side of the input."""
        return self.image(node, 0)

    def copied(self, name: str, raw: RawInput) -> Result:
        """All elements of the input in a row through a copy on the accelerator, so that the network has an operator; then what was done
        to them."""
        node = replace(OnnxNode.read(onnx.helper.make_node("Identity", [raw.source], [name]), 1), name="")  # of no node of the file
        shape = self.declared[raw.source].shape
        if raw.source not in self.copies:
            row = RawInput(source=raw.source, shape=shape).then(host.Reshape(shape=(math.prod(shape),)), name)
            image = self._resolve(node, row, (C,))
            self.copies[raw.source] = self.add_value(node, self.fresh(f"{name}.copy"), Clamp(clamp=UNLIMITED), (image.value,))
        copy = self.copies[raw.source]
        steps = (host.Reshape(shape=shape), *raw.steps)
        cause = Unsupported(node=name, operator="Identity", reason="is given as it came")
        return Result(source=copy, shape=raw.shape, steps=steps, names=(copy,) * len(steps), cause=cause)
