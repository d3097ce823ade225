"""Queues, tokens and memory channels never lose, repeat, invent or reorder; and after a halt nothing new is asked of the memory.

Each harness holds a queue of its own beside the block's; that the two agree in every reachable state is proven by induction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Array, Cat, Mux, Signal, Value
from formal.harness import Harness, accept, offer, requires_persistence
from formal.prove import prove, refute

from hwgen.config import HardwareConfig
from hwgen.isa.fields import TOKEN_LIMIT, Engine
from hwgen.isa.instructions import Store
from hwgen.isa.latency import OUTSTANDING_BURSTS
from hwgen.rtl.axi import byte_bits
from hwgen.rtl.command import dispatch_layout
from hwgen.rtl.read_dma import ReadDma
from hwgen.rtl.side_queue import SideQueue
from hwgen.rtl.tokens import COMMANDS_IN_ENGINE, TokenCounters, TokenGate
from hwgen.rtl.write_dma import WriteDma

CONFIG = HardwareConfig(out_lanes=4, in_lanes=4, activation_words=256, weight_words=64, parameter_words=16)


Parts = Callable[[Value], list[Value]]


class Record:
    """The values that were put in, in a ring of `depth` places, of which readers pass one after the other; `parts`: how a block may store
    a value."""

    def __init__(self, h: Harness, name: str, width: int, depth: int, push: Value, value: Any, parts: Parts = lambda whole: [whole]) -> None:
        self.h, self.name, self.depth = h, name, depth
        self.places = Array(Signal(width, name=f"{name}_{place}") for place in range(depth))
        self.head = Signal(range(depth), name=f"{name}_head")
        with h.m.If(push):
            h.d.sync += [self.places[self.head].eq(Value.cast(value)), self.head.eq(self._after(self.head))]
        self.push = push
        for place, signal in enumerate(self.places):
            for part, bits in enumerate(parts(signal)):
                h.shadow(f"{name}_{place}_{part}", bits)
        h.shadow(f"{name}_head", self.head)

    def _after(self, position: Signal) -> Value:
        return Mux(position == self.depth - 1, 0, position + 1)

    def reader(self, name: str, pop: Value) -> tuple[Value, Value]:
        """The oldest value that this reader has not passed, and how many there are."""
        tail, count = Signal(range(self.depth), name=f"{name}_tail"), Signal(range(self.depth + 1), name=f"{name}_count")
        self.h.d.sync += count.eq(count + self.push - pop)
        with self.h.m.If(pop):
            self.h.d.sync += tail.eq(self._after(tail))
        self.h.shadow(f"{name}_tail", tail)
        self.h.shadow(f"{name}_count", count)
        self.h.claim(f"{name}_room", count <= self.depth)
        distance = Mux(self.head >= tail, self.head - tail, self.head + self.depth - tail)
        self.h.claim(f"{name}_ring", distance == Mux(count == self.depth, 0, count))
        self.second = self.places[self._after(tail)]  # the value behind the one that is returned
        return self.places[tail], count


def side_queue_harness(early: bool = False) -> Harness:
    """Contract: at most as many entries as the depth, and none is popped before the cycle after its push; `early` lets
    it be popped in the cycle of its push."""
    h = Harness(SideQueue(8, 4))
    push, pop, value = h.free(1, "push"), h.free(1, "pop"), h.free(8, "value")
    h.d.comb += [h.dut.push.eq(push), h.dut.pop.eq(pop), h.dut.value.eq(value)]
    record = Record(h, "entry", 8, 4, push, value)
    oldest, count = record.reader("read", pop)
    popped, expected = Signal(), Signal(8)
    h.d.sync += popped.eq(pop)
    h.assume(~pop | (count != 0) | (push & early))
    h.assume(~push | (count < 4))
    with h.m.If(pop):
        h.d.sync += expected.eq(Mux(count == 0, value, oldest))
    h.require(~popped | (h.dut.front == expected))
    h.shadow("expected", expected)
    h.guard("popped", popped)
    return h


def test_side_queue_gives_back_what_was_put_in() -> None:
    prove(side_queue_harness(), states=False)


def test_side_queue_read_too_early_is_caught() -> None:
    refute(side_queue_harness(early=True), cycles=6)


def counter_harness(greedy: bool = False, limit: int = TOKEN_LIMIT) -> Harness:
    """Tokens given minus tokens taken, per pair of engines, counted in 16 bits; contract: take only what is available, and stop after an
    overflow, which is told a cycle late. `greedy` breaks it; another `limit` than the hardware's is a planted fault."""
    h = Harness(TokenCounters())
    h.free_inputs()
    stopped = Signal()
    with h.m.If(h.dut.overflow.any()):
        h.d.sync += stopped.eq(1)
    h.claim("stopped", stopped)
    small = stopped | h.dut.overflow.any()
    for giver in Engine:
        full, beyond, overflows = [], [], Signal(name=f"overflows_{giver.name.lower()}")
        for taker in Engine:
            name, count = f"{giver.name}_{taker.name}".lower(), Signal(16, name=f"count_{giver.name}_{taker.name}".lower())
            give, take, available = h.dut.give[giver][taker], h.dut.take[taker][giver], h.dut.available[taker][giver]
            h.assume(~take | available | greedy)
            h.d.sync += count.eq(count + give - take)
            h.require(stopped | (available == (count != 0)))
            h.require(small | (count <= limit))
            full.append(give & ~take & (count == limit))
            beyond.append(count > limit)
            taken = Signal(name=f"{name}_taken")  # in the cycle before: the block counts it a cycle late
            h.d.sync += taken.eq(take)
            h.shadow(name, count + taken)
            h.shadow(f"{name}_taken", taken)
            h.guard(f"{name}_some", count != 0)
            h.claim(f"{name}_available", stopped | (available == (count != 0)))
            h.claim(f"{name}_small", stopped | (count <= limit + 1))
        h.d.sync += overflows.eq(Cat(full).any())
        h.require(stopped | (h.dut.overflow[giver] == overflows))
        h.claim(f"{giver.name.lower()}_beyond", stopped | (overflows == Cat(beyond).any()))
    h.guard("running", ~stopped)
    return h


