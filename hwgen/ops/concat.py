"""Concatenation along rows (axis 0), columns (1) or channels (2) of the channels-last image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Concat:
    """All inputs and the output share one quantization."""

    axis: int = 2
