"""Registers in a row."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, ValueLike
from amaranth.lib import data


def delay(m: Module, value: ValueLike, cycles: int, name: str) -> list[Value]:
    """[value, value one cycle ago, ..., value `cycles` ago]; the registers start at 0 and are cleared by a reset."""
    line = [Value.cast(value)]
    for k in range(cycles):
        register = Signal(line[-1].shape(), name=f"{name}_{k + 1}")
        m.d.sync += register.eq(line[-1])
        line.append(register)
    return line


def delay_data(m: Module, value: ValueLike, cycles: int, name: str) -> list[Value]:
    """The same without reset: for numbers that mean nothing unless a flag beside them says so."""
    line = [Value.cast(value)]
    for k in range(cycles):
        register = Signal(line[-1].shape(), name=f"{name}_{k + 1}", reset_less=True)
        m.d.sync += register.eq(line[-1])
        line.append(register)
    return line


def as_views(line: list[Value], layout: data.Layout) -> list[data.View]:
    return [layout(value) for value in line]
