"""ReLU, ReLU6 and Clip that could not be fused into the operator before."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Clamp:
    """Limit to the real interval `clamp`. Input and output share one quantization."""

    clamp: tuple[float, float]
