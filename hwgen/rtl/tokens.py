"""Tokens: how the three engines wait for each other."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import TOKEN_LIMIT, Engine
from hwgen.rtl.command import INDEX_BITS, command_layout, dispatch_layout

TOKEN_BITS = TOKEN_LIMIT.bit_length()
COMMANDS_IN_ENGINE = 8  # more than any engine accepts before its oldest command is done

_FLAGS = data.ArrayLayout(len(Engine), len(Engine))  # element e: the three bits of engine e


class TokenCounters(wiring.Component):
    """One counter from every engine to every engine.

    Members
    -------
    give[e] : engine e gives a token to each engine whose bit is set
    take[e] : engine e takes a token of each engine whose bit is set; allowed where `available[e]` has the bit
    overflow : bit e: engine e has given a token to a counter that was full

    Timing
    ------
    A token given in cycle t is available from cycle t + 1, and `overflow` then tells that it had no place. `available` are registers.
    """

    def __init__(self) -> None:
        super().__init__({"give": In(_FLAGS), "take": In(_FLAGS), "available": Out(_FLAGS), "overflow": Out(len(Engine))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for giver in Engine:
            for taker in Engine:
                name = f"from_{giver.name.lower()}_to_{taker.name.lower()}"
                count, some = Signal(TOKEN_BITS + 1, name=name), Signal(name=f"{name}_some")  # the highest bit: one too many
                taken = Signal(name=f"{name}_taken")  # `count` does not know of it yet: what is taken is known late in a cycle
                give, take, single = self.give[giver][taker], self.take[taker][giver], count == Cat(~taken, taken)
                with m.If(give ^ taken):
                    m.d.sync += count.eq(count + Cat(1, taken.replicate(TOKEN_BITS)))
                m.d.sync += [taken.eq(take), some.eq(give | (some & ~(take & single)))]
                m.d.comb += self.available[taker][giver].eq(some)
                with m.If(count[-1] & ~(taken & (count[:-1] == 0))):
                    m.d.comb += self.overflow[giver].eq(1)
        return m


class HeadQueue(wiring.Component):
    """A queue whose oldest entry is in a register; the others wait in a LUT memory, a single one in a register too.

    Members
    -------
    source : what comes in
    head : what goes out

    Timing
    ------
    An entry that enters an empty queue in cycle t is offered from t + 1 on, one behind another from the cycle after that one was taken.
    `source.ready` depends on no input: a full queue takes nothing in the cycle in which an entry leaves.
    `early`: `source.payload` is there a cycle before `source.valid`, which was low then. What comes already waits when it is taken, so
    the head's register takes all from one place: no choice for each bit of an entry.
    """

    def __init__(self, shape: ShapeLike, depth: int, *, early: bool = False) -> None:
        self._shape, self._depth, self._early = shape, depth, early
        super().__init__({"source": In(stream.Signature(shape)), "head": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        source, head, width = self.source, self.head, Shape.cast(self._shape).width
        payload, behind = Signal(width, reset_less=True), Signal(width)
        put, got, waits = Signal(), Signal(), Signal()
        m.d.comb += [head.payload.eq(payload), put.eq(source.valid & source.ready), got.eq(head.valid & head.ready)]
        with m.If(~head.valid | head.ready):
            m.d.sync += payload.eq(behind if self._early else Mux(waits, behind, source.payload))
        self._flags(m, put, got, waits)
        if self._depth == 2:
            waiting = Signal(width, reset_less=True)
            m.d.comb += behind.eq(waiting)
            with m.If(~waits | (got & self._early)):
                m.d.sync += waiting.eq(source.payload)
        else:
            self._ring(m, behind, put, (put & ~head.valid) | (got & (waits | put)) if self._early else got)
        return m

    def _flags(self, m: Module, put: Signal, got: Signal, waits: Signal) -> None:
        """How many entries there are, and what follows from it (`waits`: one behind the head) a cycle ahead; `got` comes late."""
        count, room, valid = Signal(range(self._depth + 1)), Signal(init=1), self.head.valid
        with m.If(put ^ got):
            m.d.sync += count.eq(Mux(put, count + 1, count - 1))
        m.d.sync += [
            valid.eq(put | (valid & ~(got & (count == 1)))),
            waits.eq(Mux(got, (count > 2) | (put & (count == 2)), (count > 1) | (put & (count == 1)))),
            room.eq(got | (room & ~(put & (count == self._depth - 1)))),
        ]
        m.d.comb += self.source.ready.eq(room)

    def _ring(self, m: Module, behind: Value, put: Signal, onward: Value) -> None:
        """Every entry has a place, also that in the head's register. What stands at the next free place, or is the head's, may be anything:
        so a write needs no condition. What is read is behind the head; with `early`, of an empty queue, the next free place."""
        m.submodules.memory = memory = Memory(shape=len(behind), depth=1 << ceil_log2(self._depth), init=[])
        write, read, second = memory.write_port(), memory.read_port(domain="comb"), Signal(ceil_log2(self._depth), init=0 if self._early else 1)
        m.d.comb += [write.en.eq(1), write.data.eq(self.source.payload), read.addr.eq(second), behind.eq(read.data)]
        with m.If(put):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(onward):
            m.d.sync += second.eq(second + 1)


class TokenGate(wiring.Component):
    """The queue in front of an engine: lets a command pass when its tokens are there, and gives the tokens of finished ones.

    Members
    -------
    source : commands in program order
    command, index : next command for the engine, and its position in the program
    done : the engine has finished its oldest command; oldest : that command's position; before : what `oldest` was a cycle ago
    available, take, give : to the token counters
    waiting, lacks : a command waits for a token; of these engines
    busy : the engine has a command that is not done
    idle : nothing is queued or unfinished

    Timing
    ------
    A command that enters an empty gate in cycle t is offered from cycle t + 1 on, when its tokens are available. The tokens of a finished
    command are given in the cycle of `done`, so they are available 1 cycle later. `early`: see HeadQueue.
    """

    def __init__(self, command: type, depth: int, config: HardwareConfig, *, early: bool = False) -> None:
        self._depth, self._layout, self._early = depth, dispatch_layout(command, config), early
        flags = len(Engine)
        super().__init__(
            {
                "source": In(stream.Signature(self._layout)),
                "command": Out(stream.Signature(command_layout(command, config))),
                "index": Out(INDEX_BITS),
                "done": In(1),
                "oldest": Out(INDEX_BITS),
                "before": Out(INDEX_BITS),
                "available": In(flags),
                "take": Out(flags),
                "give": Out(flags),
                "waiting": Out(1),
                "lacks": Out(flags),
                "busy": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        running_layout = data.StructLayout({"signal": len(Engine), "index": INDEX_BITS})
        m.submodules.queue = queue = HeadQueue(self._layout, self._depth, early=self._early)
        m.submodules.running = running = HeadQueue(running_layout, COMMANDS_IN_ENGINE)
        wiring.connect(m, wiring.flipped(self.source), queue.source)
        head, oldest = queue.head.payload, running.head.payload
        lacks, accepted = Signal(len(Engine)), Signal()
        m.d.comb += [
            lacks.eq(head.wait & ~self.available),
            self.command.valid.eq(queue.head.valid & running.source.ready & ~lacks.any()),
            self.command.payload.eq(head.operands),
            self.index.eq(head.index),
            accepted.eq(self.command.valid & self.command.ready),
            self.take.eq(Mux(accepted, head.wait, 0)),
            queue.head.ready.eq(accepted),
            running.source.valid.eq(accepted),
            running.source.payload.signal.eq(head.signal),
            running.source.payload.index.eq(head.index),
            running.head.ready.eq(self.done),
            self.oldest.eq(oldest.index),
            self.give.eq(Mux(self.done, oldest.signal, 0)),
            self.waiting.eq(queue.head.valid & lacks.any()),
            self.lacks.eq(Mux(queue.head.valid, lacks, 0)),
            self.busy.eq(running.head.valid),
            self.idle.eq(~queue.head.valid & ~running.head.valid),
        ]
        m.d.sync += self.before.eq(oldest.index)
        return m
