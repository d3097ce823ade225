"""Parts of a value: a rectangle of pixels in a range of channel blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwgen.ops.base import Window


@dataclass(frozen=True, kw_only=True)
class Box:
    """Rows top..bottom-1, columns left..right-1, channel blocks first_block..end_block-1 of a value."""

    top: int
    bottom: int
    left: int
    right: int
    first_block: int
    end_block: int

    @property
    def rows(self) -> int:
        return self.bottom - self.top

    @property
    def columns(self) -> int:
        return self.right - self.left

    @property
    def blocks(self) -> int:
        return self.end_block - self.first_block

    @property
    def pixels(self) -> int:
        return self.rows * self.columns

    @property
    def empty(self) -> bool:
        return self.rows <= 0 or self.columns <= 0 or self.blocks <= 0

    def intersect(self, other: Box) -> Box:
        """What both contain; `empty` where that is nothing."""
        return Box(
            top=max(self.top, other.top),
            bottom=min(self.bottom, other.bottom),
            left=max(self.left, other.left),
            right=min(self.right, other.right),
            first_block=max(self.first_block, other.first_block),
            end_block=min(self.end_block, other.end_block),
        )


def whole(height: int, width: int, blocks: int) -> Box:
    """All of a value."""
    return Box(top=0, bottom=height, left=0, right=width, first_block=0, end_block=blocks)


def _span(first: int, end: int, axis: int, window: Window, length: int) -> tuple[int, int]:
    """Input positions that outputs first..end-1 read along an axis, cut to the image; at least one."""
    low = first * window.strides[axis] - window.pads[axis]
    high = (end - 1) * window.strides[axis] - window.pads[axis] + window.extent[axis]
    low = min(max(low, 0), length - 1)
    return low, min(max(high, low + 1), length)


def window_box(box: Box, window: Window, height: int, width: int) -> Box:
    """What a window reads of an image of `height` x `width` to compute the pixels of `box`; blocks as in `box`."""
    top, bottom = _span(box.top, box.bottom, 0, window, height)
    left, right = _span(box.left, box.right, 1, window, width)
    return replace(box, top=top, bottom=bottom, left=left, right=right)
