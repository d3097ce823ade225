"""Elements moved to other places, on the processor: what is more than a new name for the dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwgen.errors import ModelError
from hwgen.ir.host import MovingStep, Reshape, Take, Transpose, run_steps, shape_after
from hwgen.ir.types import FloatArray, IntArray, TensorType
from hwgen.ops.base import Example, limited


@dataclass(frozen=True, kw_only=True)
class Move:
    """`steps` from (N, H, W, C) to another (N, H, W, C). Input and output share one quantization."""

    steps: tuple[MovingStep, ...]

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        shape: tuple[int, ...] = x.shape
        for step in self.steps:
            _check(step, shape)
            shape = shape_after(step, shape)
        if len(shape) != 3:
            raise ModelError(f"Move: the result must have 3 dimensions without the batch, not {list(shape)}")
        return limited("Move", TensorType(*shape))

    def reference(self, *arrays: FloatArray) -> FloatArray:
        (x,) = arrays
        return np.ascontiguousarray(run_steps(self.steps, x))

    def work(self, *types: TensorType) -> int:
        return 0

    def sources(self, x: TensorType) -> IntArray:
        """(H, W, C) of the result: which element of the operand, counted in its (H, W, C) order, lies there."""
        numbers = np.arange(x.elements, dtype=np.int64).reshape(1, *x.shape)
        found: IntArray = run_steps(self.steps, numbers)[0]  # type: ignore[arg-type]  # moving asks nothing of the element type
        return found

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(4, 3, 6)
        return (
            Example(op=Move(steps=(Transpose(permutation=(0, 3, 1, 2)),)), inputs=(x,)),
            Example(op=Move(steps=(Reshape(shape=(4, 3, 2, 3)), Transpose(permutation=(0, 4, 1, 2, 3)), Reshape(shape=(3, 4, 6)))), inputs=(x,)),
            Example(op=Move(steps=(Take(axis=1, indices=(3, 1)), Take(axis=3, indices=(0, 0, 5, 5)))), inputs=(x,)),
            Example(op=Move(steps=(Reshape(shape=(1, 1, 72)),)), inputs=(x,)),
        )


def _check(step: MovingStep, shape: tuple[int, ...]) -> None:
    """Raises ModelError for a step that does not fit arrays (N, *shape)."""
    if isinstance(step, Reshape):
        fits = int(np.prod(step.shape, dtype=np.int64)) == int(np.prod(shape, dtype=np.int64))
    elif isinstance(step, Transpose):
        fits = step.permutation[0] == 0 and sorted(step.permutation) == list(range(len(shape) + 1))
    else:
        fits = 0 < step.axis <= len(shape) and len(step.indices) > 0 and all(0 <= index < shape[step.axis - 1] for index in step.indices)
    if not fits:
        raise ModelError(f"Move: {step} must fit arrays of shape {['N', *shape]}")