def test_no_token_is_taken_that_was_not_given() -> None:
    prove(counter_harness(), states=False)


def test_planted_token_faults_are_caught() -> None:
    refute(counter_harness(greedy=True), cycles=4)
    refute(counter_harness(limit=3), cycles=6)


def _unnamed(whole: Value) -> list[Value]:
    """No register of the block holds such a value in a place of its own."""
    return []


def gate_harness(eager: bool = False, early: bool = False, late: bool = False) -> Harness:
    """Commands of a gate in order, each only with its tokens, which are taken once; `eager` lets the engine say `done` too often. `early`:
    a gate whose commands are there a cycle before they are offered; `late`: and a source that does not keep to that."""
    depth, places = 2, COMMANDS_IN_ENGINE
    h = Harness(TokenGate(Store, depth, CONFIG, early=early))
    source, command = offer(h, h.dut.source, "source"), accept(h, h.dut.command, "command")
    done, available = h.free(1, "done"), h.free(3, "available")
    h.d.comb += [h.dut.done.eq(done), h.dut.available.eq(available)]
    layout = dispatch_layout(Store, CONFIG)
    waiting = Record(h, "waiting", layout.size, depth, source.taken, source.payload, _unnamed)
    oldest, queued = waiting.reader("queued", command.taken)
    head = layout(oldest)
    started_value = Cat(head.signal, head.index)
    started = Record(h, "started", len(started_value), places, command.taken, started_value)
    first, running = started.reader("running", done)
    if early:
        offered, before = Signal(name="offered"), Signal(layout.size, name="before")
        h.d.sync += [offered.eq(source.valid), before.eq(Value.cast(source.payload))]
        refused = Signal(name="refused")
        h.d.sync += refused.eq(source.valid & ~source.ready)
        if not late:
            h.assume(~source.valid | ((refused | ~offered) & (Value.cast(source.payload) == before)))
        h.shadow("before", before)
        h.guard("none_behind", queued < 2)
    # How both queues hold it, the oldest in a register in front of the others: helps the induction only.
    for place in range(places):
        h.guard(f"kept_{place}", started.head != place)
    h.shadow("newest", waiting.places[Mux(waiting.head == 0, depth - 1, waiting.head - 1)])
    h.shadow("oldest", oldest)
    h.shadow("first", first)
    h.shadow("second", (started.head - running + 1)[: (places - 1).bit_length()])
    for name, count, most in (("queued", queued, depth), ("running", running, places)):
        h.guard(f"{name}_one", count != 0)
        h.guard(f"{name}_two", count > 1)
        h.shadow(f"{name}_waits", count > 1)
        h.shadow(f"{name}_some", count != 0)
        h.shadow(f"{name}_free", count != most)
    if not eager:
        h.assume(~done | (running != 0))
    h.require(~command.valid | ((queued != 0) & (Value.cast(command.payload) == Value.cast(head.operands)) & (h.dut.index == head.index)))
    h.require(h.dut.take == Mux(command.taken, head.wait, 0))
    h.require((h.dut.take & ~available) == 0)
    h.require(h.dut.give == Mux(done, first[:3], 0))
    h.require(~done | (h.dut.oldest == first[3:]))
    h.require(h.dut.busy == (running != 0))
    h.require(h.dut.idle == ((running == 0) & (queued == 0)))
    h.require(source.ready == (queued != depth))
    return h


