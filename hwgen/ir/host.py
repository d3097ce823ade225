"""What the processor does to arrays before the first and after the last accelerated operator.

Each step is one frozen dataclass with its float meaning; firmware emits the same steps as C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwgen.ir.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class Reshape:
    """(N, ...) -> (N, *shape), row-major."""

    shape: tuple[int, ...]

    def apply(self, x: FloatArray) -> FloatArray:
        return x.reshape(len(x), *self.shape)


@dataclass(frozen=True, kw_only=True)
class Transpose:
    """Dimension i of the result is dimension permutation[i] of the operand; permutation[0] is 0 (the batch)."""

    permutation: tuple[int, ...]

    def apply(self, x: FloatArray) -> FloatArray:
        return x.transpose(self.permutation)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """x * scale + offset in float32; both broadcast against (N, ...)."""

    scale: FloatArray
    offset: FloatArray

    def apply(self, x: FloatArray) -> FloatArray:
        return x.astype(np.float32) * self.scale + self.offset


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """Softmax along `axis` (counted with the batch as 0), in float32, maximum subtracted."""

    axis: int

    def apply(self, x: FloatArray) -> FloatArray:
        e = np.exp(x - x.max(axis=self.axis, keepdims=True))
        probabilities: FloatArray = e / e.sum(axis=self.axis, keepdims=True)
        return probabilities


@dataclass(frozen=True, kw_only=True)
class LogSoftmax:
    """The logarithm of Softmax along `axis` (counted with the batch as 0), in float32, maximum subtracted."""

    axis: int

    def apply(self, x: FloatArray) -> FloatArray:
        shifted = x - x.max(axis=self.axis, keepdims=True)
        result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))
        return result


@dataclass(frozen=True, kw_only=True)
class ArgExtremum:
    """Index of the greatest (`largest`) or smallest element along `axis` (counted with the batch as 0), which stays with size 1: the first
    of equal ones, or the `last`. Indices as real numbers."""

    axis: int
    largest: bool = True
    last: bool = False

    def apply(self, x: FloatArray) -> FloatArray:
        y = np.flip(x, self.axis) if self.last else x
        index = np.expand_dims(y.argmax(self.axis) if self.largest else y.argmin(self.axis), self.axis)
        return (x.shape[self.axis] - 1 - index if self.last else index).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Take:
    """Elements `indices` along `axis` (counted with the batch as 0), in this order, as often as they stand there."""

    axis: int
    indices: tuple[int, ...]

    def apply(self, x: FloatArray) -> FloatArray:
        taken: FloatArray = x.take(self.indices, axis=self.axis)
        return taken


MovingStep = Reshape | Transpose | Take
HostStep = Reshape | Transpose | Take | Affine | Softmax | LogSoftmax | ArgExtremum


def simplified(steps: Sequence[HostStep], shape: tuple[int, ...]) -> tuple[HostStep, ...]:
    """The same meaning for arrays (N, *shape) with fewer steps: neighbours merged, and steps that move nothing removed."""
    result = list(steps)
    while (shorter := _once_simplified(result, shape)) is not None:
        result = shorter
    return tuple(result)


def _once_simplified(steps: list[HostStep], shape: tuple[int, ...]) -> list[HostStep] | None:
    """`steps` after the first simplification that applies; None when none does."""
    for index, step in enumerate(steps):
        following = steps[index + 1] if index + 1 < len(steps) else None
        before, after, behind = steps[:index], steps[index + 1 :], steps[index + 2 :]
        new_shape = shape_after(step, shape)
        match step, following:
            case (Reshape(), Reshape()):
                return before + after
            case (Transpose(), Transpose()):
                return [*before, Transpose(permutation=tuple(step.permutation[i] for i in following.permutation)), *behind]
            case (Reshape(), _) if new_shape == shape:
                return before + after
            case (Transpose(), _) if step.permutation == tuple(range(len(step.permutation))):
                return before + after
            case (Take(), _) if step.indices == tuple(range(shape[step.axis - 1])):
                return before + after
            case (Transpose(), _) if _moves_only_ones(step, shape):
                return [*before, Reshape(shape=new_shape), *after]
        shape = new_shape
    return None


def _moves_only_ones(step: Transpose, shape: tuple[int, ...]) -> bool:
    moved = [i for i in step.permutation if i > 0 and shape[i - 1] != 1]
    return moved == sorted(moved)


def shape_after(step: HostStep, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape without the batch of what `step` makes of arrays (N, *shape)."""
    if isinstance(step, Reshape):
        return step.shape
    if isinstance(step, Transpose):
        return tuple(shape[i - 1] for i in step.permutation[1:])
    if isinstance(step, Take | ArgExtremum):
        size = len(step.indices) if isinstance(step, Take) else 1
        return (*shape[: step.axis - 1], size, *shape[step.axis :])
    return shape


def inverted(steps: Sequence[HostStep], shape: tuple[int, ...]) -> tuple[HostStep, ...]:
    """Steps that bring back arrays (N, *shape) after `steps`, which are Reshape and Transpose only."""
    back: list[HostStep] = []
    for step in steps:
        assert isinstance(step, Reshape | Transpose)
        back.append(Reshape(shape=shape) if isinstance(step, Reshape) else Transpose(permutation=tuple(int(i) for i in np.argsort(step.permutation))))
        shape = shape_after(step, shape)
    return tuple(back[::-1])


def run_steps(steps: Sequence[HostStep], x: FloatArray) -> FloatArray:
    """All steps in order."""
    for step in steps:
        x = step.apply(x)
    return x
