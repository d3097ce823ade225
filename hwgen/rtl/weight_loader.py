"""Which weight and parameter words move into the array, and when."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Reduce
from hwgen.rtl.command import conv_layout
from hwgen.rtl.walker import pixel_layout


def step_layout(address: int, config: HardwareConfig) -> data.StructLayout:
    """Word `address`, which holds rows `group` * R onwards of its set."""
    return data.StructLayout({"address": address, "group": ceil_log2(config.weight_load_cycles)})


class WeightLoader(wiring.Component):
    """Loads the set of the next pass while a pass runs, and the parameters of the next tile while the last pass of a tile runs.

    Members: `start` is the first cycle of `command`; `pass_start` with `pixel` reports the first pixel of each pass. `weights` and
    `parameters` name the word to read in a cycle with `weights_valid`, `parameters_valid`.
    Timing: a set is read in the weight_load_cycles cycles after `start` or `pass_start`, one word each, without exception.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.weight_bits, self.parameter_bits = ceil_log2(config.weight_words), ceil_log2(config.parameter_words)
        super().__init__(
            {
                "start": In(1),
                "command": In(conv_layout(config)),
                "pass_start": In(1),
                "pixel": In(pixel_layout(config)),
                "weights_valid": Out(1),
                "weights": Out(step_layout(self.weight_bits, config)),
                "parameters_valid": Out(1),
                "parameters": Out(step_layout(self.parameter_bits, config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c, pixel = self.command, self.pixel
        tile_base = Signal(self.weight_bits, reset_less=True)
        following = Signal(self.weight_bits)
        load, rewind = Signal(), Signal()
        m.d.comb += [
            following.eq(self.weights.address + self.weights_valid),
            load.eq(Mux(self.start, c.reduce == Reduce.SUM, self.pass_start & pixel.next_weights)),
            rewind.eq(self.pass_start & (pixel.next_weights & pixel.rewind_weights)),
        ]
        with m.If(self.start):
            m.d.sync += tile_base.eq(c.weight_address)
        with m.Elif(self.pass_start & (pixel.next_weights & pixel.next_tile)):
            m.d.sync += tile_base.eq(following)
        self._sequence(m, load, self.weights_valid, self.weights)
        m.d.sync += self.weights.address.eq(Mux(self.start, c.weight_address, Mux(rewind, tile_base, following)))
        self._sequence(m, self.start | (self.pass_start & pixel.next_parameters), self.parameters_valid, self.parameters)
        m.d.sync += self.parameters.address.eq(Mux(self.start, c.parameter_address, self.parameters.address + self.parameters_valid))
        return m

    def _sequence(self, m: Module, load: Value, valid: Value, step: data.View) -> None:
        """The steps of one set, beginning in the cycle after `load`; the address goes on with each, and stays behind the last."""
        last = self.config.weight_load_cycles - 1
        m.d.sync += [valid.eq(load | (valid & (step.group != last))), step.group.eq(Mux(load, 0, step.group + valid))]
