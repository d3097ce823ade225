"""The requantizer and the residual adder equal their definition, for all operands: the definition is written a second time here, with
divisions' remainders instead of shifts that round. Both sides multiply alike, since no solver compares two different multipliers of this
width; that the shared way to multiply is right is proven over the integers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import z3
from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from formal.harness import Harness
from formal.prove import prove_pipeline, refute_pipeline

from hwgen.arith import MULTIPLIER_BITS, IntType, Rounding, Stage, select
from hwgen.config import HardwareConfig
from hwgen.rtl.requantizer import Requantizer, ResidualAdder, shape_of

DEFAULT = HardwareConfig(out_lanes=4, in_lanes=4, requantize_lanes=1)
REGRESS = bool(os.environ.get("HWGEN_REGRESS"))
PRESET = (16, 32)  # bits of multiplier and accumulator
_BITS = [PRESET, *((bits, 32) for bits in MULTIPLIER_BITS if bits != PRESET[0]), (0, 20), (8, 20)] if REGRESS else [PRESET]
ROUNDINGS = list(Rounding) if REGRESS else [DEFAULT.rounding]
CONFIGS = [replace(DEFAULT, multiplier_bits=m, accumulator_bits=a, rounding=rounding) for m, a in _BITS for rounding in ROUNDINGS]
names = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.multiplier_bits} and {c.accumulator_bits} bits {c.rounding.value}")


def divided(m: Module, value: Value, shift: Value, rounding: Rounding) -> Value:
    """value / 2**shift to the nearest integer: quotient and remainder decide, in full width."""
    quotient, unit = Signal.like(value >> shift, name="quotient"), Const(1) << shift
    remainder = Signal(unit.shape(), name="remainder")
    m.d.comb += [quotient.eq(value >> shift), remainder.eq(value & (unit - 1))]
    doubled = remainder << 1
    odd = quotient[0]
    up = (doubled > unit) | ((doubled == unit) & (odd if rounding is Rounding.HALF_EVEN else 1))
    return quotient + (up & (shift != 0))


def limited(value: Value, low: Value, high: Value) -> Value:
    return Mux(value > high, high, Mux(low > high, high, Mux(value < low, low, value)))


def later(m: Module, value: Value, cycles: int, name: str) -> Value:
    for cycle in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{cycle}")
        m.d.sync += register.eq(value)
        value = register
    return value


def product_of(config: HardwareConfig, acc: Value, multiplier: Value, hold: Callable[[str, Any, IntType], Any]) -> Value:
    """What the definition's first stages make of the accumulator; `hold` gives each result its type."""
    values: Any = {"acc": acc, "multiplier": multiplier, "shift": Const(0, 6), "zero_point": Const(0), "low": Const(0), "high": Const(0)}
    for stage in config.requantize.stages:
        values = stage.function(**values)
        values = {**values, **{name: hold(name, values[name], kind) for name, kind in stage.outputs.items()}}
        if "product" in stage.outputs:
            return values["product"]
    raise AssertionError("no stage makes the product")


def require_result(h: Harness, expected: Value, latency: int) -> None:
    h.cases("valid", h.dut.valid)  # known to be 1, every register of the pipeline is a function of the operands, and one question is enough
    y, valid = later(h.m, expected[:8], latency, "expected"), later(h.m, h.dut.valid, latency, "valid")
    h.require(h.dut.y_valid == valid)
    h.require(~valid | (h.dut.y == y))
    h.require(h.dut.y_next == later(h.m, h.dut.valid, latency - 1, "next"))


def requantizer_harness(config: HardwareConfig, built: HardwareConfig | None = None) -> Harness:
    """The hardware of `built` against the definition of `config`."""
    h = Harness(Requantizer(built or config))
    h.free_inputs()
    rescale = h.dut.rescale[0]
    tail = rescale.tail

    def hold(name: str, value: Value, kind: IntType) -> Value:
        signal = Signal(shape_of(kind), name=f"defined_{name}")
        h.d.comb += signal.eq(value)
        return signal

    product = product_of(config, h.dut.acc[0], rescale.multiplier if config.multiplier_bits else Const(0), hold)
    scaled = divided(h.m, product, tail.shift, config.rounding) + tail.zero_point.as_signed()
    require_result(h, limited(scaled, tail.low.as_signed(), tail.high.as_signed()), len(config.requantize.stages))
    return h


def adder_harness(config: HardwareConfig, built: HardwareConfig | None = None) -> Harness:
    h = Harness(ResidualAdder(built or config))
    h.free_inputs(but=("command",))
    kinds = {name: kind for name, kind in config.add_requantize.inputs.items() if name not in ("a", "b")}
    operands = {name: h.constant(shape_of(kind), name) for name, kind in kinds.items()}
    h.d.comb += [getattr(h.dut.command, f"residual_{name}").eq(value) for name, value in operands.items()]
    a, b = h.dut.a.as_signed(), h.dut.b.as_signed()
    scale = (lambda x, m: x * m) if config.multiplier_bits else (lambda x, m: x << m)
    total = Signal(signed(49))
    total_value = scale(a, operands["multiplier_a"]) + scale(b, operands["multiplier_b"]) + operands["offset"]
    h.d.comb += total.eq(total_value)
    expected = limited(divided(h.m, total, operands["shift"], config.rounding), operands["low"], operands["high"])
    require_result(h, expected, len(config.add_requantize.stages))
    return h