def test_gate_passes_commands_in_order_with_their_tokens() -> None:
    """15 s on one core."""
    prove(gate_harness(), states=False)


def test_gate_passes_commands_that_are_there_early() -> None:
    prove(gate_harness(early=True), states=False)


def test_a_command_that_comes_late_is_caught() -> None:
    refute(gate_harness(early=True, late=True), cycles=4)


def test_gate_whose_engine_finishes_what_it_never_began_is_caught() -> None:
    refute(gate_harness(eager=True), cycles=4)


def claim_questions(h: Harness, to_ask: Value, question: Any, behind: Any) -> None:
    """Where the bursts are that were accepted and not yet taken by AR or AW."""
    h.shadow("question", Cat(question.address, question.length))
    h.shadow("behind", Cat(behind.address, behind.length))
    h.shadow("asking", to_ask != 0)
    h.shadow("asking_twice", to_ask == 2)
    h.guard("asking", to_ask != 0)
    h.guard("asking_twice", to_ask == 2)
    h.claim("two_questions", to_ask <= 2)


def read_harness(deaf: bool = False, fast_memory: bool = False) -> Harness:
    """Bursts to AR once, in order; bus words to the source that asked. Memory: answers bursts that it has taken, in order, whole;
    `fast_memory` plants an answer to a burst that was never asked for, `deaf` a block that does not hear of the halt."""
    h = Harness(ReadDma(CONFIG))
    dut, size = h.dut, CONFIG.bus_bytes
    program, load = offer(h, dut.program, "program"), offer(h, dut.load, "load")
    ar, words = accept(h, dut.ar, "ar"), (accept(h, dut.program_beats, "program_beats"), accept(h, dut.load_beats, "load_beats"))
    r, halt, halted, ar_waited = offer(h, dut.r, "r"), h.free(1, "halt"), Signal(), Signal()
    h.d.comb += dut.halt.eq(0 if deaf else halt)
    for stream in (program, load):  # as the BurstSplitter is proven to make them
        p = stream.payload
        h.assume((p.address[byte_bits(CONFIG) : byte_bits(CONFIG) + 4] + p.length < 16) & (p.address[: byte_bits(CONFIG)] == 0))
    taken = (program.taken | load.taken) & ~halt  # in a halt the sources are in reset: what they offer is dropped
    chosen = Mux(program.taken, program.payload.as_value(), Cat(load.payload.address, load.payload.length))
    width = len(load.payload.as_value())
    layout, question_layout = load.payload.shape(), program.payload.shape()
    pushed = Cat(load.payload, ~program.taken, chosen)
    record = Record(h, "burst", len(pushed), OUTSTANDING_BURSTS, taken, pushed, lambda bits: [bits[: width + 1]])
    last = Signal()
    asked, to_ask = record.reader("asked", ar.taken)
    question, next_question = question_layout(asked[width + 1 :]), question_layout(record.second[width + 1 :])
    answered, under_way = record.reader("answered", r.taken & last)
    burst, is_load, length, beats = layout(answered[:width]), answered[width], question_layout(answered[width + 1 :]).length, Signal(4)
    h.d.comb += last.eq(beats == length)
    h.d.sync += [halted.eq(halt), ar_waited.eq(to_ask > ar.taken)]
    with h.m.If(r.taken):
        h.d.sync += beats.eq(Mux(last, 0, beats + 1))
    if not fast_memory:
        h.assume(~r.valid | (under_way > to_ask))
    h.assume(r.payload.last == last)

    h.require(~(program.taken & load.taken))
    h.require(ar.valid == (to_ask != 0))
    h.require(~ar.valid | ((ar.payload.address == question.address) & (ar.payload.length == question.length)))
    h.require(dut.idle == (under_way == 0))
    for mine, stream in zip((~is_load, is_load), words, strict=True):
        word = stream.payload
        h.require(~stream.valid | (r.valid & mine & (word.data == r.payload.data) & (word.error == r.payload.error)))
        h.require(halt | (stream.taken == (r.taken & mine)))  # none is lost, none comes twice
    word = words[1].payload
    placed = (word.address == (burst.address + size * beats)[: len(burst.address)]) & (word.beat == (burst.beat + beats)[: len(burst.beat)])
    h.require(~words[1].valid | (placed & (word.buffer == burst.buffer) & (word.last == (burst.last & last))))
    h.require(~(halt & r.valid) | r.ready)  # what is under way drains
    h.require(~(halted & ar.valid) | ar_waited)  # nothing new after a halt
    requires_persistence(h, ar, "ar")
    h.shadow("beats", beats)
    h.shadow("waited", ar_waited)
    claim_questions(h, to_ask, question, next_question)
    h.claim("asked_first", to_ask <= under_way)
    h.claim("idle_first_beat", (beats == 0) | (under_way > to_ask))
    h.claim("short_enough", (beats == 0) | (beats <= length))
    h.claim("load_length", ~is_load | (length == burst.length) | (under_way == 0))
    h.claim("in_window", ~is_load | (burst.address[byte_bits(CONFIG) : byte_bits(CONFIG) + 4] + burst.length < 16) | (under_way == 0))
    for place, bits in enumerate(record.places):
        kept, is_load = layout(bits[:width]), bits[width]
        h.claim(f"window_{place}", ~is_load | (kept.address[byte_bits(CONFIG) : byte_bits(CONFIG) + 4] + kept.length < 16))
        h.claim(f"length_{place}", ~is_load | (question_layout(bits[width + 1 :]).length == kept.length))
    return h


