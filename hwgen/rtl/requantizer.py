"""Pipelines read off `hwgen.arith`: one register after each stage of a compound operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, ValueLike, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.arith import PARTS, IntType, Stage, scale_down, select
from hwgen.config import HardwareConfig
from hwgen.rtl.command import conv_layout
from hwgen.rtl.delay import delay
from hwgen.rtl.parameter_buffer import rescale_layout
from hwgen.rtl.parameter_set import pick


@select.register(Value)
def _select_value(condition: Value, if_true: ValueLike, if_false: ValueLike) -> Value:
    return Mux(condition, if_true, if_false)


@scale_down.register(Value)
def _scale_down_value(value: Value, shift: Value, lowest: int, fraction: int, kind: IntType) -> tuple[Value, Value, Value]:
    """Selects only bits that can matter; no decoder, and no adder or comparison of full width."""
    last, bits, index = len(value) - 1, kind.bits - 1, shift[lowest : lowest + 3]
    low = [(step << lowest) - fraction for step in range(8)]  # position of the result's bit 0
    at_most = [pick([Const(step <= k, 1) for step in range(8)], index) for k in range(8)]  # as comparisons they would become carry chains
    ends = [min(position + bits, last) for position in low] + [last]
    overflows = [(value[a:b] ^ value[last].replicate(b - a)).any() & at_most[k] for k, (a, b) in enumerate(pairwise(ends))]
    remainders = [value[max(a, 0) : b].any() & ~at_most[k] for k, (a, b) in enumerate(pairwise(low)) if b > 0]
    scaled = pick([_window(value, position, bits) for position in low], index)
    return Cat(scaled, value[last]).as_signed(), _in_parts(overflows), _in_parts(remainders)


def _window(value: Value, position: int, bits: int) -> Value:
    """So many bits from a position on: zeros below the value, its sign above."""
    last = len(value) - 1
    inside = value[min(max(position, 0), last) : min(position + bits, last)]
    zeros = max(0, -position)
    return Cat(Const(0, zeros), inside, value[last].replicate(bits - zeros - len(inside)))


def _in_parts(flags: list[Value]) -> Value:
    return Cat(Cat(flags[k :: PARTS.bits]).any() for k in range(PARTS.bits))


def shape_of(kind: IntType) -> Shape:
    return signed(kind.bits) if kind.signed else unsigned(kind.bits)


def pipeline(
    m: Module, stages: tuple[Stage, ...], operands: Mapping[str, Value], enables: Sequence[Value], constants: Mapping[str, Value], name: str
) -> Mapping[str, Value]:
    """The outputs of the last stage, len(stages) cycles after the operands.

    `constants` are operands that need no registers. Stage k works where enables[k]: that changes no result that anyone takes, but
    saves power, and most of the stage's time in simulation.
    """
    values = {**operands, **constants}
    for number, (stage, enable) in enumerate(zip(stages, enables, strict=True)):
        results = stage.function(**values)
        following: dict[str, Value] = {}
        for key, kind in stage.outputs.items():
            if key in constants:
                following[key] = constants[key]
                continue
            following[key] = Signal(shape_of(kind), name=f"{name}_{number}_{key}", reset_less=True)
            with m.If(enable):
                m.d.sync += following[key].eq(results[key])
        values = following
    return values


class Requantizer(wiring.Component):
    """Q lanes of `arith.Requantize`.

    Members: `acc` and `rescale` per lane with `valid`; `y` with `y_valid`, `y_next` one cycle before it and `y_soon` two.
    Timing: latency is the number of stages, interval 1.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        q = config.requantize_lanes
        operands = {"acc": In(signed(config.accumulator_bits)).array(q), "rescale": In(rescale_layout(config)).array(q)}
        super().__init__({"valid": In(1), **operands, "y_soon": Out(1), "y_next": Out(1), "y_valid": Out(1), "y": Out(8 * q)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stages = self.config.requantize.stages
        valid = delay(m, self.valid, len(stages), "valid")
        for lane in range(self.config.requantize_lanes):
            rescale = self.rescale[lane]
            multiplier = rescale.multiplier if self.config.multiplier_bits else Const(0)
            tail = {"shift": rescale.tail.shift, **{key: rescale.tail[key].as_signed() for key in ("zero_point", "low", "high")}}
            out = pipeline(m, stages, {"acc": self.acc[lane], "multiplier": multiplier, **tail}, valid[:-1], {}, f"lane{lane}")
            m.d.comb += self.y[8 * lane : 8 * (lane + 1)].eq(out["y"])
        m.d.comb += [self.y_soon.eq(valid[-3]), self.y_next.eq(valid[-2]), self.y_valid.eq(valid[-1])]
        return m


class ResidualAdder(wiring.Component):
    """Q lanes of `arith.AddRequantize`, with the constants of the command.

    Members: `a`, `b` with `valid`; `y` with `y_valid`, `y_next` one cycle before it and `y_soon` two.
    Timing: latency is the number of stages, interval 1.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        q = config.requantize_lanes
        operands = {"command": In(conv_layout(config)), "valid": In(1), "a": In(8 * q), "b": In(8 * q)}
        super().__init__({**operands, "y_soon": Out(1), "y_next": Out(1), "y_valid": Out(1), "y": Out(8 * q)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        operation, c = self.config.add_requantize, self.command
        names = ("multiplier_a", "multiplier_b", "offset", "shift", "low", "high")
        constants = {name: getattr(c, f"residual_{name}")[: operation.inputs[name].bits] for name in names}
        constants = {name: value.as_signed() if operation.inputs[name].signed else value for name, value in constants.items()}
        stages = operation.stages
        valid = delay(m, self.valid, len(stages), "valid")
        for lane in range(self.config.requantize_lanes):
            a, b = (source[8 * lane : 8 * (lane + 1)].as_signed() for source in (self.a, self.b))
            out = pipeline(m, stages, {"a": a, "b": b}, valid[:-1], constants, f"lane{lane}")
            m.d.comb += self.y[8 * lane : 8 * (lane + 1)].eq(out["y"])
        m.d.comb += [self.y_soon.eq(valid[-3]), self.y_next.eq(valid[-2]), self.y_valid.eq(valid[-1])]
        return m
