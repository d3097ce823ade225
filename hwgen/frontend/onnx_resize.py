"""Resize and Upsample: which input pixel each output pixel is, by ONNX's own formulas, and what that is on the accelerator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_interpolate import interpolate
from hwgen.frontend.onnx_node import OnnxNode, Refusal
from hwgen.frontend.onnx_view import C, H, Image, W
from hwgen.ops.resize import Resize
from hwgen.ops.slice import Slice

_HALF = Fraction(1, 2)
# Position in the input of output x, for `scale`, and the lengths of both: ONNX, Resize-19.
_POSITIONS: dict[str, Callable[[int, Fraction, int, int], Fraction]] = {
    "half_pixel": lambda x, scale, old, new: (x + _HALF) / scale - _HALF,
    "half_pixel_symmetric": lambda x, scale, old, new: Fraction(old, 2) * (1 - Fraction(new) / (scale * old)) + (x + _HALF) / scale - _HALF,
    "pytorch_half_pixel": lambda x, scale, old, new: (x + _HALF) / scale - _HALF if new > 1 else Fraction(0),
    "tf_half_pixel_for_nn": lambda x, scale, old, new: (x + _HALF) / scale,
    "align_corners": lambda x, scale, old, new: Fraction(x * (old - 1), new - 1) if new > 1 else Fraction(0),
    "asymmetric": lambda x, scale, old, new: x / scale,
}
_ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda x: math.ceil(x - _HALF),
    "round_prefer_ceil": lambda x: math.floor(x + _HALF),
    "floor": math.floor,
    "ceil": math.ceil,
}


def resize(builder: Builder, node: OnnxNode) -> None:
    """Nearest pixels: each repeated, or every second, third, ..., others copied by the processor; linear and cubic: 1x1 convolutions between moves."""
    try:
        _nearest(builder, node)
    except Refusal:
        if not builder.processor:
            raise
        interpolate(builder, node)


def _nearest(builder: Builder, node: OnnxNode) -> None:
    """What copies that begin later, step farther or leave gaps can do."""
    if node.text("mode", "nearest") != "nearest":
        raise node.refuse(f"must be nearest, not {node.text('mode', '')}", "mode")
    image = builder.image(node, 0)
    scales, sizes = _scales(builder, node, image)
    position, rounding = node.text("coordinate_transformation_mode", "half_pixel"), node.text("nearest_mode", "round_prefer_floor")
    if node.operator == "Upsample" or node.opset < 11:
        position, rounding = "asymmetric", "floor"
    if position not in _POSITIONS:
        raise node.refuse(f"must be one of {', '.join(_POSITIONS)}, not {position}", "coordinate_transformation_mode")
    if rounding not in _ROUNDINGS:
        raise node.malformed(f"attribute nearest_mode must be one of {', '.join(_ROUNDINGS)}, not {rounding!r}")
    chosen: dict[int, list[int]] = {}
    for dimension, (old, scale, new) in enumerate(zip(image.shape, scales, sizes, strict=True)):
        if new < 1:
            raise node.malformed(f"must leave at least one element in each dimension, not {new}")
        rounded = (_ROUNDINGS[rounding](_POSITIONS[position](x, scale, old, new)) for x in range(new))
        chosen[dimension] = [min(max(x, 0), old - 1) for x in rounded]
    _emit(builder, node, image, chosen)


def _scales(builder: Builder, node: OnnxNode, image: Image) -> tuple[list[Fraction], list[int]]:
    """Scale and new length of each dimension after the batch."""
    rank = len(image.dims) + 1
    places = (1, -1) if node.operator == "Upsample" or node.opset < 11 else (2, 3)
    given = node.attributes.get("scales")
    array = builder.optional(node, places[0], "scales")
    lengths = builder.optional(node, places[1], "sizes") if places[1] > 0 else None
    numbers: Sequence[float] = list(given) if given is not None else [] if array is None else array.reshape(-1).tolist()
    axes = [axis % rank for axis in node.integers("axes", list(range(rank))) or []]
    targets = [] if lengths is None else [int(length) for length in lengths.reshape(-1)]
    if len(numbers or targets) != len(axes) or not all(0 < number < 1 << 20 for number in numbers):
        raise node.malformed(f"needs a positive scale or a size for each of {len(axes)} dimensions, not {list(numbers or targets)}")
    if targets and node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.refuse("must be stretch", "keep_aspect_ratio_policy")
    scales, sizes = [Fraction(1)] * rank, [1, *image.shape]
    for index, axis in enumerate(axes):
        if axis == 0:  # sizes name the batch that the model was exported with
            if numbers and numbers[index] != 1:
                raise node.refuse("must not resize the batch", "scales")
        elif numbers:
            scales[axis] = Fraction(numbers[index])
            sizes[axis] = math.floor(image.shape[axis - 1] * scales[axis])
        else:
            scales[axis], sizes[axis] = Fraction(targets[index], image.shape[axis - 1]), targets[index]
    return scales[1:], sizes[1:]


def _emit(builder: Builder, node: OnnxNode, image: Image, chosen: dict[int, list[int]]) -> None:
    """The image whose element k along each dimension is the old one's element chosen[dimension][k]."""
    labels = image.labels
    factors, starts, counts, steps = {H: 1, W: 1}, [0, 0, 0], list(image.type.shape), [1, 1, 1]
    for dimension, elements in chosen.items():
        size = image.shape[dimension]
        if elements == list(range(size)):
            continue
        label, step = labels[dimension], elements[1] - elements[0] if len(elements) > 1 else 1
        if len(label) != 1:
            raise node.refuse("must resize height and width only, one dimension each")
        factor = len(elements) // size
        if step >= 1 and elements == list(range(elements[0], elements[-1] + 1, step)):
            starts[label[0]], counts[label[0]], steps[label[0]] = elements[0], len(elements), step
        elif label[0] != C and factor and elements == [k // factor for k in range(size * factor)]:
            factors[label[0]] = factor
        else:
            raise node.refuse(f"must repeat each element of a dimension equally often, but makes of {size} elements {_excerpt(elements)}")
    if (tuple(counts), tuple(starts)) != (image.type.shape, (0, 0, 0)):
        part = builder.part(node, "part", Slice(starts=_triple(starts), counts=_triple(counts), steps=_triple(steps)), image, labels)
    else:
        part = image
    builder.emit(node, Resize(factors=(factors[H], factors[W])), [part], labels)


def _triple(numbers: Sequence[int]) -> tuple[int, int, int]:
    return numbers[0], numbers[1], numbers[2]


def _excerpt(elements: Sequence[int]) -> str:
    return ", ".join(map(str, elements[:8])) + (", ..." if len(elements) > 8 else "")


RESIZE_HANDLERS = {"Resize": resize, "Upsample": resize}
