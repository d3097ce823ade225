"""Constant padding that no window could absorb; negative pads crop."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.ops.base import Pads


@dataclass(frozen=True, kw_only=True)
class Pad:
    """pads (top, left, bottom, right) filled with the real `value`. Input and output share one quantization."""

    pads: Pads
    value: float = 0.0
