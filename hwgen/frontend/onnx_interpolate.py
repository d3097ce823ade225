"""Resize of any kind: where it copies elements, the processor moves them; where it mixes them, each axis is a product with a constant matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_dense import contract
from hwgen.frontend.onnx_moves import move
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import Array
from hwgen.ir import host

Place = Callable[[float, int, int, float], float]  # index in the result, sizes of operand and result, scale -> place in the operand


def _symmetric(x: float, size: int, wide: int, scale: float) -> float:
    return size / 2 * (1 - wide / (scale * size)) + (x + 0.5) / scale - 0.5


PLACES: dict[str, Place] = {  # ONNX Resize, coordinate_transformation_mode
    "half_pixel": lambda x, size, wide, scale: (x + 0.5) / scale - 0.5,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda x, size, wide, scale: (x + 0.5) / scale - 0.5 if wide > 1 else 0.0,
    "asymmetric": lambda x, size, wide, scale: x / scale,
    "tf_half_pixel_for_nn": lambda x, size, wide, scale: (x + 0.5) / scale,
    "align_corners": lambda x, size, wide, scale: x * (size - 1) / (wide - 1) if wide > 1 else 0.0,
}
NEAREST: dict[str, Callable[[float], int]] = {  # ONNX Resize, nearest_mode
    "round_prefer_floor": lambda x: math.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: math.floor(x + 0.5),
    "floor": math.floor,
    "ceil": math.ceil,
}


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """The attributes that say how one axis is sampled."""

    mode: str
    place: Place
    nearest: Callable[[float], int]
    cubic: float
    exclude_outside: bool
    antialias: bool

    def kernel(self, distance: Array) -> Array:
        """Weight of an element at such distances. Cubic: R. Keys, IEEE Trans. ASSP 29 (1981)."""
        d, a = np.abs(distance), self.cubic
        if self.mode == "linear":
            return np.asarray(np.maximum(0.0, 1 - d))
        inner = ((a + 2) * d - (a + 3)) * d * d + 1
        outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, inner, np.where(d < 2, outer, 0.0))

    def row(self, x: float, size: int, scale: float) -> Array:
        """(size,) weights of the operand's elements at place x; elements beyond the ends count as the last ones, or not at all."""
        weights = np.zeros(size)
        if self.mode == "nearest":
            weights[min(max(self.nearest(x), 0), size - 1)] = 1
            return weights
        squeeze = min(scale, 1.0) if self.antialias else 1.0
        reach = (1 if self.mode == "linear" else 2) / squeeze
        taps = np.arange(math.floor(x - reach), math.ceil(x + reach) + 1)
        values = self.kernel((taps - x) * squeeze)
        if self.exclude_outside:
            values = np.where((taps >= 0) & (taps < size), values, 0.0)
        if self.exclude_outside or self.antialias:
            values = values / values.sum()
        np.add.at(weights, np.clip(taps, 0, size - 1), values)
        return weights

    def matrix(self, size: int, wide: int, scale: float) -> Array:
        """(wide, size): each element of the result from those of the operand."""
        return np.stack([self.row(self.place(x, size, wide, scale), size, scale) for x in range(wide)])


def _rule(node: OnnxNode) -> _Rule:
    mode, place = node.text("mode", "nearest"), node.text("coordinate_transformation_mode", "asymmetric" if node.opset < 11 else "half_pixel")
    nearest = node.text("nearest_mode", "floor" if node.opset < 11 else "round_prefer_floor")
    if mode not in ("nearest", "linear", "cubic"):
        raise node.refuse(f"must be nearest, linear or cubic, not {mode}", "mode")
    if place not in PLACES:
        raise node.refuse(f"must be one of {', '.join(PLACES)}, not {place}", "coordinate_transformation_mode")
    if nearest not in NEAREST:
        raise node.refuse(f"must be one of {', '.join(NEAREST)}, not {nearest}", "nearest_mode")
    return _Rule(
        mode=mode,
        place=PLACES[place],
        nearest=NEAREST[nearest],
        cubic=node.real("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.integer("exclude_outside", 0)),
        antialias=bool(node.integer("antialias", 0)) and mode != "nearest",
    )


def _sizes(builder: Builder, node: OnnxNode, shape: tuple[int, ...]) -> list[tuple[int, int, float]]:
    """Dimension without the batch, its size in the result and its scale, for each dimension that is resized."""
    rank = len(shape) + 1
    axes = [axis % rank for axis in node.integers("axes", list(range(rank))) or []]
    scales = builder.optional(node, 1 if node.opset < 11 else 2, "the scales")
    sizes = builder.optional(node, 3, "the sizes") if node.opset >= 11 else None
    given = sizes if scales is None or not scales.size else scales
    if given is None or given.size != len(axes):
        raise node.malformed(f"needs {len(axes)} scales or sizes")
    known = dict(zip(axes, given.reshape(-1).tolist(), strict=True))
    batch = known.pop(0, None)
    if given is scales:
        fractions = [scale for axis, scale in known.items() if (np.float32(scale) * shape[axis - 1]) % 1]
        if fractions and node.text("coordinate_transformation_mode", "") == "align_corners":  # runtimes and ONNX's reference evaluator differ
            raise node.refuse(f"must give whole numbers of elements where corners are aligned, not a fraction as {fractions[0]:.6g} does", "scales")
        if batch not in (None, 1.0) or min(known.values()) <= 0:
            raise node.refuse("must not resize the batch, and be above 0", "scales")
        return [(axis - 1, math.floor(shape[axis - 1] * np.float32(scale)), float(scale)) for axis, scale in known.items()]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    ratios = [known[axis] / shape[axis - 1] for axis in known]
    if policy == "stretch":
        return [(axis - 1, int(size), size / shape[axis - 1]) for axis, size in known.items()]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [(axis - 1, math.floor(scale * shape[axis - 1] + 0.5), scale) for axis in known]


def interpolate(builder: Builder, node: OnnxNode) -> None:
    """By constant scales or sizes, one axis after the other: copies on the processor; linear and cubic weights as a 1x1 convolution."""
    rule, current = _rule(node), node
    shape = builder.view(node, 0).shape
    todo = [(axis, wide, scale) for axis, wide, scale in _sizes(builder, node, shape) if (wide, scale) != (shape[axis], 1.0)]
    if any(wide < 1 for _, wide, _ in todo):
        raise node.refuse("must leave at least one element of each dimension")
    if not todo:
        move(builder, node, ())
    for index, (axis, wide, scale) in enumerate(todo):
        last = index == len(todo) - 1
        name = node.output if last else builder.free_name(node, f"axis{axis}")
        step = replace(current, outputs=(name,))
        matrix = rule.matrix(shape[axis], wide, scale)
        if ((matrix != 0).sum(axis=1) == 1).all() and (matrix.max(axis=1) == 1).all():
            move(builder, step, (host.Take(axis=axis + 1, indices=tuple(matrix.argmax(axis=1).tolist())),))
        else:
            contract(builder, step, builder.image(step, 0), axis, matrix.T, np.zeros(wide, np.float32))
        current = replace(node, inputs=(name, *node.inputs[1:]))
