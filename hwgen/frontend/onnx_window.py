"""Convolution and pooling: ONNX attributes to windows over channels-last images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwgen.frontend.onnx_arrange import arranged
from hwgen.frontend.onnx_builder import Builder, reals
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_reduce import Reduction, over_dimensions
from hwgen.frontend.onnx_view import Axes, C, H, Image, W
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Pads, Window, ceil_padding
from hwgen.ops.conv import Conv
from hwgen.ops.max_pool import MaxPool


@dataclass(frozen=True, kw_only=True)
class Slide:
    """The window along one ONNX dimension. `ceil` is padding beyond the model's own `end`, from ceil_mode."""

    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int
    ceil: int = 0


UNIT = Slide(kernel=1, stride=1, dilation=1, begin=0, end=0)


def conv(builder: Builder, node: OnnxNode) -> None:
    """Conv with constant weights, 1-D or 2-D."""
    weight = builder.constant(node, 1, "the weight")
    bias = builder.optional(node, 2, "the bias")
    rank = weight.ndim - 2
    if rank not in (1, 2):
        raise node.refuse(f"must be 1-D or 2-D, not {rank}-D")
    kernel = node.integers("kernel_shape", weight.shape[2:], count=rank)
    if kernel != list(weight.shape[2:]):
        raise node.malformed(f"attribute kernel_shape must be that of the weight, {list(weight.shape[2:])}, not {kernel}")
    group, channels = node.integer("group", 1), weight.shape[0]
    if group < 1 or channels < 1 or channels % group:
        raise node.malformed(f"attribute group must be at least 1 and divide the {channels} output channels, not {group}")
    if bias is not None and bias.shape != (channels,):
        raise node.malformed(f"the bias must be of shape [{channels}], not {list(bias.shape)}")
    image = channels_first(builder, node, rank)
    if image.type.channels != weight.shape[1] * group:
        raise node.malformed(f"input channels must be {weight.shape[1]} x group {group} as in the weight, not {image.type.channels}")
    slides = _slides(node, kernel, image.shape[1:])
    axes = _axes(node, image, slides)
    kernels = reals(weight) if axes != (W, H) else reals(weight.swapaxes(2, 3))
    window = _window(axes, slides)
    op = Conv(
        weight=np.ascontiguousarray(kernels.reshape(channels, -1, *window.kernel).transpose(0, 2, 3, 1)),
        bias=np.zeros(channels, np.float32) if bias is None else reals(bias),
        window=window,
        group=group,
    )
    builder.emit(node, op, [image], ((C,), *spatial_dims(image, axes)))


def max_pool(builder: Builder, node: OnnxNode) -> None:
    """MaxPool; its second output is refused where it is used."""
    image, slides, axes = _pool(builder, node)
    builder.emit(node, MaxPool(window=_window(axes, slides)), [image], (image.dims[0], *spatial_dims(image, axes)))


def average_pool(builder: Builder, node: OnnxNode) -> None:
    """AveragePool; padding counts in the divisor with count_include_pad, cells that only ceil_mode adds never do."""
    image, slides, axes = _pool(builder, node)
    counted: Pads = _by_axis(axes, slides, pads=True) if node.integer("count_include_pad", 0) else (0, 0, 0, 0)
    builder.emit(node, AveragePool(window=_window(axes, slides), counted_pads=counted), [image], (image.dims[0], *spatial_dims(image, axes)))


def global_average_pool(builder: Builder, node: OnnxNode) -> None:
    _global(builder, node, Reduction.MEAN)


def global_max_pool(builder: Builder, node: OnnxNode) -> None:
    _global(builder, node, Reduction.MAX)


def _global(builder: Builder, node: OnnxNode, kind: Reduction) -> None:
    image = channels_first(builder, node, len(builder.view(node, 0).shape) - 1)
    over_dimensions(builder, node, image, range(1, len(image.dims)), kind)


def _pool(builder: Builder, node: OnnxNode) -> tuple[Image, list[Slide], Axes]:
    kernel = node.integers("kernel_shape")
    if not kernel:
        raise node.malformed("needs attribute kernel_shape")
    if len(kernel) > 2:
        raise node.refuse(f"must be 1-D or 2-D, not {len(kernel)}-D", "kernel_shape")
    image = channels_first(builder, node, len(kernel))
    slides = _slides(node, kernel, image.shape[1:], ceil=bool(node.integer("ceil_mode", 0)))
    return image, slides, _axes(node, image, slides)


