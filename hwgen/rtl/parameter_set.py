"""The parameters of the running tile, and of the next."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.rtl.delay import delay, delay_data
from hwgen.rtl.parameter_buffer import record_layout, rescale_layout
from hwgen.rtl.weight_loader import step_layout

RESCALE_LAG = 2  # the requantizer meets a pixel this many cycles after its accumulators met the bias


class ParameterSet(wiring.Component):
    """Two sets, M channels each: a waiting one that is written, and the active one.

    Members: `write` puts R `records` at `group` into the waiting set. `switch_bias` and `switch_rescale` make the waiting biases and
    the rest active from the next cycle on. `bias` serves all rows, `rescale` the Q channels of slice `slice`.
    Timing: the bias is written at once, the rest RESCALE_LAG cycles later; so each part may be overwritten from the cycle of its switch on.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        c = config
        super().__init__(
            {
                "write": In(1),
                "group": In(step_layout(0, c)["group"].shape),
                "records": In(record_layout(c)).array(c.weight_rows),
                "switch_bias": In(1),
                "switch_rescale": In(1),
                "slice": In((c.slices - 1).bit_length()),
                "bias": Out(signed(c.accumulator_bits)).array(c.out_lanes),
                "rescale": Out(rescale_layout(c)).array(c.requantize_lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        late_write = delay(m, self.write, RESCALE_LAG, "write")[-1]
        late_group = delay_data(m, self.group, RESCALE_LAG, "group")[-1]
        active: list[Value] = []
        for k in range(c.weight_rows):
            late = delay_data(m, self.records[k].rescale, RESCALE_LAG, f"rescale_{k}")[-1]
            for group in range(c.weight_load_cycles):
                r = group * c.weight_rows + k
                bias = self._waiting(m, f"bias_{r}", self.write & (self.group == group), self.records[k].bias)
                active_bias = Signal(len(bias), name=f"active_bias_{r}", reset_less=True)
                m.d.comb += self.bias[r].eq(active_bias)
                with m.If(self.switch_bias):
                    m.d.sync += active_bias.eq(bias)
                waiting = self._waiting(m, f"rescale_{r}", late_write & (late_group == group), late)
                active.append(Signal(len(late), name=f"active_{r}", reset_less=True))
                with m.If(self.switch_rescale):
                    m.d.sync += active[-1].eq(waiting)
        rows = [active[(r % c.weight_rows) * c.weight_load_cycles + r // c.weight_rows] for r in range(c.out_lanes)]
        for lane in range(c.requantize_lanes):
            m.d.comb += self.rescale[lane].eq(pick(rows[lane :: c.requantize_lanes], self.slice))
        return m

    def _waiting(self, m: Module, name: str, write: Value, value: Value) -> Value:
        waiting = Signal(len(Value.cast(value)), name=f"waiting_{name}", reset_less=True)
        with m.If(write):
            m.d.sync += waiting.eq(value)
        return waiting


def pick(options: list[Value], index: Value) -> Value:
    """options[index] as a balanced tree; the number of options is a power of two."""
    if len(options) == 1:
        return options[0]
    half = len(options) // 2
    return Mux(index[len(bin(half)) - 3], pick(options[half:], index), pick(options[:half], index))
