"""ConvTranspose: a convolution with the kernel turned by 180 degrees, over an image with zeros between its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwgen.frontend.onnx_builder import Builder, reals
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import Array, Axes, C, H, W
from hwgen.frontend.onnx_window import channels_first, spatial_axes, spatial_dims
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """Along one ONNX dimension: pixels `stride` apart, and a kernel over `begin` and `end` more of them."""

    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int


_UNIT = _Spread(kernel=1, stride=1, dilation=1, begin=0, end=0)


def conv_transpose(builder: Builder, node: OnnxNode) -> None:
    """With constant weights, 1-D or 2-D: as many convolutions as a pixel becomes pixels."""
    weight, bias = builder.constant(node, 1, "the weight"), builder.optional(node, 2, "the bias")
    rank = weight.ndim - 2
    if rank not in (1, 2):
        raise node.refuse(f"must be 1-D or 2-D, not {rank}-D")
    group = node.integer("group", 1)
    if group < 1 or weight.shape[0] % group:
        raise node.malformed(f"attribute group must be at least 1 and divide the {weight.shape[0]} input channels, not {group}")
    channels = weight.shape[1] * group
    if bias is not None and bias.shape != (channels,):
        raise node.malformed(f"the bias must be of shape [{channels}], not {list(bias.shape)}")
    kernel = node.integers("kernel_shape", weight.shape[2:], count=rank)
    if kernel != list(weight.shape[2:]):
        raise node.malformed(f"attribute kernel_shape must be that of the weight, {list(weight.shape[2:])}, not {kernel}")
    image = channels_first(builder, node, rank)
    if image.type.channels != weight.shape[0]:
        raise node.malformed(f"input channels must be {weight.shape[0]} as in the weight, not {image.type.channels}")
    spreads = _spreads(node, kernel, image.shape[1:])
    axes = spatial_axes(node, image, any(spread != _UNIT for spread in spreads), rank)
    by_axis = dict(zip(axes, spreads, strict=True))
    rows, columns = by_axis.get(H, _UNIT), by_axis.get(W, _UNIT)
    window = Window(
        kernel=(rows.kernel, columns.kernel), dilations=(rows.dilation, columns.dilation), pads=(rows.begin, columns.begin, rows.end, columns.end)
    )
    op = Conv(
        weight=_turned(reals(weight), axes, group, window),
        bias=np.zeros(channels, np.float32) if bias is None else reals(bias),
        window=window,
        spread=(rows.stride, columns.stride),
    )
    builder.emit(node, op, [image], ((C,), *spatial_dims(image, axes)))


def _turned(weight: Array, axes: Axes, group: int, window: Window) -> Array:
    """(C_in, C_out / group, kernel) -> (C_out, rows, columns, C_in), turned, with zeros between groups."""
    kernels = weight if axes != (W, H) else weight.swapaxes(2, 3)
    inputs, outputs = weight.shape[0] // group, weight.shape[1]
    flipped = kernels.reshape(*weight.shape[:2], *window.kernel)[:, :, ::-1, ::-1].transpose(1, 2, 3, 0)
    result = np.zeros((outputs * group, *window.kernel, weight.shape[0]), np.float32)
    for g in range(group):
        result[g * outputs : (g + 1) * outputs, ..., g * inputs : (g + 1) * inputs] = flipped[..., g * inputs : (g + 1) * inputs]
    return result


def _spreads(node: OnnxNode, kernel: Sequence[int], sizes: Sequence[int]) -> list[_Spread]:
    """All rules of ONNX on pads, output_padding, output_shape and auto_pad."""
    rank = len(kernel)
    strides, dilations, pads, more = (
        node.integers(name, [default] * count, count=count) or []
        for name, default, count in (("strides", 1, rank), ("dilations", 1, rank), ("pads", 0, 2 * rank), ("output_padding", 0, rank))
    )
    for attribute, numbers, least in (("kernel_shape", kernel, 1), ("strides", strides, 1), ("dilations", dilations, 1), ("output_padding", more, 0)):
        if min(numbers) < least:
            raise node.malformed(f"attribute {attribute} must be at least {least}, not {list(numbers)}")
    mode = node.text("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.malformed(f"attribute auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {mode!r}")
    shape = node.integers("output_shape")
    shape = None if shape is None else shape[-rank:]
    result = []
    for i, size in enumerate(sizes):
        extent = (kernel[i] - 1) * dilations[i] + 1
        begin, end = (pads[i], pads[rank + i]) if mode == "NOTSET" else (0, 0)
        missing = 0  # of an output_shape beyond what the kernel reaches: at the end
        if shape is not None or mode.startswith("SAME"):
            wanted = shape[i] if shape is not None else size * strides[i]
            total = strides[i] * (size - 1) + more[i] + extent - wanted
            missing, total = max(-total, 0), max(total, 0)
            begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
            end = total - begin
        if max(begin, end - more[i]) > extent - 1 or min(begin, end) < 0:
            raise node.refuse(f"must be 0 to {extent - 1}, what the kernel reaches beyond its first tap, not {begin} and {end}", "pads")
        spread = _Spread(kernel=kernel[i], stride=strides[i], dilation=dilations[i], begin=extent - 1 - begin, end=extent - 1 - end + more[i] + missing)
        result.append(spread)
    return result


TRANSPOSED_HANDLERS = {"ConvTranspose": conv_transpose}
