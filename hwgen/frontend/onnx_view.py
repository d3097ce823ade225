"""What an ONNX tensor is to hwgen: a constant, an array still on the processor, or a relabelled channels-last activation.

Shapes here never include the batch, which is always the first ONNX dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hwgen.errors import Unsupported
from hwgen.ir import host
from hwgen.ir.types import TensorType

Array = npt.NDArray[Any]
Axes = tuple[int, ...]
H, W, C = 0, 1, 2  # axes of a channels-last activation: positions in TensorType.shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant:
    """A tensor known at import. Shape arithmetic may depend on the batch: `probes` are the values for two batch sizes, else one object twice."""

    probes: tuple[Array, Array]

    @staticmethod
    def of(array: Array) -> Constant:
        return Constant(probes=(array, array))

    @property
    def elements(self) -> int:
        return sum(probe.size for probe in self.probes)

    @property
    def varies(self) -> bool:
        return self.probes[0] is not self.probes[1]


@dataclass(frozen=True, kw_only=True)
class HostArray:
    """An array (N, *shape) that the processor holds: `steps` made it from `source` (a graph input, or an accelerated value). `names`: of the
    ONNX tensor behind each step."""

    source: str
    shape: tuple[int, ...]
    steps: tuple[host.HostStep, ...] = ()
    names: tuple[str, ...] = ()

    def then(self, step: host.HostStep, name: str) -> Self:
        return replace(self, steps=(*self.steps, step), names=(*self.names, name), shape=host.shape_after(step, self.shape))


@dataclass(frozen=True, kw_only=True)
class RawInput(HostArray):
    """A graph input whose dimensions have no meaning yet: the first accelerated operator says which is the channel. `integer`: operators
    work on integers, and not on real numbers."""

    integer: bool = False


@dataclass(frozen=True, kw_only=True)
class Result(HostArray):
    """An array after the accelerated part; `cause` says why no accelerated operator can read it."""

    cause: Unsupported


@dataclass(frozen=True, kw_only=True)
class Image:
    """Accelerated `value` as ONNX sees it: dims[i] are the channels-last axes that ONNX dimension i + 1 runs over, slowest first.

    Axes of size 1 may be absent from `dims`, and a dimension of size 1 may be ().
    """

    value: str
    type: TensorType
    dims: tuple[Axes, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(math.prod(self.type.shape[axis] for axis in dim) for dim in self.dims)

    @property
    def core(self) -> tuple[Axes, ...]:
        """`dims` without axes of size 1."""
        return tuple(tuple(axis for axis in dim if self.type.shape[axis] != 1) for dim in self.dims)

    @property
    def order(self) -> Axes:
        """The axes of more than one element in ONNX's order."""
        return tuple(axis for dim in self.core for axis in dim)

    @property
    def labels(self) -> tuple[Axes, ...]:
        """`dims` with every axis named: free axes go to the empty dimensions, the channel first to the dimension after the batch."""
        free = [axis for axis in (H, W, C) if not any(axis in dim for dim in self.dims)]
        result = list(self.dims)
        if result and not result[0] and C in free:
            result[0] = (C,)
            free.remove(C)
        for index, dim in enumerate(result):
            if not dim and free:
                result[index] = (free.pop(0),)
        return tuple(result)

    def reshaped(self, shape: Sequence[int]) -> Image | None:
        """Seen as (N, *shape), or None when that needs an axis to be split."""
        axes = list(self.order)
        dims: list[Axes] = []
        for size in shape:
            taken: list[int] = []
            while axes and math.prod(self.type.shape[axis] for axis in taken) < size:
                taken.append(axes.pop(0))
            if math.prod(self.type.shape[axis] for axis in taken) != size:
                return None
            dims.append(tuple(taken))
        return replace(self, dims=tuple(dims))

    def canonical(self, array: Array) -> Array:
        """A constant of the ONNX shape (shape) -> (H, W, C), sizes 1 allowed wherever the ONNX dimension has one axis."""
        sizes = [size for dim, size in zip(self.core, array.shape, strict=True) for size in self._split(dim, size)]
        order = self.order
        rows = [0, 0, 0]
        moved = array.reshape(sizes).transpose(np.argsort(order)) if order else array.reshape(())
        for axis, size in zip(sorted(order), moved.shape, strict=True):
            rows[axis] = size
        return moved.reshape([size or 1 for size in rows])

    def _split(self, dim: Axes, size: int) -> list[int]:
        """Sizes of the axes of one dimension of `size` elements, which is the whole dimension or 1."""
        return [self.type.shape[axis] if size != 1 else 1 for axis in dim]

    def to_host(self) -> tuple[host.HostStep, ...]:
        """Steps from (N, H, W, C) to the ONNX tensor."""
        order = (*self.order, *(axis for axis in (H, W, C) if axis not in self.order))
        steps: tuple[host.HostStep, ...] = (host.Transpose(permutation=(0, *(axis + 1 for axis in order))), host.Reshape(shape=self.shape))
        return host.simplified(steps, self.type.shape)


View = RawInput | Image | Result


def default_roles(rank: int, channels_last: bool) -> Axes | None:
    """Axis of each of `rank` dimensions after the batch, by the usual orders; None for ranks that have none."""
    first = {1: (C,), 2: (C, W), 3: (C, H, W)}
    last = {1: (C,), 2: (W, C), 3: (H, W, C)}
    return (last if channels_last else first).get(rank)
