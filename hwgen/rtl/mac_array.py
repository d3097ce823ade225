"""The multiplier array: M rows of N products with adder trees, and the maximum of a column beside them."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import BANKS, HardwareConfig
from hwgen.isa.latency import TREE_LEVELS_PER_REGISTER, tree_cycles
from hwgen.rtl.weight_loader import step_layout


def sum_bits(config: HardwareConfig) -> int:
    """Width of a row's sum of N products of int8."""
    return 16 + ceil_log2(config.in_lanes)


class MacArray(wiring.Component):
    """Members: `write` puts R rows of weights (`rows`, at `group`) into the waiting set; `switch` makes that set the active one, from
    the next cycle on, and frees it in the same cycle. `low`, `high` are operands as Route gives them. `maximum` selects, for every
    row, the complement (~) of the maximum of its four chains' newest bytes in place of the sum of products. `valid`: bit k, a pixel is
    k registers behind its operands; registers that no pixel enters keep their value.

    Timing: `sums` follow the operands by 1 + tree_cycles(config) cycles.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        c = config
        super().__init__(
            {
                "write": In(1),
                "group": In(step_layout(0, c)["group"].shape),
                "rows": In(8 * c.in_lanes).array(c.weight_rows),
                "switch": In(1),
                "low": In(8 * c.window_taps).array(c.out_lanes),
                "high": In(8 * (c.in_lanes - c.window_taps)),
                "maximum": In(1),
                "valid": In(1 + tree_cycles(c)),
                "sums": Out(signed(sum_bits(c))).array(c.out_lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        for r in range(c.out_lanes):
            waiting = Signal(8 * c.in_lanes, name=f"waiting_{r}", reset_less=True)
            active = Signal(8 * c.in_lanes, name=f"active_{r}", reset_less=True)
            with m.If(self.write & (self.group == r // c.weight_rows)):
                m.d.sync += waiting.eq(self.rows[r % c.weight_rows])
            with m.If(self.switch):
                m.d.sync += active.eq(waiting)
            self._row(m, r, active)
        return m

    def _operand(self, row: int, lane: int) -> Value:
        taps = self.config.window_taps
        part, k = (self.low[row], lane) if lane < taps else (self.high, lane - taps)
        return part[8 * k : 8 * (k + 1)].as_signed()

    def _row(self, m: Module, r: int, weights: Value) -> None:
        c = self.config
        terms: list[Value] = []
        for lane in range(c.in_lanes):
            product = Signal(signed(16), name=f"product_{r}_{lane}", reset_less=True)
            with m.If(self.valid[0]):
                m.d.sync += product.eq(self._operand(r, lane) * weights[8 * lane : 8 * (lane + 1)].as_signed())
            terms.append(product)
        maxima = self._maxima(m, r)
        for stage in range(tree_cycles(c)):
            levels = min(TREE_LEVELS_PER_REGISTER, ceil_log2(len(terms)))
            for _ in range(levels):
                terms = [terms[k] + terms[k + 1] for k in range(0, len(terms), 2)]
            if stage == tree_cycles(c) - 1:
                m.d.comb += self.sums[r].eq(self._registered(m, f"total_{r}", [Mux(self.maximum, ~maxima[stage], terms[0])], self.valid[stage + 1])[0])
            else:
                terms = self._registered(m, f"sum_{r}_{stage}", terms, self.valid[stage + 1])

    def _registered(self, m: Module, name: str, terms: list[Value], enable: Value) -> list[Value]:
        registers: list[Value] = []
        for k, term in enumerate(terms):
            registers.append(Signal(term.shape(), name=f"{name}_{k}", reset_less=True))
            with m.If(enable):
                m.d.sync += registers[-1].eq(term)
        return registers

    def _maxima(self, m: Module, r: int) -> list[Value]:
        """The maximum of the row's newest bytes, as it is needed by tree stage 0, 1, ..."""

        def larger(a: Value, b: Value) -> Value:
            return Mux(a > b, a, b)

        taps = [self._operand(r, k * self.config.window_taps // BANKS) for k in range(BANKS)]
        taps = self._registered(m, f"larger_{r}", [larger(taps[k], taps[k + 1]) for k in range(0, len(taps), 2)], self.valid[0] & self.maximum)
        while len(taps) > 1:
            taps = [larger(taps[k], taps[k + 1]) for k in range(0, len(taps), 2)]
        line = [taps[0]]
        for stage in range(1, tree_cycles(self.config)):
            line += self._registered(m, f"maximum_{r}_{stage}", [line[-1]], self.valid[stage] & self.maximum)
        return line
