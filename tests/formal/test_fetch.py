"""The program fetch as a whole: it asks for the program's records one after the other, inside the program region, never more than it has
room for; and the records come out complete, in order, with the memory's refusals."""

from __future__ import annotations

import os
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Mux, Signal, Value
from formal.harness import Harness, accept, requires_persistence
from formal.prove import prove, refute

from hwgen.config import HardwareConfig
from hwgen.isa.fields import COMMAND_BYTES
from hwgen.isa.latency import RECORDS_AHEAD
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.axi import byte_bits
from hwgen.rtl.faults import CODE_BITS
from hwgen.rtl.program_fetch import ProgramFetch

CONFIG = HardwareConfig(out_lanes=16, in_lanes=32, bus_bits=256, activation_words=256, weight_words=64, parameter_words=16)
BEATS = COMMAND_BYTES // CONFIG.bus_bytes  # bus words of a record
PLACES = RECORDS_AHEAD * BEATS  # for bus words that were asked for and belong to no record yet
slow = pytest.mark.skipif(not os.environ.get("HWGEN_REGRESS"), reason="half a minute; HWGEN_REGRESS=1 runs it")


class Fetch:
    """The block with a memory that gives any words, but only those that were asked for; a bus word may come in the cycle after its burst was
    taken, or any time later."""

    def __init__(self, *, grow_region: int = 0, unasked: bool = False, hides_errors: bool = False, flips_a_bit: bool = False) -> None:
        self.h = h = Harness(ProgramFetch(CONFIG))
        self.dut = dut = h.dut
        region, self.entry = h.constant(dut.region.shape(), "region"), h.constant(32, "entry")
        self.base, self.size = Value.cast(region.base), Value.cast(region.size)
        h.d.comb += [dut.region.base.eq(self.base), dut.region.size.eq(self.size + grow_region), dut.entry.eq(self.entry)]
        if grow_region:
            h.assume(self.size < (1 << 32) - grow_region)
        self.bursts, self.record = accept(h, dut.bursts, "bursts"), accept(h, dut.record, "record")
        self.word, self.arriving = h.free(dut.beats.payload.shape(), "word"), h.free(1, "arriving")
        h.d.comb += [dut.beats.valid.eq(self.arriving), Value.cast(dut.beats.payload).eq(Value.cast(self.word))]
        if flips_a_bit:
            h.d.comb += dut.beats.payload.data.eq(self.word.data ^ Mux(dut.record.ready, 1 << 20, 0))
        if hides_errors:
            h.d.comb += dut.beats.payload.error.eq(0)
        self.pending = pending = Signal(8)  # bus words that were asked for and have not come
        asked = Mux(self.bursts.taken, self.bursts.payload.length + 1, 0)
        h.d.sync += pending.eq(pending + asked - self.arriving)
        h.assume(~self.arriving | (pending != 0) | unasked)
        self._follow_words(asked)

    def _follow_words(self, asked: Value) -> None:
        """Where the words are: asked for, waiting, in the record that is put together, in the record that is offered."""
        h, taken = self.h, self.record.taken
        self.inside = inside = Signal(8)  # bus words that have come, of records that were not taken
        self.waiting, self.put = Signal(8), Signal(range(BEATS))
        h.d.sync += inside.eq(inside + self.arriving - Mux(taken, BEATS, 0))
        self.move = move = ~self.record.valid & (self.waiting != 0)
        h.d.sync += self.waiting.eq(self.waiting + self.arriving - move)
        with h.m.If(move):
            h.d.sync += self.put.eq(Mux(self.put == BEATS - 1, 0, self.put + 1))
        offered = Mux(self.record.valid, BEATS, 0)
        self.under_way = self.pending + inside  # of records that were not taken
        h.require(self.dut.beats.ready | ~self.arriving)  # the memory's answers never wait: the loads' come behind them
        h.require(~self.record.valid | (inside >= BEATS))
        h.require(self.under_way <= PLACES + BEATS)
        h.claim("places", inside == self.waiting + self.put + offered)
        h.claim("room", self.under_way - offered <= PLACES)
        h.claim("bound", (self.pending <= PLACES) & (self.waiting <= PLACES) & (inside <= PLACES + BEATS) & (self.put < BEATS))
        for name, value in {"waiting": self.waiting[: PLACES.bit_length()], "put": self.put}.items():
            h.shadow(name, value)

    def records_asked(self, offset: Value, left: Signal) -> None:
        """Claims on what is under way: whole records, and the one that the bursts have begun; `left` of its words are not asked for yet."""
        h, begun = self.h, self.bursts.valid
        whole = Signal(3)  # records that all words of were asked for, and that were not taken
        last = self.bursts.taken & (left == self.bursts.payload.length + 1)
        h.d.sync += whole.eq(whole + last - self.record.taken)
        ahead = Signal(4)
        h.d.comb += ahead.eq(whole + begun - self.record.valid)
        h.claim("ahead", ahead <= RECORDS_AHEAD)
        h.claim("whole", (whole <= RECORDS_AHEAD + 1) & (whole >= self.record.valid))
        h.claim("conserved", self.under_way + Mux(begun, left, 0) == BEATS * (whole + begun))
        h.shadow("ahead", ahead)
        h.claim("none_ahead", ahead == 0)


