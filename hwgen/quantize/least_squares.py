"""Weights of few bits that are chosen together with their scales, so that a layer's output on what it really meets is nearest to the float one.

A layer behind quantized ones meets other inputs than the float layer. The real weights that make the best of these are a least-squares
solution; integers near it are found by adaptive rounding, then by changing one after the other while that gains, in turn with the scale
that fits them best.

Sources: Frantar et al., "GPTQ", ICLR 2023, for the start; Hubara et al., "Accurate Post Training Quantization With Small Calibration Sets",
ICML 2021, section 3 (quantized inputs, float target, scales learned too); descent by coordinates: Behdin et al., "QuantEase", 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.quantize.rounding import BLOCK, Reals, round_adaptively

PULL = 0.2  # towards the float weights, of the mean diagonal: few samples must not bend weights that hardly matter; of 0.03, 0.1, 0.2, 0.3 the
# best on held-out calibration inputs of ResNet-8 and DS-CNN at 4 and 2 bits
ROUNDS = 4  # of integers and scales
SWEEPS = 4  # over all weights in a round
Nearest = Callable[[Reals], npt.NDArray[np.int8]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Minimize (w - target) moments (w - target)^T for each output: `target` (group, outputs, K) real weights, `moments` (group, K, K)."""

    target: Reals
    moments: Reals

    @classmethod
    def of(cls, weights: Reals, real: npt.NDArray[np.float32], met: npt.NDArray[np.float32]) -> Problem:
        """`weights` (group, outputs, K) of the float layer, which meets `real` (group, places, K) where the quantized one meets `met`.
        Means are left to the bias."""
        count = np.float32(max(1, met.shape[1]))
        real, met = (patches - patches.mean(1, keepdims=True) for patches in (real, met))
        turned = np.swapaxes(met, 1, 2)
        moments, crossed = ((turned @ patches / count).astype(np.float64) for patches in (met, real))
        pull = PULL * np.einsum("gkk->g", moments) / moments.shape[1] + np.finfo(np.float64).tiny ** 0.5
        moments += pull[:, None, None] * np.eye(moments.shape[1])
        wanted = crossed @ np.swapaxes(weights, 1, 2) + pull[:, None, None] * np.swapaxes(weights, 1, 2)
        return cls(target=np.swapaxes(np.linalg.solve(moments, wanted), 1, 2), moments=moments)

    def loss(self, codes: Reals, scale: Reals) -> Reals:
        """(group, outputs)"""
        off = codes * scale[:, :, None] - self.target
        result: Reals = np.einsum("gok,gok->go", off @ self.moments, off)
        return result

    def best_scales(self, codes: Reals, scale: Reals, *, together: bool) -> Reals:
        """(group, outputs) scales that fit the codes best; `scale` where none above zero does. `together`: one for all."""
        weighted = codes @ self.moments
        above, below = (np.einsum("gok,gok->go", weighted, other) for other in (self.target, codes))
        if together:
            above, below = (np.broadcast_to(part.sum(), part.shape) for part in (above, below))
        fits = (above > 0) & (below > 0)
        found: Reals = np.where(fits, above / np.where(fits, below, 1.0), scale)
        return found

    def descend(self, codes: Reals, scale: Reals, nearest: Nearest) -> Reals:
        """Codes of which none can be changed alone with gain, after at most SWEEPS sweeps."""
        codes, target, size = codes.copy(), self.target / scale[:, :, None], codes.shape[2]
        slope = (codes - target) @ self.moments
        diagonal = np.einsum("gkk->gk", self.moments)[:, None]
        for _ in range(SWEEPS):
            before = codes.copy()
            for start in range(0, size, BLOCK):
                block = slice(start, min(start + BLOCK, size))
                inner, near, old = self.moments[:, block, block], slope[:, :, block].copy(), codes[:, :, block].copy()
                for k in range(inner.shape[1]):
                    code = codes[:, :, start + k]
                    better = nearest(code - near[:, :, k] / diagonal[:, :, start + k])
                    near += (better - code)[:, :, None] * inner[:, None, k]
                    codes[:, :, start + k] = better
                slope += (codes[:, :, block] - old) @ self.moments[:, block]
            if np.array_equal(before, codes):
                break
        return codes


def solve(problem: Problem, scale: Reals, nearest: Nearest, *, together: bool, fixed: bool) -> tuple[Reals, Reals]:
    """Codes (group, outputs, K) and scales (group, outputs) from the scales to begin with; `fixed`: these are kept."""
    codes = round_adaptively(problem.target / scale[:, :, None], problem.moments, nearest)
    codes = problem.descend(codes, scale, nearest)
    for _ in range(0 if fixed else ROUNDS):
        other = problem.best_scales(codes, scale, together=together)
        found = problem.descend(codes, other, nearest)
        before, after = problem.loss(codes, scale), problem.loss(found, other)
        gains = np.broadcast_to(after.sum() < before.sum(), after.shape) if together else after < before
        if not gains.any():
            break
        codes, scale = np.where(gains[:, :, None], found, codes), np.where(gains, other, scale)
    return codes, scale
