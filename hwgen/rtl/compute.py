"""The compute engine: everything from a CONV command to its results in the activation buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.fields import BUFFER_ADDRESS_BITS, Buffer, Reduce
from hwgen.isa.latency import LOAD_WRITE_CYCLES, READ_CYCLES, SET_READ_CYCLES, operand_cycles, sum_cycles, write_cycles
from hwgen.rtl.accumulator import LEAD_CYCLES, Accumulator
from hwgen.rtl.activation_buffer import ActivationBuffer, granule_bytes
from hwgen.rtl.activation_table import ActivationTable
from hwgen.rtl.activity import LOST_LAYOUT
from hwgen.rtl.command import STORE_READ_LAYOUT, conv_layout, load_write_layout
from hwgen.rtl.delay import as_views, delay, delay_data
from hwgen.rtl.fetch import Fetch, beat_layout
from hwgen.rtl.mac_array import MacArray
from hwgen.rtl.parameter_buffer import ParameterBuffer
from hwgen.rtl.parameter_set import RESCALE_LAG, ParameterSet, pick
from hwgen.rtl.requantizer import Requantizer, ResidualAdder
from hwgen.rtl.route import Route
from hwgen.rtl.side_queue import SideQueue
from hwgen.rtl.skid import Skid
from hwgen.rtl.walker import Walker, pixel_layout
from hwgen.rtl.weight_buffer import WeightBuffer
from hwgen.rtl.weight_decoder import WeightDecoder
from hwgen.rtl.weight_loader import WeightLoader
from hwgen.rtl.writer import Writer


def _each(sinks: Sequence[Any], sources: Sequence[Any]) -> list[Any]:
    return [sink.eq(source) for sink, source in zip(sinks, sources, strict=True)]


def _later(m: Module, buffer: Any, valid: Value, write: Any, name: str) -> None:
    """Writes a bus word LOAD_WRITE_CYCLES later: each buffer has registers of its own, as its memory lies all over the chip. Nothing in them
    is cleared: they hold no more than what is being written."""
    for k in range(LOAD_WRITE_CYCLES):
        after, held = Signal(name=f"{name}_write_valid_{k}"), Signal.like(write, name=f"{name}_write_{k}", reset_less=True)
        m.d.sync += after.eq(valid)
        with m.If(valid):
            m.d.sync += held.eq(write)
        valid, write = after, held
    m.d.comb += [buffer.load_valid.eq(valid), buffer.load.eq(write)]


class ComputeEngine(wiring.Component):
    """Executes CONV commands in order; see `isa.instructions.Conv` for what one means.

    Members: `command`; `done` in the cycle of the last write of the oldest accepted command (a read in the next cycle sees it);
    `idle`: nothing accepted is unfinished; `abort` drops everything. `load_write`, `store_read` with `store_data`
    (READ_CYCLES after the handshake) are the DMA's ways to the buffers. `array_busy`: a pixel entered the array; `lost`: none did, and why
    (at most one reason, none while no command is there). `trace_*`: every write of results.

    Timing: `command.ready` is high from the cycle after the last slice of the previous command was emitted (the previous command
    then drains while the new one is prepared). With a = cycle of the handshake, d = cycle of the previous command's `done`:
      first column  s = max(a + SETUP_CYCLES, d + 1)                      SETUP_CYCLES = 12
      columns       one cycle each; a pixel sees `taps` columns and walks those that the pixel before it did not see, see Walker
      last column   in the last pass of a pixel tile `slices` cycles (depthwise: depthwise_lanes / requantize_lanes), one more if it
                    reads at the port of the residual word of its first slice and that slice is written
      passes        a pass's first pixel is complete at least PASS_CYCLES = 4 after that of the pass before
      done          d' = s + cycles up to the last slice (schedule.cost.command_cycles) - 1 + write_cycles(config, residual, table)
    Next handshake at the earliest at d' - write_cycles(config, residual, table) + 1.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(
            {
                "command": In(stream.Signature(conv_layout(config))),
                "done": Out(1),
                "idle": Out(1),
                "abort": In(1),
                "array_busy": Out(1),
                "lost": Out(LOST_LAYOUT),
                "load_write": In(stream.Signature(load_write_layout(config))),
                "store_read": In(stream.Signature(STORE_READ_LAYOUT)),
                "store_data": Out(8 * config.in_lanes),
                "trace_valid": Out(1),
                "trace_address": Out(BUFFER_ADDRESS_BITS),
                "trace_mask": Out(config.in_lanes),
                "trace_data": Out(8 * config.in_lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, control = Module(), Module()
        c = self.config
        self._buffers(m)
        self.walker, self.fetch = Walker(c), Fetch(c)
        self._commands(control)
        self._issue(control)
        self._array(control)
        self._results(control)
        m.submodules.control = ResetInserter(self.abort)(control)
        return m

    def _buffers(self, m: Module) -> None:
        c = self.config
        self.activations, self.weights, self.parameters = ActivationBuffer(c), WeightBuffer(c), ParameterBuffer(c)
        m.submodules.activations, m.submodules.weights, m.submodules.parameters = self.activations, self.weights, self.parameters
        load, written = self.load_write, self.load_write.valid
        m.d.comb += [self.activations.load.payload.eq(load.payload), load.ready.eq(1)]
        later = {Buffer.PARAMETER: self.parameters}
        if c.activation_tables:
            m.submodules.table = self.table = ActivationTable(c)
            later[Buffer.TABLE] = self.table
        if not c.weight_decoder:
            later[Buffer.WEIGHT] = self.weights
        for kind, buffer in later.items():
            _later(m, buffer, written & (load.payload.buffer == kind), load.payload, kind.name.lower())
        with m.If(load.payload.buffer == Buffer.ACTIVATION):
            m.d.comb += [self.activations.load.valid.eq(written), load.ready.eq(self.activations.load.ready)]
        if c.weight_decoder:
            m.submodules.decoder = decoder = ResetInserter(self.abort)(WeightDecoder(c))
            m.d.comb += decoder.load.payload.eq(load.payload)
            with m.If(load.payload.buffer == Buffer.WEIGHT):
                m.d.comb += [decoder.load.valid.eq(written), load.ready.eq(decoder.load.ready)]
            _later(m, self.weights, decoder.write_valid, decoder.write, "weight")
        m.d.comb += [
            self.activations.store.payload.eq(self.store_read.payload),
            self.activations.store.valid.eq(self.store_read.valid),
            self.store_read.ready.eq(self.activations.store.ready),
            self.store_data.eq(self.activations.store_data),
        ]

    def _commands(self, m: Module) -> None:
        """`front` is the command whose pixels are fetched, `back` the one whose results are under way."""
        busy, self.draining, self.started = Signal(), Signal(), Signal()
        self.front, self.back = Signal(conv_layout(self.config), reset_less=True), Signal(conv_layout(self.config), reset_less=True)
        take = Signal()
        m.d.comb += [take.eq(self.command.valid & self.command.ready), self.command.ready.eq(~busy), self.idle.eq(~busy & ~self.draining)]
        m.d.sync += self.started.eq(take)
        with m.If(~busy):  # not only where it is taken: then each of its bits would wait for that
            m.d.sync += self.front.eq(self.command.payload)
        with m.If(take):
            m.d.sync += busy.eq(1)
        with m.Elif(self.fetch.finished):
            m.d.sync += busy.eq(0)
        with m.If(self.fetch.begins):
            m.d.sync += [self.back.eq(self.front), self.draining.eq(1)]
        with m.Elif(self.done):
            m.d.sync += self.draining.eq(0)
        m.submodules.walker, m.submodules.fetch = self.walker, self.fetch
        m.submodules.skid = skid = Skid(pixel_layout(self.config))
        m.d.comb += [
            self.walker.take.eq(take),
            self.walker.taken.eq(self.command.payload),
            self.walker.command.eq(self.front),
            skid.valid.eq(self.walker.valid),
            skid.value.eq(self.walker.pixel),
            self.walker.advance.eq(skid.ready),
            skid.advance.eq(self.fetch.advance),
            self.fetch.command.eq(self.front),
            self.fetch.valid.eq(skid.out_valid),
            self.fetch.pixel.eq(skid.out),
            self.fetch.distances.eq(self.walker.distances),
            self.fetch.go.eq(~self.draining),
            self.activations.read.eq(self.fetch.reads),
            self.array_busy.eq(self.fetch.enter),
            self.lost.eq(Mux(busy, self.fetch.lost.as_value(), 0)),
        ]

    def _issue(self, m: Module) -> None:
        """The loader, and the lines along which a beat and a slice travel beside the datapath."""
        c = self.config
        m.submodules.loader = self.loader = loader = WeightLoader(c)
        m.d.comb += [
            loader.start.eq(self.started),
            loader.command.eq(self.front),
            loader.pass_start.eq(self.fetch.pass_start),
            loader.pixel.eq(self.fetch.current),
        ]
        sums = sum_cycles(c)
        self.walked = delay(m, self.fetch.walk, READ_CYCLES, "walked")
        self.entered = delay(m, self.fetch.enter, sums, "entered")
        self.beat = as_views(delay_data(m, self.fetch.beat, sums, "beat"), beat_layout(c))
        self.emitted = delay(m, self.fetch.emitting, sums + 1, "emitted")

    def _array(self, m: Module) -> None:
        c = self.config
        maximum = self.back.reduce == Reduce.MAX
        m.submodules.route, m.submodules.array = router, array = Route(c), MacArray(c)
        m.d.comb += [
            *_each(router.words, self.activations.words),
            router.valid.eq(self.walked[READ_CYCLES]),
            router.route.eq(delay_data(m, self.fetch.route, READ_CYCLES, "route")[-1]),
            router.mode.eq(self.back.mode),
            router.maximum.eq(maximum),
            router.tap_rows.eq(self.back.tap_rows),
            router.pad_value.eq(self.back.pad_value),
            *_each(array.low, router.low),
            array.high.eq(router.high),
            array.maximum.eq(maximum),
            array.valid.eq(Cat(self.entered[operand_cycles() : sum_cycles(c)])),
        ]
        # A set's first word may arrive in the cycle in which the set before it becomes active.
        switch = operand_cycles() - 1
        arrive = switch - 1  # the loader is registered once: it names a word in the cycle after `pass_start`
        valid = delay(m, self.loader.weights_valid, arrive, "weights_valid")
        step = delay_data(m, self.loader.weights, arrive, "weights_step")
        layout = self.loader.weights.shape()
        read = arrive - SET_READ_CYCLES
        m.d.comb += [
            self.weights.enable.eq(valid[read]),
            self.weights.address.eq(layout(step[read]).address),
            array.write.eq(valid[arrive]),
            array.group.eq(layout(step[arrive]).group),
            *_each(array.rows, self.weights.rows),
            array.switch.eq(self.entered[switch] & self.beat[switch].new_weights),
        ]
        self.sums, self.maximum = array.sums, maximum

    def _results(self, m: Module) -> None:
        c, sums = self.config, sum_cycles(self.config)
        m.submodules.accumulator, m.submodules.parameter_set = accumulator, parameters = Accumulator(c), ParameterSet(c)
        base = sums - 1
        m.d.comb += [
            accumulator.read.eq(self.entered[sums - LEAD_CYCLES] & ~self.beat[sums - LEAD_CYCLES].first),
            accumulator.index.eq(self.beat[sums - LEAD_CYCLES].index),
            accumulator.first.eq(self.beat[base].first),
            *_each(accumulator.bias, parameters.bias),
            accumulator.valid.eq(self.entered[sums]),
            accumulator.write_index.eq(self.beat[sums].index),
            accumulator.last.eq(self.beat[sums].last),
            accumulator.maximum.eq(self.maximum),
            *_each(accumulator.sums, self.sums),
        ]
        self._parameters(m, parameters, base - 1)
        m.submodules.requantizer, m.submodules.adder = requantizer, adder = Requantizer(c), ResidualAdder(c)
        index = delay_data(m, self.fetch.slice, sums + 1, "slice")[-1]
        m.d.comb += [requantizer.valid.eq(self.emitted[sums + 1]), parameters.slice.eq(index)]
        m.d.comb += _each(requantizer.rescale, parameters.rescale)
        q = c.requantize_lanes
        m.d.comb += [requantizer.acc[lane].eq(pick([accumulator.held[r] for r in range(lane, c.out_lanes, q)], index)) for lane in range(q)]
        self._residuals(m, requantizer, adder)
        self._writes(m, requantizer, adder)

    def _parameters(self, m: Module, parameters: ParameterSet, switch: int) -> None:
        """`switch`: cycles from a beat to the change of the bias."""
        arrive = switch - 1
        valid = delay(m, self.loader.parameters_valid, arrive, "parameters_valid")
        step = delay_data(m, self.loader.parameters, arrive, "parameters_step")
        layout = self.loader.parameters.shape()
        read = arrive - SET_READ_CYCLES
        rescale = switch + RESCALE_LAG
        m.d.comb += [
            self.parameters.enable.eq(valid[read]),
            self.parameters.address.eq(layout(step[read]).address),
            parameters.write.eq(valid[arrive]),
            parameters.group.eq(layout(step[arrive]).group),
            *_each(parameters.records, self.parameters.records),
            parameters.switch_bias.eq(self.entered[switch] & self.beat[switch].new_bias),
            parameters.switch_rescale.eq(self.entered[rescale] & self.beat[rescale].new_rescale),
        ]

    def _residuals(self, m: Module, requantizer: Requantizer, adder: ResidualAdder) -> None:
        """Residual bytes wait until their sums are requantized."""
        c = self.config
        q = c.requantize_lanes
        m.submodules.residuals = residuals = SideQueue(8 * q, write_cycles(c, False))
        port, group = (
            delay_data(m, value, READ_CYCLES, name)[-1]
            for value, name in ((self.fetch.residual_port, "residual_port"), (self.fetch.result.group, "residual_group"))
        )
        word = pick(list(self.activations.words), port)
        m.d.comb += [
            residuals.push.eq(self.emitted[READ_CYCLES] & self.back.residual),
            residuals.value.eq(pick([word[8 * k : 8 * (k + q)] for k in range(0, c.in_lanes, q)], group)),
            residuals.pop.eq(requantizer.y_next & self.back.residual),
            adder.command.eq(self.back),
            adder.valid.eq(requantizer.y_valid & self.back.residual),
            adder.a.eq(requantizer.y),
            adder.b.eq(residuals.front),
        ]

    def _writes(self, m: Module, requantizer: Requantizer, adder: ResidualAdder) -> None:
        tables = self.config.activation_tables > 0
        m.submodules.writer = writer = Writer(self.config, write_cycles(self.config, True, tables))
        m.d.comb += [writer.push.eq(self.fetch.emitting), writer.result.eq(self.fetch.result)]
        if tables:
            self._look_up(m, requantizer, adder)
        m.d.comb += [writer.soon.eq(requantizer.y_soon), writer.y.eq(requantizer.y)]
        with m.If(self.back.residual):
            m.d.comb += [writer.soon.eq(adder.y_soon), writer.y.eq(adder.y)]
        if tables:
            with m.If(self.back.table):
                m.d.comb += [writer.soon.eq(self.table.y_soon), writer.y.eq(self.table.y)]
        write = writer.write
        m.d.comb += [
            self.activations.write.eq(write),
            self.done.eq(writer.done),
            self.trace_valid.eq(write.ports.any()),
            self.trace_address.eq(write.address),
            self.trace_mask.eq(Cat(bit.replicate(granule_bytes(self.config)) for bit in write.mask)),
            self.trace_data.eq(write.data),
        ]

    def _look_up(self, m: Module, requantizer: Requantizer, adder: ResidualAdder) -> None:
        """Results, the residual added where there is one, on their way through the table."""
        table, residual = self.table, self.back.residual
        m.d.comb += [
            table.address.eq(self.back.table_address),
            table.valid.eq(Mux(residual, adder.y_valid, requantizer.y_valid) & self.back.table),
            table.x.eq(Mux(residual, adder.y, requantizer.y)),
        ]