def request_harness(**faults: Any) -> Harness:
    """Every burst continues the record before it; record n lies at entry + 128 n of the region; where the next one would leave the region,
    nothing more is asked for, and that is said when all others are taken."""
    f = Fetch(**faults)
    h, burst, low = f.h, f.bursts.payload, byte_bits(CONFIG)
    at, left = Signal(40), Signal(range(BEATS + 1), init=BEATS)  # of the record that is being asked for: its place in the region; words not asked for
    started, start = Signal(), Signal(40)
    h.d.sync += started.eq(1)
    h.d.comb += start.eq(Mux(started, at, f.entry))
    count, length = burst.length + 1, COMMAND_BYTES
    finished = f.bursts.taken & (left == count)
    h.d.sync += at.eq(Mux(finished, start + length, start))
    with h.m.If(f.bursts.taken):
        h.d.sync += left.eq(Mux(finished, BEATS, left - count))
    f.records_asked(start, left)
    done = (BEATS - left) << low
    address = f.base + start + done
    legal = (start + length <= f.size) & (f.base + start + length <= 1 << CONFIG.address_bits) & ~Cat(f.base[:low], start[:low]).any()
    h.require(~f.bursts.valid | ((burst.address == address) & (count <= left) & legal))
    h.require(~f.bursts.valid | (burst.address[:12] + (count << low) <= 4096))
    missing = ~f.record.valid & (f.dut.fault_code != 0)
    h.require(~missing | (~legal & ~f.bursts.valid & (f.under_way == 0)))
    h.require(start < 1 << 33)
    requires_persistence(h, f.bursts, "bursts")

    following = Signal(40)  # the record behind those that bursts have begun
    h.d.comb += following.eq(start + Mux(f.bursts.valid, length, 0))
    in_space = f.base + following + length <= 1 << CONFIG.address_bits
    misaligned = Cat(f.base[:low], following[:low]).any()
    next_legal = (following + length <= f.size) & in_space & ~misaligned
    word, end = address[low:], ((f.base + start + length - 1) >> low)[:5]
    position, page = word[:4], word[4:]
    for name, value in {
        "number": ((following - f.entry) >> 7)[:25],
        "origin": (f.base + f.entry)[: CONFIG.address_bits + 1],
        "places": ((f.size - f.entry) >> 7)[:26],
        "next_address": (f.base + following)[: CONFIG.address_bits + 1],
        "next_end": (((f.base + following) >> low) + BEATS - 1)[:5],
        "code": Mux(misaligned, ErrorCode.ALIGNMENT, Mux(next_legal, ErrorCode.NONE, Const(ErrorCode.REGION, CODE_BITS))),
        "no_code": Const(0, CODE_BITS),
        "position": position,
        "page": page[: CONFIG.address_bits - low - 4],
        "tail": end[:4],
        "tail_length": (end[:4] - position)[:4],
        "before_end": ~end[4],
        "final": ~f.bursts.valid | (page[0] == end[4]),
    }.items():
        h.shadow(name, value)
    h.guard("begun", f.bursts.valid)
    h.claim("legal", legal)
    h.claim("next_legal", next_legal)
    h.claim("whole_records", ~(following - f.entry)[:7].any())
    h.claim("records_before_fit", (following <= f.size) | (following == f.entry))
    h.claim("in_index", (following - f.entry) >> 7 <= 1 << 25)
    h.claim("fits", following < 1 << 32)
    h.claim("behind_entry", following >= f.entry)
    h.claim("left", (left != 0) & (left <= BEATS))
    h.claim("fresh", f.bursts.valid | (left == BEATS))
    return h


