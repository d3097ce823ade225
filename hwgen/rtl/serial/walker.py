"""The order in which one output's operands are read: kernel rows, steps of a row, input blocks or taps; one word per cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.rtl.serial.fields import kept_layout
from hwgen.rtl.serial.mac import BEAT_LAYOUT
from hwgen.rtl.walker import POSITION_BITS

POSITION = signed(POSITION_BITS)


class SerialWalker(wiring.Component):
    """One word per cycle while `walk`; nothing is skipped for padding, so that an output's cycles depend on its kernel alone.

    Members
    -------
    fields : of the command
    begin : the next output is that of `row`, `column`, whose window begins at word `word`; weights at `weight`
    walk : a word is read in this cycle
    address, weight_address, beat : of that word; `last` of its output
    channel : of a depthwise tile in its word
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        bits, weights = ceil_log2(config.activation_words), ceil_log2(config.weight_words)
        super().__init__(
            {
                "fields": In(kept_layout(config)),
                "begin": In(1),
                "row": In(POSITION),
                "column": In(POSITION),
                "word": In(bits),
                "weight": In(weights),
                "channel": In(2),
                "walk": In(1),
                "address": Out(bits),
                "weight_address": Out(weights),
                "beat": Out(BEAT_LAYOUT),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m, f = Module(), self.fields
        dense, depthwise, packed = (f.mode == mode for mode in (Mode.DENSE, Mode.DEPTHWISE, Mode.PACKED))
        row, column = Signal(POSITION, reset_less=True), Signal(POSITION, reset_less=True)
        rows_left, steps_left, inner_left = Signal(8, reset_less=True), Signal(8, reset_less=True), Signal(16, reset_less=True)
        fresh, first_word = Signal(), Signal()  # no product yet of the output; no word yet of the kernel row
        inner_end = packed | (inner_left == 1)
        step_end = inner_end & Mux(packed, steps_left == 0, steps_left == 1)
        row_end = rows_left == 1
        valid = ~(packed & first_word)
        m.d.comb += [
            self.last.eq(step_end & row_end),
            self.beat.read.eq(self.walk),
            self.beat.valid.eq(self.walk & valid),
            self.beat.first.eq(fresh),
            self.beat.inside.eq((row >= 0) & (row < f.input_rows) & (packed | ((column >= 0) & (column < f.input_columns)))),
            self.beat.channel.eq(self.channel),
            self.beat.shift.eq(self.column[:2]),
        ]
        with m.If(self.begin):
            m.d.sync += [row.eq(self.row), rows_left.eq(f.kernel_rows), fresh.eq(1)]
        with m.Elif(self.walk):
            m.d.sync += fresh.eq(fresh & ~valid)
            with m.If(step_end):
                m.d.sync += [row.eq(row + f.dilation_rows), rows_left.eq(rows_left - 1)]
        with m.If(self.begin | (self.walk & step_end)):
            m.d.sync += [column.eq(self.column), steps_left.eq(f.kernel_steps), first_word.eq(1)]
        with m.Elif(self.walk):
            with m.If(inner_end | depthwise):
                m.d.sync += column.eq(column + f.dilation_columns)
            m.d.sync += [steps_left.eq(steps_left - inner_end), first_word.eq(0)]
        with m.If(self.begin | (self.walk & inner_end)):
            m.d.sync += inner_left.eq(Mux(depthwise, f.taps, f.input_blocks))
        with m.Elif(self.walk):
            m.d.sync += inner_left.eq(inner_left - 1)
        self._words(m, dense & ~inner_end, packed, step_end)
        self._weights(m, depthwise, inner_end, step_end, row_end, valid, inner_left)
        return m

    def _words(self, m: Module, between_blocks: Value, packed: Value, row_end: Value) -> None:
        """One adder: to the next block, the next column, or the next kernel row."""
        f = self.fields
        of_row, of_step, address = (Signal(len(self.address), name=name, reset_less=True) for name in ("of_row", "of_step", "of_block"))
        following = Signal.like(address)
        base = Mux(row_end, of_row, Mux(between_blocks, address, of_step))
        by = Mux(row_end, f.kernel_row_step, Mux(between_blocks, f.input_block_stride, Mux(packed, 1, f.dilation_columns)))
        m.d.comb += [self.address.eq(address), following.eq(Mux(self.begin, self.word, base + by))]
        with m.If(self.begin | self.walk):
            m.d.sync += address.eq(following)
            with m.If(self.begin | ~between_blocks):
                m.d.sync += of_step.eq(following)
            with m.If(self.begin | row_end):
                m.d.sync += of_row.eq(following)

    def _weights(self, m: Module, depthwise: Value, inner_end: Value, step_end: Value, row_end: Value, valid: Value, left: Signal) -> None:
        """Depthwise: the kernel rows of a group share their sets, one per step; each has its own lanes."""
        f = self.fields
        weight, of_group, row_in_group = Signal.like(self.weight_address), Signal.like(self.weight_address), Signal(3)
        following, group_end = Signal.like(weight), Signal()
        m.d.comb += [self.weight_address.eq(weight), group_end.eq((row_in_group + 1 == f.tap_rows) | row_end), following.eq(weight + Mux(f.weights_held, 0, 1))]
        with m.If(self.begin):
            m.d.sync += [weight.eq(self.weight), of_group.eq(self.weight), row_in_group.eq(0)]
        with m.Elif(self.walk & ~depthwise & valid):
            m.d.sync += weight.eq(following)
        with m.Elif(self.walk & depthwise & inner_end):
            m.d.sync += weight.eq(following)
            with m.If(step_end & ~group_end):
                m.d.sync += [weight.eq(of_group), row_in_group.eq(row_in_group + 1)]
            with m.Elif(step_end):
                m.d.sync += [of_group.eq(following), row_in_group.eq(0)]
        newest = left - 1  # the first column that is read lies in the highest lane
        row_lane = Mux(f.tap_rows == 1, 0, Mux(f.tap_rows == 2, Cat(Const(0, 1), row_in_group[0]), row_in_group[:2]))
        m.d.comb += self.beat.lane.eq((row_lane + newest)[:2])
