"""Adaptive rounding: each weight is rounded so that the layer's output, not the weight, changes least."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

DAMPING = 0.01  # of the mean diagonal, added to it: the value of Frantar et al.
BLOCK = 64
Reals = npt.NDArray[np.float64]


def second_moments(patches: npt.NDArray[np.float32]) -> Reals:
    """(group, K, K) mean of x x^T, for patches (group, places, K)."""
    moments: Reals = (np.swapaxes(patches, 1, 2) @ patches / np.float32(max(1, patches.shape[1]))).astype(np.float64)
    return moments


def _lower_inverse(lower: Reals) -> Reals:
    """Of lower triangular matrices (group, K, K), from the inverses of their halves."""
    size = lower.shape[1]
    if size <= BLOCK:
        inverse: Reals = np.linalg.inv(lower).astype(np.float64)
        return inverse
    half = size // 2
    first, last = _lower_inverse(lower[:, :half, :half]), _lower_inverse(lower[:, half:, half:])
    result = np.zeros_like(lower)
    result[:, :half, :half], result[:, half:, half:] = first, last
    result[:, half:, :half] = -(last @ (lower[:, half:, :half] @ first))
    return result


def round_adaptively(weights: Reals, moments: Reals, nearest: Callable[[Reals], npt.NDArray[np.int8]]) -> Reals:
    """Integers near `weights` (group, outputs, K), which are in units of their scale; `nearest` gives the nearest ones that are allowed.

    One weight after the other is rounded, those of the greatest moments first, and the error that it makes at the output is made up by
    the weights not yet rounded. `moments` (group, K, K). Source: Frantar et al., "GPTQ", ICLR 2023, section 3 (blocks, Cholesky factor of
    the inverse); Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022, for the step itself.
    """
    size = weights.shape[2]
    diagonal = np.einsum("gkk->gk", moments)
    order = np.argsort(-diagonal.mean(0), kind="stable")
    damped = moments[:, order][:, :, order].copy()
    damped[:, np.arange(size), np.arange(size)] += DAMPING * diagonal.mean(1)[:, None] + np.finfo(np.float64).tiny ** 0.5
    lower: Reals = np.linalg.cholesky(damped[:, ::-1, ::-1]).astype(np.float64)
    factor = _lower_inverse(lower)[:, ::-1, ::-1]  # the upper Cholesky factor of the inverse
    open_weights, result = weights[:, :, order].copy(), np.empty_like(weights)
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        codes, errors = _rounded(open_weights[:, :, start:end], factor[:, start:end, start:end], nearest)
        result[:, :, order[start:end]] = codes
        open_weights[:, :, end:] -= errors @ factor[:, start:end, end:]
    return result


def _rounded(weights: Reals, factor: Reals, nearest: Callable[[Reals], npt.NDArray[np.int8]]) -> tuple[Reals, Reals]:
    """Codes and errors (group, outputs, k) of one block, from its part of the factor (group, k, k)."""
    left = np.ascontiguousarray(np.moveaxis(weights, 2, 0))  # (k, group, outputs): what is still to be rounded lies together
    factor, codes, errors = np.moveaxis(factor, 2, 0), np.empty_like(left), np.empty_like(left)  # (k of the other weight, group, k)
    for k, units in enumerate(left):
        codes[k] = nearest(units)
        errors[k] = (units - codes[k]) / factor[k, :, None, k]
        left[k + 1 :] -= errors[k] * factor[k + 1 :, :, None, k]
    return np.moveaxis(codes, 0, 2), np.moveaxis(errors, 0, 2)
