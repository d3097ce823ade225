"""CONV commands, one output after the other: operands, sum, requantization beside the next output's operands."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import BUFFER_ADDRESS_BITS, Mode, Reduce
from hwgen.rtl.activity import LOST_LAYOUT
from hwgen.rtl.parameter_set import pick
from hwgen.rtl.serial.fields import FIELDS, kept_layout, part
from hwgen.rtl.serial.mac import SerialMac
from hwgen.rtl.serial.memory import Table
from hwgen.rtl.serial.requantizer import SerialRequantizer
from hwgen.rtl.serial.walker import POSITION, SerialWalker

_SETUP = ("input_address", "output_address", "residual_address", "weight_address", "parameter_address")


class SerialCompute(wiring.Component):
    """Executes one CONV command; see `isa.instructions.Conv` for what one means.

    Members
    -------
    start : a command is in `fields` and in the table's record; `busy` from the next cycle on, `done` in its last cycle
    activation_*, weight_* : the memories' ports, used while `busy` alone; `weights` follows `weight_address` by one cycle
    table_address, table_data : the table, read one cycle before; sum_write : `sum` goes to the table's word `sum_address`
    array_busy, lost : products were taken in this cycle, or why not
    trace_* : every write of results

    Timing
    ------
    See `schedule.serial`: SETUP cycles, then for each tile and each pixel its words, two cycles and what requantization of the pixel before
    still takes.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config, self.table = config, Table(config)
        lanes, bits = config.in_lanes, ceil_log2(config.activation_words)
        super().__init__(
            {
                "start": In(1),
                "busy": Out(1),
                "done": Out(1),
                "fields": In(kept_layout(config)),
                "activation_enable": Out(1),
                "activation_write": Out(lanes),
                "activation_address": Out(bits),
                "activation_data": Out(8),
                "word": In(8 * lanes),
                "weight_address": Out(ceil_log2(config.weight_words)),
                "weights": In(8 * lanes),
                "table_address": Out(self.table.bits),
                "table_data": In(32),
                "sum_write": Out(1),
                "sum_address": Out(self.table.bits),
                "sum": Out(32),
                "array_busy": Out(1),
                "lost": Out(LOST_LAYOUT),
                "trace_valid": Out(1),
                "trace_address": Out(BUFFER_ADDRESS_BITS),
                "trace_mask": Out(lanes),
                "trace_data": Out(8 * lanes),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m, c, f = Module(), self.config, self.fields
        bits = ceil_log2(c.activation_words)
        m.submodules.walker, m.submodules.mac, m.submodules.requantizer = walker, mac, requantizer = SerialWalker(c), SerialMac(c), SerialRequantizer(c)
        self.walker, self.mac, self.requantizer = walker, mac, requantizer

        def state(name: str, shape: Any = bits) -> Signal:
            return Signal(shape, name=name, reset_less=True)

        self.input, self.output, self.residual = state("input_tile"), state("output_tile"), state("residual_tile")
        self.input_row, self.output_row, self.residual_row = state("input_row"), state("output_row"), state("residual_row")
        self.output_word, self.residual_word, self.write_word = state("output_word"), state("residual_word"), state("write_word")
        self.row, self.column = state("row", POSITION), state("column", POSITION)
        self.weight, self.parameter = state("weight", ceil_log2(c.weight_words)), state("parameter", ceil_log2(c.parameter_words))
        self.tile, self.columns_left, self.rows_left = state("tile", 16), state("columns_left", 16), state("rows_left", 16)
        self.pixel, self.begin_sum = state("pixel", ceil_log2(c.accumulator_depth)), state("begin_sum", signed(c.accumulator_bits))
        self.exists, self.row_end, self.tile_end, self.waiting, self.launch = (Signal(name=n) for n in ("exists", "row_end", "tile_end", "waiting", "launch"))
        channel = self.tile[:2]
        self.word_end = channel.all()
        depthwise = f.mode == Mode.DEPTHWISE

        beat = Signal.like(walker.beat)
        m.d.sync += beat.eq(walker.beat)
        word = self.input_row + Mux(f.mode == Mode.PACKED, self.column >> 2, self.column)
        m.d.comb += [
            walker.fields.eq(f),
            walker.row.eq(self.row),
            walker.column.eq(self.column),
            walker.word.eq(word),
            walker.weight.eq(self.weight),
            walker.channel.eq(channel),
            mac.beat.eq(beat),
            mac.word.eq(self.word),
            mac.weights.eq(self.weights),
            mac.mode.eq(f.mode),
            mac.maximum.eq(f.reduce == Reduce.MAX),
            mac.pad.eq(f.pad_value),
            mac.start.eq(self.begin_sum),
            self.weight_address.eq(walker.weight_address),
            self.array_busy.eq(walker.beat.valid),
        ]
        self._results(m, channel)
        with m.FSM():
            self._prepare(m, depthwise)
            self._outputs(m)
            self._next_tile(m, depthwise)
        return m

    def _record(self, name: str) -> int:
        return self.table.record + FIELDS[name].word

    def _first_sum(self, pixel: Value) -> Value:
        """Where the table holds what the sum of a pixel begins at."""
        parameter = Cat(Const(0, 2), self.parameter)
        return Mux(self.fields.resume, self.table.sums + pixel, parameter)

    def _results(self, m: Module, channel: Value) -> None:
        """The port of the activation memory, and what leaves through it."""
        walker, requantizer, f = self.walker, self.requantizer, self.fields
        write, read_residual = Signal(name="write_result"), Signal(name="read_residual")
        self.write, self.read_residual = write, read_residual
        bytes_of = [self.word.word_select(k, 8) for k in range(self.config.in_lanes)]
        own = Signal(self.table.bits)
        self.own_address = own
        m.d.sync += self.launch.eq(0)
        m.d.comb += [
            self.activation_enable.eq(walker.walk | write | read_residual),
            self.activation_write.eq(Mux(write, Cat(channel == k for k in range(self.config.in_lanes)), 0)),
            self.activation_address.eq(Mux(write, self.write_word, Mux(read_residual, self.residual_word, walker.address))),
            self.activation_data.eq(requantizer.y),
            requantizer.start.eq(self.launch & ~f.keep),
            requantizer.acc.eq(self.mac.acc),
            requantizer.residual.eq(f.residual),
            requantizer.b.eq(pick(bytes_of, channel)),
            requantizer.parameter.eq(Cat(Const(0, 2), self.parameter)),
            requantizer.data.eq(self.table_data),
            self.table_address.eq(Mux(requantizer.start | requantizer.busy, requantizer.address, own)),
            self.sum_write.eq(self.launch & f.keep),
            self.sum_address.eq(self.table.sums + self.pixel),
            self.sum.eq(self.mac.acc),
            *(self.trace_valid.eq(write), self.trace_address.eq(self.write_word), self.trace_mask.eq(self.activation_write)),
            self.trace_data.eq(requantizer.y.replicate(self.config.in_lanes)),
        ]
        with m.If(self.launch):
            m.d.sync += [self.pixel.eq(self.pixel + 1), self.waiting.eq(self.exists & ~f.keep)]

    def _prepare(self, m: Module, depthwise: Value) -> None:
        """The addresses of the command, then those of a tile of output channels."""
        f, step, record = self.fields, Signal(3), self.table_data
        targets = (self.input, self.output, self.residual, self.weight, self.parameter)
        with m.State("IDLE"):
            m.d.sync += [step.eq(0), self.tile.eq(0), self.waiting.eq(0)]
            with m.If(self.start):
                m.next = "ADDRESSES"
        with m.State("ADDRESSES"):
            m.d.comb += [self.busy.eq(1), self.lost.setup.eq(1)]
            m.d.sync += step.eq(step + 1)
            with m.Switch(step):
                for number, name in enumerate(_SETUP):
                    with m.Case(number):
                        m.d.comb += self.own_address.eq(self._record(name))
                        if number:
                            m.d.sync += targets[number - 1].eq(part(record, _SETUP[number - 1]))
                with m.Default():
                    m.d.sync += targets[-1].eq(part(record, _SETUP[-1]))
                    m.next = "TILE"
        with m.State("TILE"):
            m.d.comb += [self.busy.eq(1), self.lost.setup.eq(1), self.own_address.eq(self._record("output_blocks"))]
            m.next = "BLOCKS"
        with m.State("BLOCKS"):
            m.d.comb += [self.busy.eq(1), self.lost.setup.eq(1), self.own_address.eq(self._record("output_rows"))]
            m.d.sync += self.exists.eq(self.tile[2:] < part(record, "output_blocks"))
            m.next = "ROWS"
        with m.State("ROWS"):
            m.d.comb += [self.busy.eq(1), self.lost.setup.eq(1), self.own_address.eq(self._record("origin_row"))]
            m.d.sync += self.rows_left.eq(part(record, "output_rows"))
            m.next = "ORIGIN"
        with m.State("ORIGIN"):
            m.d.comb += [self.busy.eq(1), self.lost.setup.eq(1), self.own_address.eq(self._first_sum(Const(0, 1)))]
            m.d.sync += [
                *(self.row.eq(part(record, "origin_row")), self.column.eq(f.origin_column), self.columns_left.eq(f.output_columns), self.pixel.eq(0)),
                *(self.input_row.eq(self.input), self.output_row.eq(self.output), self.output_word.eq(self.output)),
                *(self.residual_row.eq(self.residual), self.residual_word.eq(self.residual)),
            ]
            m.next = "BEGIN"
        with m.State("BEGIN"):
            m.d.comb += [self.busy.eq(1), self.lost.setup.eq(1), self.walker.begin.eq(1)]
            m.d.sync += self.begin_sum.eq(record)
            m.next = "WALK"

    def _outputs(self, m: Module) -> None:
        """WALK reads an output's operands; NEXT writes the result of the one before; LAUNCH gives the sum to requantization."""
        f, requantizer = self.fields, self.requantizer
        row_end = self.columns_left == 1
        with m.State("WALK"):
            m.d.comb += [self.busy.eq(1), self.walker.walk.eq(1), self.lost.window.eq(~self.array_busy)]
            with m.If(self.walker.last):
                m.next = "NEXT"
        with m.State("NEXT"):
            m.d.comb += [self.busy.eq(1), self.lost.output.eq(1), self.own_address.eq(self._first_sum(self.pixel + 1))]
            with m.If(~requantizer.busy):
                m.d.comb += self.write.eq(self.waiting)
                m.d.sync += [self.waiting.eq(0), self.row_end.eq(row_end), self.tile_end.eq(row_end & (self.rows_left == 1))]
                m.next = "LAUNCH"
                with m.If(row_end):
                    m.d.sync += [self.column.eq(f.origin_column), self.columns_left.eq(f.output_columns), self.rows_left.eq(self.rows_left - 1)]
                    m.d.sync += [self.input_row.eq(self.input_row + f.input_row_step), self.row.eq(self.row + f.stride_rows)]
                    with m.If(self.rows_left == 1):
                        m.d.sync += self.weight.eq(self.walker.weight_address)
                with m.Else():
                    m.d.sync += [self.column.eq(self.column + f.stride_columns), self.columns_left.eq(self.columns_left - 1)]
        with m.State("LAUNCH"):
            m.d.comb += [self.busy.eq(1), self.lost.output.eq(1), self.walker.begin.eq(1), self.read_residual.eq(f.residual & self.exists)]
            m.d.sync += [self.launch.eq(1), self.begin_sum.eq(self.table_data), self.write_word.eq(self.output_word)]
            gap = f.output_column_gap if self.config.output_gaps else 0
            for word, row, stride, step in (
                (self.output_word, self.output_row, f.output_row_stride, gap + 1),
                (self.residual_word, self.residual_row, f.residual_row_stride, 1),
            ):
                following = Mux(self.row_end, row + stride, word + step)
                m.d.sync += word.eq(following)
                with m.If(self.row_end):
                    m.d.sync += row.eq(following)
            m.next = "WALK"
            with m.If(self.tile_end):
                m.next = "DRAIN"

    def _next_tile(self, m: Module, depthwise: Value) -> None:
        """DRAIN writes a tile's last result; then the addresses of the next tile."""
        f, record, over = self.fields, self.table_data, Signal()
        with m.State("DRAIN"):
            m.d.comb += [self.busy.eq(1), self.lost.drain.eq(1), self.own_address.eq(self._record("output_tiles"))]
            with m.If(~self.launch & ~self.requantizer.busy):
                m.d.comb += self.write.eq(self.waiting)
                m.next = "TILES"
        with m.State("TILES"):
            m.d.comb += [self.busy.eq(1), self.lost.drain.eq(1), self.own_address.eq(self._record("output_block_stride"))]
            m.d.sync += [over.eq(self.tile + 1 == part(record, "output_tiles")), self.waiting.eq(0)]
            m.next = "OUTPUT"
        with m.State("OUTPUT"):
            m.d.comb += [self.busy.eq(1), self.lost.drain.eq(1), self.own_address.eq(self._record("residual_block_stride"))]
            with m.If(self.word_end):
                m.d.sync += self.output.eq(self.output + record)
            m.next = "RESIDUAL"
        with m.State("RESIDUAL"):
            m.d.comb += [self.busy.eq(1), self.lost.drain.eq(1), self.done.eq(over)]
            m.d.sync += [self.tile.eq(self.tile + 1), self.parameter.eq(self.parameter + Mux(f.parameters_held, 0, 1))]
            with m.If(self.word_end):
                m.d.sync += self.residual.eq(self.residual + record)
                with m.If(depthwise):
                    m.d.sync += self.input.eq(self.input + f.input_block_stride)
            m.next = "TILE"
            with m.If(over):
                m.next = "IDLE"
