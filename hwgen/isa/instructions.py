"""The commands. Addresses of buffers count words of that buffer; addresses and lengths in memory count bytes.

Word 0 is common to all: opcode, tokens, then flags. An engine begins a command only after taking one token from each engine named
in `wait_*`, and gives one token to each engine named in `signal_*` when the command's last write is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from hwgen.config import BANKS
from hwgen.isa.fields import Buffer, Engine, Mode, Opcode, Reduce, Region, bits
from hwgen.packing import WeightFormat


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    opcode: ClassVar[Opcode]
    engine: ClassVar[Engine | None]

    wait_load: int = bits(0, 8, 1, "take a token of the load engine before starting")
    wait_compute: int = bits(0, 9, 1, "take a token of the compute engine before starting")
    wait_store: int = bits(0, 10, 1, "take a token of the store engine before starting")
    signal_load: int = bits(0, 12, 1, "give a token to the load engine when done")
    signal_compute: int = bits(0, 13, 1, "give a token to the compute engine when done")
    signal_store: int = bits(0, 14, 1, "give a token to the store engine when done")

    def altered(self, **changes: int) -> Self:
        """As dataclasses.replace, a tenth of the time: the compiler alters every command several times."""
        assert changes.keys() <= self.__dict__.keys()
        result = object.__new__(type(self))
        result.__dict__.update(self.__dict__, **changes)
        return result

    @property
    def waits(self) -> tuple[Engine, ...]:
        return tuple(e for e, flag in zip(Engine, (self.wait_load, self.wait_compute, self.wait_store), strict=True) if flag)

    @property
    def signals(self) -> tuple[Engine, ...]:
        return tuple(e for e, flag in zip(Engine, (self.signal_load, self.signal_compute, self.signal_store), strict=True) if flag)


@dataclass(frozen=True, kw_only=True)
class End(_Tokens):
    """Wait until all engines are idle, then raise the interrupt. Tokens are not used."""

    opcode = Opcode.END
    engine = None


@dataclass(frozen=True, kw_only=True)
class _Transfer(_Tokens):
    region: int = bits(0, 20, 3, "memory region", default=Region.ARENA)
    memory_offset: int = bits(1, 0, 32, "byte offset of the first row in the region; a multiple of the bus word")
    buffer_address: int = bits(2, 0, 24, "first word in the buffer")
    row_bytes: int = bits(3, 0, 32, "bytes per row; a multiple of the bus word, not 0")
    rows: int = bits(4, 0, 16, "number of rows, not 0", default=1)
    memory_row_stride: int = bits(5, 0, 32, "bytes from row to row in memory; a multiple of the bus word")
    buffer_row_stride: int = bits(6, 0, 24, "words from row to row in the buffer")


@dataclass(frozen=True, kw_only=True)
class Load(_Transfer):
    """Memory to buffer. Each row starts at a buffer word; the buffer word's bytes lie in memory from the lowest lane up.

    Weights of few bits lie packed in memory (hwgen.packing): a bus word of a row becomes as many bus words of the buffer as a byte holds
    weights, so `row_bytes` bytes of memory fill `unpacked_bytes` bytes of the buffer.
    """

    opcode = Opcode.LOAD
    engine = Engine.LOAD
    destination: int = bits(0, 16, 2, "buffer: 0 activation, 1 weight, 2 parameter, 3 table", default=Buffer.ACTIVATION)
    format: int = bits(0, 24, 3, "how weights lie in memory: 0 int8, 1 int4, 2 int2, 3 ternary, 4 binary; 0 for other buffers", option="weight_decoder")

    @property
    def unpacked_bytes(self) -> int:
        """Bytes of the buffer that a row fills."""
        return self.row_bytes * WeightFormat(self.format).digits


@dataclass(frozen=True, kw_only=True)
class Store(_Transfer):
    """Activation buffer to memory."""

    opcode = Opcode.STORE
    engine = Engine.STORE

    @property
    def unpacked_bytes(self) -> int:
        """Bytes of the buffer that a row takes."""
        return self.row_bytes


@dataclass(frozen=True, kw_only=True)
class Conv(_Tokens):
    """One layer, or a rectangle of one: convolution, pooling, copy or addition, and a function of each result.

    for tile in output_tiles: for pixel tile: for kernel row: for kernel step: for input block: one pass over the pixels of the tile.
    In depthwise mode a pass takes `tap_rows` kernel rows (the last group what is left) and `taps` kernel columns.
    Input position of pixel (y, x) at kernel row r, step k, block b (column t of the step in depthwise mode):
      row    = origin_row + y * stride_rows + r * dilation_rows, inside when 0 <= row < input_rows
      words from  input_address + y * input_row_step + r * kernel_row_step + b * input_block_stride
      dense:      column = origin_column + x * stride_columns + k * dilation_columns; its word holds N channels
      depthwise:  column likewise with kernel column k * taps + t; its weight lies in lane tap_lane(row in the group, t)
      packed:     byte = origin_column + x * stride_columns + k * N; N bytes from there, unaligned; columns are always inside
    A position outside reads `pad_value` in every lane. Address arithmetic is modulo 2**24, then modulo the buffer's size.
    """

    opcode = Opcode.CONV
    engine = Engine.COMPUTE

    mode: int = bits(0, 16, 2, "0 dense, 1 depthwise, 2 packed", default=Mode.DENSE)
    reduce: int = bits(0, 18, 1, "0 sum of products, 1 maximum of taps (depthwise mode only)", default=Reduce.SUM)
    residual: int = bits(0, 19, 1, "add a second tensor behind requantization")
    weights_held: int = bits(0, 20, 1, "1: every pass of every tile uses the same weight set")
    parameters_held: int = bits(0, 21, 1, "1: every tile uses the same parameter set")
    keep: int = bits(0, 22, 1, "1: the sums stay in the accumulator memory; nothing is written. One output tile, one pixel tile")
    resume: int = bits(0, 23, 1, "1: the sums begin at what the accumulator memory holds, not at the bias. One output tile, one pixel tile")
    taps: int = bits(0, 24, 5, "depthwise: kernel columns per pass, at most window_taps / chains; maximum: 1; other modes: 1", default=1)
    tap_rows: int = bits(0, 29, 3, "depthwise: kernel rows per pass, 1 to 4, whose words lie in different banks; other modes: 1", default=1)

    input_address: int = bits(1, 0, 24, "word of row origin_row, column 0, block 0; may lie before the tensor, modulo 2**24")
    pad_value: int = bits(1, 24, 8, "what positions outside the image hold", signed=True)
    input_rows: int = bits(2, 0, 16, "height of the image")
    input_columns: int = bits(2, 16, 16, "width of the image in pixels (dense, depthwise)")
    input_row_step: int = bits(3, 0, 24, "words from output row to output row: stride_rows * words per input row")
    stride_rows: int = bits(3, 24, 8, "image rows from output row to output row", default=1)
    kernel_row_step: int = bits(4, 0, 24, "words from kernel row to kernel row: dilation_rows * words per input row")
    dilation_rows: int = bits(4, 24, 8, "image rows from kernel row to kernel row", default=1)
    input_block_stride: int = bits(5, 0, 24, "words from channel block to channel block")
    dilation_columns: int = bits(5, 24, 8, "image columns from kernel column to kernel column", default=1)
    input_blocks: int = bits(6, 0, 16, "channel blocks that are summed (dense); 1 in the other modes", default=1)
    stride_columns: int = bits(6, 16, 16, "pixels (packed: bytes) from output column to output column", default=1)
    kernel_rows: int = bits(7, 0, 8, "kernel height", default=1)
    kernel_steps: int = bits(7, 8, 8, "steps per kernel row: columns (dense), groups of `taps` columns (depthwise), words (packed)", default=1)
    origin_row: int = bits(8, 0, 16, "image row of the first window's first row: minus the top padding", signed=True)
    origin_column: int = bits(8, 16, 16, "image column (packed: byte, not negative) of the first window", signed=True)

    output_address: int = bits(9, 0, 24, "word of the first output pixel, block 0")
    output_column_gap: int = bits(9, 24, 8, "words left out between output columns (not residual's)", option="output_gaps")
    output_rows: int = bits(10, 0, 16, "height of the output", default=1)
    output_columns: int = bits(10, 16, 16, "width of the output", default=1)
    output_row_stride: int = bits(11, 0, 24, "words from output row to output row")
    output_block_stride: int = bits(12, 0, 24, "words from output block to output block")
    output_blocks: int = bits(13, 0, 16, "channel blocks of the output; nothing is written (or read as residual) beyond", default=1)
    output_tiles: int = bits(13, 16, 16, "tiles of out_lanes (depthwise: depthwise_lanes) channels", default=1)
    pixels_per_tile: int = bits(14, 0, 16, "output pixels per pixel tile, in raster order; at most the accumulator depth unless one pass suffices", default=1)

    weight_address: int = bits(15, 0, 24, "weight word of the first pass; passes follow each other, tile after tile")
    parameter_address: int = bits(16, 0, 24, "parameter word of the first tile; tiles follow each other")

    residual_address: int = bits(17, 0, 24, "word of the first residual pixel, block 0")
    residual_row_stride: int = bits(18, 0, 24, "words from row to row")
    residual_block_stride: int = bits(19, 0, 24, "words from block to block")
    residual_low: int = bits(20, 0, 8, "lowest sum", signed=True)
    residual_high: int = bits(20, 8, 8, "highest sum", signed=True)
    residual_shift: int = bits(20, 16, 6, "right shift of the sum")
    table: int = bits(20, 22, 1, "1: each result, the residual added, is looked up in a table", option="activation_tables")
    table_address: int = bits(20, 23, 9, "table word of the entry of code -128; a multiple of 64", option="activation_tables")
    residual_multiplier_a: int = bits(21, 0, 24, "multiplier of the convolution's result (its exponent when multiplier_bits is 0)")
    residual_multiplier_b: int = bits(22, 0, 24, "multiplier of the residual (its exponent when multiplier_bits is 0)")
    residual_offset: int = bits(23, 0, 48, "constant of the sum, see AddRequantize", signed=True)

    @property
    def passes(self) -> int:
        """Passes per pixel tile."""
        return self.row_groups * self.kernel_steps * self.input_blocks

    @property
    def row_groups(self) -> int:
        """Passes that it takes to see all kernel rows."""
        return -(-self.kernel_rows // max(1, self.tap_rows))


def in_different_banks(rows: int, kernel_row_step: int) -> bool:
    """Whether words of `rows` neighbouring kernel rows can be read in one cycle."""
    return len({row * kernel_row_step % BANKS for row in range(rows)}) == rows


def chain_lanes(tap_rows: int, window_taps: int) -> int:
    """Lanes that depthwise mode gives to each kernel row of a pass: one, two or four chains."""
    return window_taps >> (tap_rows - 1).bit_length()


def tap_lane(command: Conv, row: int, column: int, window_taps: int) -> int:
    """The lane in which `column` of a step meets `row` of a group, in depthwise mode: the newest column comes first."""
    return row * chain_lanes(command.tap_rows, window_taps) + command.taps - 1 - column


Command = End | Load | Store | Conv
COMMANDS: tuple[type[Command], ...] = (End, Load, Store, Conv)
