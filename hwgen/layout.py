"""Integers <-> words: how tensors, weights and parameters lie in memories, for the compiler, the benches and the firmware."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.config import PARAMETER_BYTES, PARAMETER_OFFSETS, PARAMETERS, TABLE_LANES, HardwareConfig
from hwgen.errors import CapacityError
from hwgen.packing import WeightFormat, narrowest, pack, packed_words

Int8Array = npt.NDArray[np.int8]
Int64Array = npt.NDArray[np.int64]
IntArray = npt.NDArray[np.integer]

_RECORD = np.dtype(
    {
        "names": list(PARAMETERS),
        "formats": ["<i4", "<u4", "u1", "i1", "i1", "i1"],
        "offsets": list(PARAMETER_OFFSETS.values()),
        "itemsize": PARAMETER_BYTES,
    }
)


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
class RowWindow:
    """The rows of a sliding window: output row g of `outputs` reads image rows g * stride + k * dilation - top, 0 <= k < kernel."""

    outputs: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    top: int = 0

    def image_rows(self, height: int) -> Int64Array:
        """(outputs, kernel); rows outside an image of `height` rows are `height`."""
        rows = np.arange(self.outputs, dtype=np.int64)[:, None] * self.stride + np.arange(self.kernel) * self.dilation - self.top
        return np.where((rows >= 0) & (rows < height), rows, height)

    def span(self, first: int, end: int, height: int) -> tuple[int, int]:
        """Image rows [first, end) that the output rows [first, end) read, clipped to the image."""
        last = (end - 1) * self.stride + (self.kernel - 1) * self.dilation - self.top
        low = min(max(first * self.stride - self.top, 0), height)
        return low, max(low, min(last + 1, height))


@dataclass(frozen=True, kw_only=True)
class PackedLayout:
    """[row][pad bytes, then column x channels, then pad bytes]: each row `row_words` words, pads hold the zero point.

    Folded: row g holds all that output row g of the window `fold` reads, [pad bytes][column][kernel row][channel][pad bytes], and rows
    outside the image are zero point. Image rows lie there as often as windows read them: not at all where none does.
    """

    height: int
    width: int
    channels: int
    lanes: int
    left_bytes: int
    row_words: int
    fill: int
    fold: RowWindow | None = None

    @property
    def row_window(self) -> RowWindow:
        """What each stored row holds of the image: itself, unless folded."""
        return self.fold or RowWindow(outputs=self.height)

    @property
    def rows(self) -> int:
        """Rows in memory."""
        return self.row_window.outputs

    @property
    def column_bytes(self) -> int:
        return self.row_window.kernel * self.channels

    @property
    def words(self) -> int:
        return self.rows * self.row_words

    @property
    def size_bytes(self) -> int:
        return self.words * self.lanes

    def rows_for(self, first: int, end: int, window: RowWindow) -> tuple[int, int]:
        """Stored rows [first, end) from which the output rows [first, end) of `window` are computed."""
        return (first, end) if self.fold else window.span(first, end, self.height)

    def pack(self, x: Int8Array) -> Int8Array:
        """(N, height, width, channels) -> (N, size_bytes)."""
        outside = np.full((len(x), 1, self.width, self.channels), self.fill, np.int8)
        rows = np.concatenate([x, outside], axis=1)[:, self.row_window.image_rows(self.height)]  # (N, rows, kernel, width, channels)
        image = np.full((len(x), self.rows, self.row_words * self.lanes), self.fill, np.int8)
        image[:, :, self._inner] = rows.transpose(0, 1, 3, 2, 4).reshape(len(x), self.rows, -1)
        return image.reshape(len(x), self.size_bytes)

    def unpack(self, image: Int8Array) -> Int8Array:
        """(N, size_bytes) -> (N, height, width, channels); an image row that no window reads is zero point."""
        inner = image.reshape(len(image), self.rows, -1)[:, :, self._inner].reshape(len(image), self.rows, self.width, -1, self.channels)
        x = np.full((len(image), self.height + 1, self.width, self.channels), self.fill, np.int8)
        x[:, self.row_window.image_rows(self.height)] = inner.transpose(0, 1, 3, 2, 4)
        return np.ascontiguousarray(x[:, : self.height])

    @property
    def _inner(self) -> slice:
        """The bytes of a row between its pads."""
        return slice(self.left_bytes, self.left_bytes + self.width * self.column_bytes)


Layout = BlockedLayout | PackedLayout


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightImage:
    """What LOAD brings into the weight buffer: `data` in memory, packed in `format`, which fills `words` of the buffer."""

    format: WeightFormat
    data: bytes
    words: int


def packed_format(sets: Int8Array, config: HardwareConfig) -> tuple[WeightFormat, int]:
    """How the sets (sets, M, N) are stored, and how many words of the buffer their image fills: with a decoder as narrow as the weights allow."""
    return narrowest_image(sets, config) if config.weight_decoder else (WeightFormat.INT8, len(sets) * config.weight_load_cycles)


def narrowest_image(sets: Int8Array, config: HardwareConfig) -> tuple[WeightFormat, int]:
    """As `packed_format` with a decoder: no format whose last bus word, which may hold more weights than there are, would need more than
    the buffer."""
    own = len(sets) * config.weight_load_cycles
    kind = narrowest(sets)
    chunks = config.weight_word_bytes // config.bus_bytes
    while True:
        words = -(-packed_words(own * chunks, kind) * kind.digits // chunks)
        if words == own or words <= config.weight_words:
            return kind, words
        kind = next(other for other in (WeightFormat.TERNARY, WeightFormat.INT2, WeightFormat.INT4, WeightFormat.INT8) if other.digits < kind.digits)


def weight_image(sets: Int8Array, config: HardwareConfig) -> WeightImage:
    """(sets, M, N) -> their image."""
    kind, words = packed_format(sets, config)
    data = pack(sets, kind, config.bus_bytes) if kind else weight_bytes(sets)
    return WeightImage(format=kind, data=data, words=words)


def weight_bytes(sets: Int8Array) -> bytes:
    """(sets, M, N) -> the image in memory of weights that are not packed."""
    return np.ascontiguousarray(sets).tobytes()


def parameter_bytes(parameters: dict[str, IntArray]) -> bytes:
    """Arrays (sets, M) named as in PARAMETERS -> the image of the parameter buffer.

    Raises CapacityError when a value does not fit its place in the record.
    """
    records = np.zeros(parameters["bias"].shape, _RECORD)
    for name, kind in PARAMETERS.items():
        found = parameters[name]
        if found.size and not kind.holds(int(found.min()), int(found.max())):
            raise CapacityError(f"parameter {name}: must be {kind.min}..{kind.max}, found {found.min()}..{found.max()}")
        records[name] = found
    return records.tobytes()


def table_bytes(table: Int8Array, bus_bytes: int) -> bytes:
    """(256,) entries -> the image of a table: TABLE_LANES of them in the lowest bytes of each bus word."""
    image = np.zeros((len(table) // TABLE_LANES, bus_bytes), np.int8)
    image[:, :TABLE_LANES] = table.reshape(-1, TABLE_LANES)
    return image.tobytes()


def parameters_of(image: npt.NDArray[np.uint8]) -> dict[str, Int64Array]:
    """(..., bytes of records) -> arrays (..., records) by name: what `parameter_bytes` was given."""
    records = np.ascontiguousarray(image).view(_RECORD)
    return {name: records[name].astype(np.int64) for name in PARAMETERS}
