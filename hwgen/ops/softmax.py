"""Softmax, its logarithm, and the place of an extreme, between operators of the accelerator: on the processor."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.errors import ModelError
from hwgen.ir import host
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Example

LONGEST = 1 << 16  # elements of one sum


def _require_axis(operator: str, axis: int, x: TensorType) -> None:
    if axis not in (1, 2, 3):
        raise ModelError(f"{operator}: axis must be 1, 2 or 3, not {axis}")
    if x.shape[axis - 1] > LONGEST:
        raise ModelError(f"{operator}: must run over at most {LONGEST} elements, not {x.shape[axis - 1]}")


def _along_each_axis(*operators: type[Softmax] | type[LogSoftmax]) -> tuple[Example, ...]:
    return tuple(Example(op=operator(axis=axis), inputs=(TensorType(3, 5, 7),)) for operator in operators for axis in (1, 2, 3))


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """exp(x) / sum(exp(x)) along `axis` of (N, H, W, C): 1, 2 or 3."""

    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        _require_axis("Softmax", self.axis, types[0])
        return types[0]

    def reference(self, *arrays: FloatArray) -> FloatArray:
        return host.Softmax(axis=self.axis).apply(arrays[0])

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        return _along_each_axis(Softmax)


@dataclass(frozen=True, kw_only=True)
class LogSoftmax:
    """x - ln(sum(exp(x))) along `axis` of (N, H, W, C): 1, 2 or 3."""

    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        _require_axis("LogSoftmax", self.axis, types[0])
        return types[0]

    def reference(self, *arrays: FloatArray) -> FloatArray:
        return host.LogSoftmax(axis=self.axis).apply(arrays[0])

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        return _along_each_axis(LogSoftmax)


@dataclass(frozen=True, kw_only=True)
class ArgExtremum:
    """Index of the greatest (`largest`) or smallest element along `axis` of (N, H, W, C), which stays with size 1: the first of equal ones,
    or the `last`."""

    axis: int
    largest: bool = True
    last: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        _require_axis("ArgExtremum", self.axis, x)
        return TensorType(*(1 if axis == self.axis else size for axis, size in enumerate(x.shape, 1)))

    @property
    def step(self) -> host.ArgExtremum:
        """The same on real numbers outside the accelerated part."""
        return host.ArgExtremum(axis=self.axis, largest=self.largest, last=self.last)

    def reference(self, *arrays: FloatArray) -> FloatArray:
        return self.step.apply(arrays[0])

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(3, 5, 7)
        return (
            Example(op=ArgExtremum(axis=3), inputs=(x,)),
            Example(op=ArgExtremum(axis=1, largest=False), inputs=(x,)),
            Example(op=ArgExtremum(axis=2, last=True), inputs=(x,)),
        )