def test_read_dma_asks_once_answers_the_asker_and_stops_at_a_halt() -> None:
    prove(read_harness(), states=False)


def test_memory_that_answers_before_it_is_asked_is_caught() -> None:
    refute(read_harness(fast_memory=True), cycles=5)


def test_question_after_a_halt_is_caught() -> None:
    refute(read_harness(deaf=True), cycles=5)


def write_harness(deaf: bool = False) -> Harness:
    """Bursts to AW once, in order; bus words to W in order, `last` where the burst ends; after a halt strobes are 0 and no AW begins. `deaf`
    plants a block that does not hear of the halt."""
    h = Harness(WriteDma(CONFIG))
    dut = h.dut
    bursts, words = offer(h, dut.bursts, "bursts"), offer(h, dut.data, "data")
    aw, w, b = accept(h, dut.aw, "aw"), accept(h, dut.w, "w"), offer(h, dut.b, "b")
    halt, halted, aw_waited, w_waited = h.free(1, "halt"), Signal(), Signal(), Signal()
    h.d.comb += dut.halt.eq(0 if deaf else halt)
    with h.m.If(halted):
        h.assume(halt)  # a halt lasts until all is idle
    layout = bursts.payload.shape()

    def parts(bits: Value) -> list[Value]:
        return [layout(bits).length, Cat(layout(bits).last, layout(bits).address)]

    record = Record(h, "burst", layout.size, OUTSTANDING_BURSTS, bursts.taken & ~halt, bursts.payload, parts)
    beats, shown = Signal(4), Signal(CONFIG.bus_bits)
    asked, to_ask = record.reader("asked", aw.taken)
    next_question = layout(record.second)
    w_last = Signal()
    sent, to_send = record.reader("sent", w.taken & w_last)
    confirmed, under_way = record.reader("confirmed", b.taken)
    question, sending, oldest = layout(asked), layout(sent), layout(confirmed)
    h.d.comb += w_last.eq(beats == sending.length)
    h.d.sync += [halted.eq(halt), aw_waited.eq(to_ask > aw.taken), w_waited.eq(w.valid & ~w.ready)]
    with h.m.If(w.taken):
        h.d.sync += beats.eq(Mux(w_last, 0, beats + 1))
    arrived = Signal()
    h.d.sync += arrived.eq(words.taken & ~halt)  # in a halt the source is in reset: what it offers is dropped
    with h.m.If(words.taken & ~halt):
        h.d.sync += shown.eq(words.payload)
    h.assume(~b.valid | ((under_way > to_ask) & (under_way > to_send)))

    h.require(aw.valid == (to_ask != 0))
    h.require(~aw.valid | ((aw.payload.address == question.address) & (aw.payload.length == question.length)))
    h.require(~w.valid | ((to_send != 0) & (w.payload.last == w_last)))
    full = (1 << CONFIG.bus_bytes) - 1
    h.require(~w.valid | (w.payload.strobe == 0) | ((w.payload.strobe == full) & (w.payload.data == shown)))
    h.require(~arrived | (w.valid & (w.payload.strobe == full)))  # every word that was taken is offered
    h.require(~(w.valid & ~w_waited & ~arrived) | (w.payload.strobe == 0))  # and none twice
    h.require(~(w.valid & ~w_waited & halted) | (w.payload.strobe == 0))
    h.require(~(halted & aw.valid) | aw_waited)
    h.require((dut.done == (b.taken & oldest.last)) & (dut.error == (b.taken & b.payload.error)))
    h.require(~dut.error | (dut.error_address == oldest.address))
    h.require(dut.idle == (under_way == 0))
    requires_persistence(h, aw, "aw")
    requires_persistence(h, w, "w")
    # How far the words have come that wait for W or stand on it: helps the induction only.
    enter, entering_last, place = Signal(), Signal(), Signal(4)
    next_in, to_enter = record.reader("entered", enter & entering_last)
    h.d.comb += [enter.eq((~w.valid | w.ready) & (to_enter != 0) & (words.valid | halt)), entering_last.eq(place == layout(next_in).length)]
    with h.m.If(enter):
        h.d.sync += place.eq(Mux(entering_last, 0, place + 1))
    h.claim("w_empty", w.valid | ((to_send == to_enter) & (beats == place)))
    h.claim("w_inside", ~w.valid | w_last | ((to_send == to_enter) & (place == beats + 1)))
    h.claim("w_at_end", ~w.valid | ~w_last | ((to_send == to_enter + 1) & (place == 0)))
    h.claim("place", place <= Mux(to_enter == 0, 0, layout(next_in).length))
    for name, value in {"beats": beats, "place": place, "shown": shown}.items():
        h.shadow(name, value)
    claim_questions(h, to_ask, question, next_question)
    h.guard("w_full", w.payload.strobe == full)
    h.claim("sent_first", to_send <= under_way)
    h.claim("asked_first", to_ask <= under_way)
    h.claim("w_belongs", ~w.valid | (to_send != 0))
    h.claim("w_last", ~w.valid | (w.payload.last == w_last))
    h.claim("w_strobe", ~w.valid | (w.payload.strobe == 0) | (w.payload.strobe == full))
    h.claim("w_data", ~w.valid | (w.payload.strobe == 0) | (w.payload.data == shown))
    h.claim("short_enough", (beats == 0) | ((beats <= sending.length) & (to_send != 0)))
    return h


def test_write_dma_sends_once_in_order_and_writes_nothing_after_a_halt() -> None:
    prove(write_harness(), states=False)


def test_write_after_a_halt_is_caught() -> None:
    refute(write_harness(deaf=True), cycles=6)
