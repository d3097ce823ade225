"""Integers <-> words: how tensors, weights and parameters lie in memories, for the compiler, the benches and the firmware."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.config import PARAMETER_BYTES
from hwgen.errors import CapacityError

Int8Array = npt.NDArray[np.int8]
IntArray = npt.NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class BlockedLayout:
    """[channel block][row][column][N lanes]. Logical channel c lies at physical channel `positions[c]`: block p // N, lane p % N."""

    height: int
    width: int
    lanes: int
    positions: tuple[int, ...]
    blocks: int
    fill: int  # what lanes without a channel hold in host images

    @property
    def words(self) -> int:
        return self.blocks * self.height * self.width

    @property
    def size_bytes(self) -> int:
        return self.words * self.lanes

    def pack(self, x: Int8Array) -> Int8Array:
        """(N, height, width, channels) -> (N, size_bytes)."""
        physical = np.full((len(x), self.height, self.width, self.blocks * self.lanes), self.fill, np.int8)
        physical[..., list(self.positions)] = x
        split = physical.reshape(len(x), self.height, self.width, self.blocks, self.lanes)
        return np.ascontiguousarray(split.transpose(0, 3, 1, 2, 4)).reshape(len(x), self.size_bytes)

    def unpack(self, image: Int8Array) -> Int8Array:
        """(N, size_bytes) -> (N, height, width, channels)."""
        split = image.reshape(len(image), self.blocks, self.height, self.width, self.lanes).transpose(0, 2, 3, 1, 4)
        return np.ascontiguousarray(split.reshape(len(image), self.height, self.width, -1)[..., list(self.positions)])


@dataclass(frozen=True, kw_only=True)
class PackedLayout:
    """[row][pad bytes, then column x channels, then pad bytes]: each row `row_words` words, pads hold the zero point."""

    height: int
    width: int
    channels: int
    lanes: int
    left_bytes: int
    row_words: int
    fill: int

    @property
    def words(self) -> int:
        return self.height * self.row_words

    @property
    def size_bytes(self) -> int:
        return self.words * self.lanes

    def pack(self, x: Int8Array) -> Int8Array:
        """(N, height, width, channels) -> (N, size_bytes)."""
        image = np.full((len(x), self.height, self.row_words * self.lanes), self.fill, np.int8)
        image[:, :, self.left_bytes : self.left_bytes + self.width * self.channels] = x.reshape(len(x), self.height, -1)
        return image.reshape(len(x), self.size_bytes)

    def unpack(self, image: Int8Array) -> Int8Array:
        """(N, size_bytes) -> (N, height, width, channels)."""
        rows = image.reshape(len(image), self.height, -1)[:, :, self.left_bytes : self.left_bytes + self.width * self.channels]
        return np.ascontiguousarray(rows).reshape(len(image), self.height, self.width, self.channels)


Layout = BlockedLayout | PackedLayout


def weight_bytes(sets: Int8Array) -> bytes:
    """(sets, M, N) -> the image that LOAD brings into the weight buffer."""
    return np.ascontiguousarray(sets).tobytes()


def parameter_bytes(parameters: dict[str, IntArray]) -> bytes:
    """Arrays (sets, M) named bias, multiplier, shift, low, high, zero_point -> the image of the parameter buffer.

    Raises CapacityError when a value does not fit its place in the record.
    """
    int8 = (-128, 127)
    limits = {"bias": (-(1 << 31), (1 << 31) - 1), "multiplier": (0, (1 << 24) - 1), "shift": (0, 63), "low": int8, "high": int8, "zero_point": int8}
    for name, (low, high) in limits.items():
        found = parameters[name]
        if found.size and not (low <= found.min() and found.max() <= high):
            raise CapacityError(f"parameter {name}: must be {low}..{high}, found {found.min()}..{found.max()}")
    shape = parameters["bias"].shape
    records = np.zeros((*shape, PARAMETER_BYTES), np.uint8)
    records[..., 0:4] = np.ascontiguousarray(parameters["bias"].astype("<i4")).view(np.uint8).reshape(*shape, 4)
    records[..., 4:8] = np.ascontiguousarray(parameters["multiplier"].astype("<u4")).view(np.uint8).reshape(*shape, 4)
    for byte, name in ((8, "shift"), (9, "low"), (10, "high"), (11, "zero_point")):
        records[..., byte] = parameters[name].astype(np.int16).astype(np.uint8)
    return records.tobytes()
