"""How near a quantized network is to its float original."""

from __future__ import annotations

import numpy as np

from hwgen.ir.types import FloatArray, IntArray


def sqnr_db(reference: FloatArray, other: FloatArray) -> float:
    """10 log10(sum(reference^2) / sum((reference - other)^2)) over all elements; infinite for equal arrays."""
    reference, other = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    return decibel(float((reference**2).sum()), float(((reference - other) ** 2).sum()))


def decibel(signal: float, noise: float) -> float:
    """10 log10(signal / noise) of two energies; infinite without noise."""
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


def agreement(reference: FloatArray, other: FloatArray) -> float:
    """Share of inputs whose greatest output is the same; arrays (N, ...)."""
    return float((_rows(reference).argmax(1) == _rows(other).argmax(1)).mean())


def top1(outputs: FloatArray, labels: IntArray, label_offset: int = 0) -> float:
    """Share of inputs (N, ...) whose greatest output, counted from `label_offset`, is the label (N,)."""
    return float((_rows(outputs)[:, label_offset:].argmax(1) == labels).mean())


def _rows(array: FloatArray) -> FloatArray:
    return np.asarray(array).reshape(len(array), -1)
