"""Sums of squares gathered block by block, and what they say: SQNR, agreement of the greatest outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hwgen.ir.types import FloatArray
from hwgen.quantize.metrics import decibel


def energy(x: FloatArray) -> float:
    """The sum of squares, in float64."""
    flat = np.asarray(x, np.float64).reshape(-1)
    return float(np.einsum("i,i->", flat, flat))  # not by BLAS, whose threads wait for each other longer than this takes


class Against:
    """How far something is from its reference; arrays come block by block."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    def add(self, reference: FloatArray, other: FloatArray) -> None:
        self.signal += energy(reference)
        self.noise += energy(np.subtract(reference, other, dtype=np.float64))

    @property
    def sqnr_db(self) -> float:
        return decibel(self.signal, self.noise)


class OutputsAgainst:
    """How far the outputs of a network are from those of its float form. Of several outputs the worst SQNR counts; agreement is that of the
    first one."""

    def __init__(self) -> None:
        self._outputs: dict[str, Against] = {}
        self._agreeing = self._count = 0

    def add(self, reference: Mapping[str, FloatArray], other: Mapping[str, FloatArray]) -> None:
        for name, array in reference.items():
            self._outputs.setdefault(name, Against()).add(array, other[name])
        first = next(iter(reference))
        greatest = [np.reshape(arrays[first], (len(arrays[first]), -1)).argmax(1) for arrays in (reference, other)]
        self._agreeing += int((greatest[0] == greatest[1]).sum())
        self._count += len(greatest[0])

    @property
    def sqnr_db(self) -> float:
        return min(against.sqnr_db for against in self._outputs.values())

    @property
    def agreement(self) -> float:
        return self._agreeing / self._count
