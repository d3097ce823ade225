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


HostStep = Reshape | Transpose | Affine | Softmax


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
    return shape


def run_steps(steps: Sequence[HostStep], x: FloatArray) -> FloatArray:
    """All steps in order."""
    for step in steps:
        x = step.apply(x)
    return x