def record_harness(**faults: Any) -> Harness:
    """One bus word, any one, is watched: the record that holds it by its place among all words offers it at that place, or with it the memory's
    refusal. That the words asked for have room is proven of the requests."""
    f = Fetch(**faults)
    h, inside, taken, width = f.h, f.inside, f.record.taken, CONFIG.bus_bits
    h.assume(f.under_way - Mux(f.record.valid, BEATS, 0) <= PLACES)
    watch, watched, done = h.free(1, "watch"), Signal(), Signal()
    held, part, before = Signal(width + 1), Signal(range(BEATS)), Signal(4)  # `before`: records not taken before the one that holds it
    head, tail, slot, moved = Signal(range(PLACES)), Signal(range(PLACES)), Signal(range(PLACES)), Signal()
    h.assume(~watch | (f.arriving & ~watched))
    h.d.sync += [head.eq(head + f.arriving), tail.eq(tail + f.move), watched.eq(watched | watch)]
    with h.m.If(watch):
        h.d.sync += [held.eq(Cat(f.word.data, f.word.error)), part.eq(inside % BEATS), before.eq(inside // BEATS - taken), slot.eq(head)]
    with h.m.Elif(watched & taken):
        h.d.sync += [before.eq(before - 1), done.eq(done | (before == 0))]
    with h.m.If(watched & f.move & (tail == slot)):
        h.d.sync += moved.eq(1)
    exact = Signal()
    with h.m.Switch(part):
        for place in range(BEATS):
            with h.m.Case(place):
                offered = f.record.payload[place * width : (place + 1) * width]
                h.d.comb += exact.eq(offered == held[: len(offered)])
    mine = watched & ~done & (before == 0) & f.record.valid
    h.require(~mine | (exact & (~held[width] | (f.dut.fault_code == ErrorCode.BUS_READ))))

    waits, distance = watched & ~moved, (slot - tail)[: len(slot)]
    h.shadow("held", held)
    h.shadow("refused", Const(1, 1))
    h.guard("refused", moved & ~done & held[width])
    for name, value in {"head": head, "tail": tail}.items():
        h.shadow(name, value)
    for place in range(PLACES):
        h.guard(f"at_{place}", waits & (slot == place))
    h.claim("ring", (head - tail)[: len(head)] == f.waiting[: len(head)])
    h.claim("queued", ~waits | (distance < f.waiting))
    h.claim("ordered", ~waits | (Mux(f.record.valid, BEATS, 0) + f.put + distance == before * BEATS + part))
    h.claim("entered", ~(moved & ~done) | ((before == 0) & (f.record.valid | (f.put > part)) & exact))
    h.claim("moved", ~moved | watched)
    h.claim("done", ~done | moved)
    h.claim("begins", ~f.record.valid | (f.put == 0))
    return h


@slow
def test_fetch_asks_for_the_records_of_the_region_in_order() -> None:
    prove(request_harness(), states=False)


@slow
def test_records_come_out_complete_and_in_order() -> None:
    prove(record_harness(), states=False)


@pytest.mark.parametrize("fault", [{"grow_region": COMMAND_BYTES}, {"unasked": True}], ids=str)
def test_planted_request_faults_are_caught(fault: dict[str, Any]) -> None:
    refute(request_harness(**fault), cycles=16)


@pytest.mark.parametrize("fault", [{"hides_errors": True}, {"flips_a_bit": True}], ids=str)
def test_planted_record_faults_are_caught(fault: dict[str, Any]) -> None:
    refute(record_harness(**fault), cycles=14)
