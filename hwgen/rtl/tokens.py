"""Tokens: how the three engines wait for each other."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.fields import TOKEN_LIMIT, Engine
from hwgen.rtl.command import INDEX_BITS, command_layout, dispatch_layout
from hwgen.rtl.head_queue import HeadQueue

TOKEN_BITS = TOKEN_LIMIT.bit_length()
COMMANDS_IN_ENGINE = 8  # more than any engine accepts before its oldest command is done

_FLAGS = data.ArrayLayout(len(Engine), len(Engine))  # element e: the three bits of engine e


class TokenCounters(wiring.Component):
    """One counter from every engine to every engine.

    Members
    -------
    give[e] : engine e gives a token to each engine whose bit is set
    take[e] : engine e takes a token of each engine whose bit is set; allowed where `available[e]` has the bit
    soon : what `available` will be in the next cycle
    overflow : bit e: engine e has given a token to a counter that was full

    Timing
    ------
    A token given in cycle t is available from cycle t + 1, and `overflow` then tells that it had no place. `available` are registers.
    """

    def __init__(self) -> None:
        flags = {"give": In(_FLAGS), "take": In(_FLAGS), "available": Out(_FLAGS), "soon": Out(_FLAGS)}
        super().__init__({**flags, "overflow": Out(len(Engine))})

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
                soon = self.soon[taker][giver]
                m.d.sync += [taken.eq(take), some.eq(soon)]
                m.d.comb += [soon.eq(give | (some & ~(take & single))), self.available[taker][giver].eq(some)]
                with m.If(count[-1] & ~(taken & (count[:-1] == 0))):
                    m.d.comb += self.overflow[giver].eq(1)
        return m


class TokenGate(wiring.Component):
    """The queue in front of an engine: lets a command pass when its tokens are there, and gives the tokens of finished ones.

    Members
    -------
    source : commands in program order
    command, index : next command for the engine, and its position in the program
    done : the engine has finished its oldest command; oldest : that command's position; before : what `oldest` was a cycle ago
    available, soon, take, give : to the token counters
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
                "soon": In(flags),
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
        lacks, ready, accepted = Signal(len(Engine)), Signal(), Signal()  # `ready`: it lacks nothing; known a cycle before
        following = self._layout(queue.following)
        m.d.sync += ready.eq(~(Mux(queue.moves, following.wait, head.wait) & ~self.soon).any())
        m.d.comb += [
            lacks.eq(head.wait & ~self.available),
            self.command.valid.eq(queue.head.valid & running.source.ready & ready),
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
            self.waiting.eq(queue.head.valid & ~ready),
            self.lacks.eq(Mux(queue.head.valid, lacks, 0)),
            self.busy.eq(running.head.valid),
            self.idle.eq(~queue.head.valid & ~running.head.valid),
        ]
        m.d.sync += self.before.eq(oldest.index)
        return m
