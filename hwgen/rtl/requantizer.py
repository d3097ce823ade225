"""Pipelines read off `hwgen.arith`: one register after each stage of a compound operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, ValueLike, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.arith import IntType, Stage, scale_down, select
from hwgen.config import HardwareConfig
from hwgen.rtl.delay import delay
from hwgen.rtl.parameter_buffer import rescale_layout
from hwgen.rtl.parameter_set import pick
from hwgen.rtl.walker import CONV_LAYOUT


@select.register(Value)
def _select_value(condition: Value, if_true: ValueLike, if_false: ValueLike) -> Value:
    return Mux(condition, if_true, if_false)


@scale_down.register(Value)
def _scale_down_value(value: Value, shift: Value, lowest: int, fraction: int, kind: IntType) -> tuple[Value, Value]:
    """As selections between all shifted forms, each cut to the bits that can matter: no decoder, and no adder or comparison of full width."""
    last, bits = len(value) - 1, kind.bits - 1
    overflows, windows, remainders = [], [], []
    for step in range(8):
        low = (step << lowest) - fraction  # position of the result's bit 0
        kept = Cat(Const(0, max(0, -low)), value[min(max(low, 0), last) : last])[:bits]
        windows.append(Cat(kept, value[last].replicate(bits - len(kept))))
        above = value[min(low + bits, last) :]  # with the sign: all are equal where the result fits
        overflows.append(above.any() & ~above.all() if len(above) > 1 else Const(0, 1))
        remainders.append(value[:low].any() if low > 0 else Const(0, 1))
    index, limit = shift[lowest : lowest + 3], Mux(value[last], Const(0, bits), Const((1 << bits) - 1, bits))
    limited = Mux(pick(overflows, index), limit, pick(windows, index))
    return Cat(limited, value[last]).as_signed(), pick(remainders, index)


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

    Members: `acc` and `rescale` per lane with `valid`; `y` with `y_valid`, and `y_next` one cycle before it.
    Timing: latency is the number of stages, interval 1.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        q = config.requantize_lanes
        operands = {"acc": In(signed(config.accumulator_bits)).array(q), "rescale": In(rescale_layout(config)).array(q)}
        super().__init__({"valid": In(1), **operands, "y_next": Out(1), "y_valid": Out(1), "y": Out(8 * q)})

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
        m.d.comb += [self.y_next.eq(valid[-2]), self.y_valid.eq(valid[-1])]
        return m


class ResidualAdder(wiring.Component):
    """Q lanes of `arith.AddRequantize`, with the constants of the command.

    Members: `a`, `b` with `valid`; `y` with `y_valid`, and `y_next` one cycle before it.
    Timing: latency is the number of stages, interval 1.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        q = config.requantize_lanes
        super().__init__({"command": In(CONV_LAYOUT), "valid": In(1), "a": In(8 * q), "b": In(8 * q), "y_next": Out(1), "y_valid": Out(1), "y": Out(8 * q)})

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
        m.d.comb += [self.y_next.eq(valid[-2]), self.y_valid.eq(valid[-1])]
        return m
