"""Weights of few bits <-> bytes: the one definition that compiler, simulator, decoder hardware, ONNX export and tests share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Int8Array = npt.NDArray[np.int8]
ByteArray = npt.NDArray[np.uint8]


class WeightFormat(IntEnum):
    """How weights lie in memory; the numbers are those of LOAD's field `format`."""

    INT8 = 0
    INT4 = 1
    INT2 = 2
    TERNARY = 3  # -1, 0, 1: five digits per byte
    BINARY = 4  # -1, 1

    @property
    def digits(self) -> int:
        """Weights per byte."""
        return (1, 2, 4, 5, 8)[self]

    @property
    def bits(self) -> int:
        """Of one weight as a two's complement number, unpacked."""
        return (8, 4, 2, 2, 2)[self]

    @property
    def low(self) -> int:
        """The least weight."""
        return (-128, -8, -2, -1, -1)[self]

    @property
    def high(self) -> int:
        """The greatest weight."""
        return (127, 7, 1, 1, 1)[self]

    def holds(self, weights: npt.NDArray[Any]) -> bool:
        """Whether each weight has a code."""
        if not weights.size:
            return True
        inside = int(weights.min()) >= self.low and int(weights.max()) <= self.high
        return inside and (self is not WeightFormat.BINARY or bool(weights.all()))


_NARROW_FIRST = (WeightFormat.BINARY, WeightFormat.TERNARY, WeightFormat.INT2, WeightFormat.INT4)


def narrowest(weights: npt.NDArray[Any]) -> WeightFormat:
    """The format with the most weights per byte that holds all of them. 9-bit weights have none: INT8, of which they take several."""
    return next((kind for kind in _NARROW_FIRST if kind.holds(weights)), WeightFormat.INT8)


class Trit(NamedTuple):
    """A ternary digit in two's complement: bits 1 (the sign) and 0."""

    sign: Any
    low: Any


def trits(bits: Sequence[Any]) -> tuple[Trit, ...]:
    """The five digits of a byte, from its eight bits: truth values that know &, | and ~ (NumPy's or the hardware's).

    The code is that of ASTC's integer sequence encoding (Khronos Data Format Specification 1.3, section 23.12), with its digit 2 read as -1:
    patterns that two bits per digit would waste say which digits are 2, so that no byte takes more than a few gates.
    """
    b0, b1, b2, b3, b4, b5, b6, b7 = bits

    def choose(condition: Any, yes: Any, no: Any) -> Any:
        return (condition & yes) | (~condition & no)

    both, upper = b2 & b3 & b4, b5 & b6
    c2, c3, c4 = (choose(both, high, low) for high, low in ((b5, b2), (b6, b3), (b7, b4)))
    first, second = b0 & b1, c2 & c3
    low23 = c2 & ~c3
    digits = (  # as bits 1 and 0 of 0, 1, 2
        (choose(first, c3, b1), choose(first, low23, b0 & ~b1)),
        (~first & c3, choose(first, c4, low23)),
        (first | second, ~(first | second) & c4),
        (both | (~upper & b6), ~both & choose(upper, b7, b5)),
        (both | upper, ~(both | upper) & b7),
    )
    return tuple(Trit(sign=two, low=two | one) for two, one in digits)


@cache
def _decoded(kind: WeightFormat) -> Int8Array:
    """(256, digits) the weights of every byte."""
    codes = np.arange(256)
    if kind is WeightFormat.TERNARY:
        digits = trits([(codes >> k & 1).astype(bool) for k in range(8)])
        return np.stack([np.where(digit.sign, -1, digit.low) for digit in digits], axis=1).astype(np.int8)
    width = 8 // kind.digits
    fields = codes[:, None] >> width * np.arange(kind.digits) & ((1 << width) - 1)
    if kind is WeightFormat.BINARY:
        return (1 - 2 * fields).astype(np.int8)
    return (fields - (fields >> (width - 1) << width)).astype(np.int8)


@cache
def _encoded(kind: WeightFormat) -> ByteArray:
    """The least byte of each combination of weights; their index counts them from `low`, the first one fastest."""
    table = _decoded(kind)
    base = kind.high - kind.low + 1
    index = ((table.astype(np.int64) - kind.low) * base ** np.arange(kind.digits)).sum(1)
    result = np.zeros(base**kind.digits, np.uint8)
    result[index[::-1]] = np.arange(256, dtype=np.uint8)[::-1]
    return result


def packed_words(words: int, kind: WeightFormat) -> int:
    """Bus words that `words` unpacked ones take in memory."""
    return -(-words // kind.digits)


def pack(weights: Int8Array, kind: WeightFormat, bus_bytes: int) -> bytes:
    """Weights in the order of the buffer -> the image in memory, whole bus words.

    A packed bus word holds `digits` unpacked ones: digit i of its byte b is byte b of the i-th. What the last one has too many are weights
    that zero bytes mean (0, in binary 1). The weights must fill bus words, and `kind` must hold them.
    """
    flat = np.ascontiguousarray(weights, np.int8).reshape(-1)
    assert len(flat) % bus_bytes == 0, "weights fill bus words"
    assert kind.holds(flat), f"{kind.name} holds no {flat.min()}..{flat.max()}"
    words = packed_words(len(flat) // bus_bytes, kind)
    padded = np.full(words * kind.digits * bus_bytes, _decoded(kind)[0, 0], np.int8)
    padded[: len(flat)] = flat
    digits = padded.reshape(words, kind.digits, bus_bytes).astype(np.int64) - kind.low
    base = kind.high - kind.low + 1
    index = (digits * (base ** np.arange(kind.digits))[:, None]).sum(1)
    return bytes(_encoded(kind)[index])


def unpack(image: ByteArray, kind: WeightFormat, bus_bytes: int) -> Int8Array:
    """Bytes of whole bus words -> `digits` times as many weights, in the order of the buffer."""
    digits = _decoded(kind)[image.reshape(-1, bus_bytes)]  # (words, bytes, digits)
    return np.ascontiguousarray(digits.transpose(0, 2, 1)).reshape(-1)
