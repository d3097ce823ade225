"""A proof obligation as an Amaranth module: the block under proof, free inputs, and what must hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Module, Signal, Value, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

SHADOW, GUARD, CLAIM, CASES = "shadow__", "guard__", "claim__", "cases__"


class Harness:
    """A module `m` whose undriven inputs the solver chooses freely in every cycle; it starts in its reset state, which no reset repeats.

    `shadow`, `guard` and `claim` name values of which `prove.induct` composes invariants that relate them to the registers of the block
    under proof, so that a harness needs no name from the block's inside.
    """

    def __init__(self, dut: Any) -> None:
        self.m = Module()
        self.d = self.m.d
        self.m.domains.sync = self._domain = ClockDomain(reset_less=True)
        self.m.submodules.dut = self.dut = dut
        self._ports: list[Signal] = [self._domain.clk]

    def free(self, shape: Any, name: str) -> Any:
        """An input: any value in any cycle."""
        signal = Signal(shape, name=f"free_{name}")
        self._ports.append(Value.cast(signal))
        return signal

    def constant(self, shape: Any, name: str) -> Any:
        """An input that keeps its value, any one, for ever."""
        signal = self.free(shape, name)
        value = Value.cast(signal)
        before, started = Signal(value.shape(), name=f"before_{name}"), Signal(name=f"started_{name}")
        self.d.sync += [before.eq(value), started.eq(1)]
        self.assume(~started | (value == before))
        self.shadow(f"before_{name}", before)
        self.guard(f"started_{name}", started)
        self.claim(f"kept_{name}", ~started | (value == before))
        return signal

    def free_inputs(self, component: wiring.Component | None = None, *, but: tuple[str, ...] = ()) -> None:
        """Drive every input port of the component by a free value, except those whose member name is in `but`."""
        component = component or self.dut
        for path, member, value in component.signature.flatten(component):
            if member.flow is not Out and path[0] not in but:
                name = "_".join(map(str, path))
                self.d.comb += Value.cast(value).eq(self.free(Value.cast(value).shape(), name))

    def require(self, holds: ValueLike) -> None:
        """What is to be proven of every cycle."""
        self.d.comb += Assert(holds)

    def assume(self, holds: ValueLike) -> None:
        """What the block's contract asks of its surroundings in every cycle."""
        self.d.comb += Assume(holds)

    def _named(self, prefix: str, name: str, value: ValueLike) -> None:
        signal = Signal(Value.cast(value).shape(), name=f"{prefix}{name}", attrs={"keep": 1})
        self.d.comb += signal.eq(value)

    def shadow(self, name: str, value: ValueLike) -> None:
        """A value that a register of the block may equal."""
        self._named(SHADOW, name, value)

    def guard(self, name: str, value: ValueLike) -> None:
        """A condition under which an invariant may hold."""
        self._named(GUARD, name, Value.cast(value).bool())

    def claim(self, name: str, value: ValueLike) -> None:
        """A condition that may be an invariant itself."""
        self._named(CLAIM, name, Value.cast(value).bool())

    def cases(self, name: str, value: ValueLike) -> None:
        """A value of few bits that `prove.prove_pipeline` goes through one by one: each case is easier than all at once."""
        self._named(CASES, name, value)

    def rtlil(self) -> str:
        """What the solver sees: the RTLIL that also becomes the Verilog of the product."""
        return rtlil.convert(self.m, name="top", ports=self._ports)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A valid/ready interface whose side that the harness plays is free, and which keeps an offer until it is taken."""

    valid: Any
    ready: Any
    payload: Any

    @property
    def taken(self) -> Value:
        return self.valid & self.ready


def offer(h: Harness, sink: Any, name: str, *, persistent: bool = False) -> Stream:
    """Free traffic into `sink`; with `persistent`, an offer stays until it is taken, as the contract of streams asks."""
    valid, payload = h.free(1, f"{name}_valid"), h.free(sink.payload.shape(), f"{name}_payload")
    h.d.comb += [sink.valid.eq(valid), Value.cast(sink.payload).eq(Value.cast(payload))]
    if persistent:
        kept, before = Signal(name=f"{name}_kept"), Signal.like(Value.cast(payload), name=f"{name}_before")
        h.d.sync += [kept.eq(valid & ~sink.ready), before.eq(Value.cast(payload))]
        h.assume(~kept | (valid & (Value.cast(payload) == before)))
    return Stream(valid=valid, ready=sink.ready, payload=payload)


def accept(h: Harness, source: Any, name: str) -> Stream:
    """Free back-pressure on `source`."""
    ready = h.free(1, f"{name}_ready")
    h.d.comb += source.ready.eq(ready)
    return Stream(valid=source.valid, ready=ready, payload=source.payload)


def requires_persistence(h: Harness, stream: Stream, name: str) -> None:
    """An offer of the block stays, unchanged, until it is taken."""
    kept, before = Signal(name=f"{name}_kept"), Signal.like(Value.cast(stream.payload), name=f"{name}_before")
    h.d.sync += [kept.eq(stream.valid & ~stream.ready), before.eq(Value.cast(stream.payload))]
    h.require(~kept | (stream.valid & (Value.cast(stream.payload) == before)))