def channels_first(builder: Builder, node: OnnxNode, rank: int) -> Image:
    """The operand with its channels in the dimension after the batch and `rank` dimensions of space."""
    image = builder.image(node, 0, channels_last=False)
    if len(image.dims) != rank + 1:
        raise node.malformed(f"input must have {rank + 2} dimensions, not {len(image.dims) + 1}")
    if image.core[0] not in ((C,), ()) or (image.core[0] == () and image.type.channels != 1):
        if not builder.processor:
            raise node.refuse("would need its input transposed at run time: the dimension after the batch is not that of the channels")
        return arranged(builder, node, image, ((C,), (H,), (W,))[: rank + 1])
    return image


def _slides(node: OnnxNode, kernel: Sequence[int], sizes: Sequence[int], ceil: bool = False) -> list[Slide]:
    """One Slide per spatial dimension; all rules of ONNX on pads, auto_pad and ceil_mode."""
    rank = len(kernel)
    strides = node.integers("strides", [1] * rank, count=rank) or []
    dilations = node.integers("dilations", [1] * rank, count=rank) or []
    pads = node.integers("pads", [0] * 2 * rank, count=2 * rank) or []
    mode = node.text("auto_pad", "NOTSET")
    for attribute, numbers, least in (("kernel_shape", kernel, 1), ("strides", strides, 1), ("dilations", dilations, 1), ("pads", pads, 0)):
        if min(numbers) < least:
            raise node.malformed(f"attribute {attribute} must be at least {least}, not {list(numbers)}")
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.malformed(f"attribute auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {mode!r}")
    result = []
    for i, size in enumerate(sizes):
        extent = (kernel[i] - 1) * dilations[i] + 1
        begin, end = (pads[i], pads[rank + i]) if mode == "NOTSET" else (0, 0)
        if mode.startswith("SAME"):
            total = max((-(-size // strides[i]) - 1) * strides[i] + extent - size, 0)
            begin = (total + 1) // 2 if mode == "SAME_LOWER" else total // 2
            end = total - begin
        beyond = ceil_padding(size + begin, end, extent, strides[i]) if ceil and mode == "NOTSET" else 0
        result.append(Slide(kernel=kernel[i], stride=strides[i], dilation=dilations[i], begin=begin, end=end, ceil=beyond))
    return result


def _axes(node: OnnxNode, image: Image, slides: Sequence[Slide]) -> Axes:
    return spatial_axes(node, image, any(slide != UNIT for slide in slides), len(slides))


def spatial_axes(node: OnnxNode, image: Image, moves: bool, rank: int) -> Axes:
    """The axis (H or W) that each of `rank` spatial dimensions runs over; `moves`: the operator reads more than the same place."""
    core, labels = image.core[1:], image.labels[1:]
    if any(len(dim) > 1 for dim in core):
        if moves:
            raise node.refuse("would need its input reshaped at run time: a spatial dimension joins rows and columns")
        return (H, W)[:rank]
    free = [axis for axis in (H, W) if not any(axis in dim for dim in core)]
    axes: list[int] = []
    for dim, label in zip(core, labels, strict=True):
        if dim:
            axes.append(dim[0])
            continue
        wanted = next((axis for axis in label if axis in free), free[-1] if rank == 1 else free[0])
        free.remove(wanted)
        axes.append(wanted)
    return tuple(axes)


def spatial_dims(image: Image, axes: Axes) -> list[Axes]:
    """The spatial dimensions of the output: as the window moved, or unchanged where one joins rows and columns."""
    return list(image.core[1:]) if any(len(dim) > 1 for dim in image.core) else [(axis,) for axis in axes]


def _by_axis(axes: Axes, slides: Sequence[Slide], pads: bool = False, ceil: bool = False) -> Pads:
    """(top, left, bottom, right) of the model's own pads, of the ceil_mode pads, or of both."""
    by_axis = dict(zip(axes, slides, strict=True))
    rows, columns = by_axis.get(H, UNIT), by_axis.get(W, UNIT)
    top, left = rows.begin * pads, columns.begin * pads
    return (top, left, rows.end * pads + rows.ceil * ceil, columns.end * pads + columns.ceil * ceil)


def _window(axes: Axes, slides: Sequence[Slide]) -> Window:
    by_axis = dict(zip(axes, slides, strict=True))
    rows, columns = by_axis.get(H, UNIT), by_axis.get(W, UNIT)
    return Window(
        kernel=(rows.kernel, columns.kernel),
        strides=(rows.stride, columns.stride),
        dilations=(rows.dilation, columns.dilation),
        pads=_by_axis(axes, slides, pads=True, ceil=True),
    )


WINDOW_HANDLERS = {
    "Conv": conv,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
}