@names
def test_requantizer_equals_the_definition_for_all_operands(config: HardwareConfig) -> None:
    prove_pipeline(requantizer_harness(config), latency=len(config.requantize.stages))


@names
def test_residual_adder_equals_the_definition_for_all_operands(config: HardwareConfig) -> None:
    prove_pipeline(adder_harness(config), latency=len(config.add_requantize.stages))


class _Integer:
    """An integer of any size to the solver; `&` with a mask and `>>` as what they mean of integers."""

    def __init__(self, term: z3.ArithRef) -> None:
        self.term = term

    def __and__(self, mask: int) -> _Integer:
        assert mask & (mask + 1) == 0
        return _Integer(self.term % (mask + 1))

    def __rshift__(self, count: int) -> _Integer:
        return _Integer(self.term / (1 << count))  # of integers: floor

    def __lshift__(self, count: int) -> _Integer:
        return _Integer(self.term * (1 << count))

    def __mul__(self, other: _Integer) -> _Integer:
        return _Integer(self.term * other.term)

    def __add__(self, other: _Integer) -> _Integer:
        return _Integer(self.term + other.term)


@pytest.mark.parametrize("bits", MULTIPLIER_BITS[1:])
def test_shared_way_to_multiply_is_multiplication(bits: int) -> None:
    """Over the integers, and no intermediate result leaves its declared width."""
    config = replace(DEFAULT, multiplier_bits=bits)
    acc, multiplier = z3.Ints("acc multiplier")
    operands = config.requantize.inputs
    known = [z3.And(operands[str(x)].min <= x, x <= operands[str(x)].max) for x in (acc, multiplier)]

    def hold(name: str, value: Any, kind: IntType) -> Any:
        if isinstance(value, _Integer):
            bounds = z3.Solver()
            bounds.add(*known, z3.Not(z3.And(kind.min <= value.term, value.term <= kind.max)))
            assert bounds.check() == z3.unsat, f"{name} leaves {kind}"
        return value

    product: Any = product_of(config, _Integer(acc), _Integer(multiplier), hold)  # type: ignore[arg-type]
    solver = z3.Solver()
    solver.add(product.term != acc * multiplier)
    assert solver.check() == z3.unsat


def faulty(operation: Any, number: int, rare: str) -> tuple[Stage, ...]:
    """The stages with one fault: the first result of stage `number` is 1 too large where operand `rare`, or its complement, is 77."""
    stages = list(operation.stages)
    stage = stages[number]
    first = next(iter(stage.outputs))

    def function(**operands: Any) -> dict[str, Any]:
        results = dict(stage.function(**operands))
        return results | {first: results[first] + select(operands[rare if rare in operands else f"not_{rare}"] == 77, 1, 0)}

    stages[number] = Stage(stage.outputs, function)
    return tuple(stages)


def with_stages(config: HardwareConfig, name: str, stages: tuple[Stage, ...]) -> HardwareConfig:
    class Operation:
        pass

    operation: Any = Operation()
    operation.stages, operation.inputs = stages, getattr(config, name).inputs
    faulted = type("Faulted", (HardwareConfig,), {name: property(lambda self: operation)})
    return faulted(**{field: getattr(config, field) for field in config.__dataclass_fields__})


@pytest.mark.parametrize("number", range(len(DEFAULT.requantize.stages)))
def test_planted_fault_in_any_stage_of_the_requantizer_is_caught(number: int) -> None:
    built = with_stages(DEFAULT, "requantize", faulty(DEFAULT.requantize, number, "low"))
    refute_pipeline(requantizer_harness(DEFAULT, built), latency=len(DEFAULT.requantize.stages))


@pytest.mark.parametrize("number", range(len(DEFAULT.add_requantize.stages)))
def test_planted_fault_in_any_stage_of_the_residual_adder_is_caught(number: int) -> None:
    built = with_stages(DEFAULT, "add_requantize", faulty(DEFAULT.add_requantize, number, "low"))
    refute_pipeline(adder_harness(DEFAULT, built), latency=len(DEFAULT.add_requantize.stages))


@pytest.mark.parametrize("harness, operation", [(requantizer_harness, DEFAULT.requantize), (adder_harness, DEFAULT.add_requantize)])
def test_the_other_rounding_is_caught(harness: Callable[[HardwareConfig, HardwareConfig], Harness], operation: Any) -> None:
    """Half up and half even differ at ties only."""
    refute_pipeline(harness(DEFAULT, replace(DEFAULT, rounding=Rounding.HALF_UP)), latency=len(operation.stages))
