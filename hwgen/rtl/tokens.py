"""Tokens: how the three engines wait for each other."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

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
    overflow : bit e: engine e gives a token to a counter that is full

    Timing
    ------
    A token given in cycle t is available from cycle t + 1.
    """

    def __init__(self) -> None:
        super().__init__({"give": In(_FLAGS), "take": In(_FLAGS), "available": Out(_FLAGS), "overflow": Out(len(Engine))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for giver in Engine:
            for taker in Engine:
                count = Signal(TOKEN_BITS, name=f"from_{giver.name.lower()}_to_{taker.name.lower()}")
                give, take = self.give[giver][taker], self.take[taker][giver]
                m.d.sync += count.eq(count + give - take)
                m.d.comb += self.available[taker][giver].eq(count.any())
                with m.If(give & ~take & count.all()):
                    m.d.comb += self.overflow[giver].eq(1)
        return m


class TokenGate(wiring.Component):
    """The queue in front of an engine: lets a command pass when its tokens are there, and gives the tokens of finished ones.

    Members
    -------
    source : commands in program order
    command, index : next command for the engine, and its position in the program
    done : the engine has finished its oldest command; oldest : that command's position
    available, take, give : to the token counters
    waiting, lacks : a command waits for a token; of these engines
    busy : the engine has a command that is not done
    idle : nothing is queued or unfinished

    Timing
    ------
    A command that enters an empty gate in cycle t is offered from cycle t + 1 on, when its tokens are available. The tokens of a finished
    command are given in the cycle of `done`, so they are available 1 cycle later.
    """

    def __init__(self, command: type, depth: int) -> None:
        self._command, self._depth = command, depth
        flags = len(Engine)
        super().__init__(
            {
                "source": In(stream.Signature(dispatch_layout(command))),
                "command": Out(stream.Signature(command_layout(command))),
                "index": Out(INDEX_BITS),
                "done": In(1),
                "oldest": Out(INDEX_BITS),
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
        queue_layout = dispatch_layout(self._command)
        running_layout = data.StructLayout({"signal": len(Engine), "index": INDEX_BITS})
        m.submodules.queue = queue = fifo.SyncFIFO(width=queue_layout.size, depth=self._depth)
        m.submodules.running = running = fifo.SyncFIFO(width=running_layout.size, depth=COMMANDS_IN_ENGINE)
        head, oldest = data.View(queue_layout, queue.r_data), data.View(running_layout, running.r_data)
        missing, accepted = Signal(), Signal()
        m.d.comb += [
            self.source.ready.eq(queue.w_rdy),
            queue.w_en.eq(self.source.valid),
            queue.w_data.eq(self.source.payload),
            missing.eq((head.wait & ~self.available).any()),
            self.command.valid.eq(queue.r_rdy & running.w_rdy & ~missing),
            self.command.payload.eq(head.operands),
            self.index.eq(head.index),
            accepted.eq(self.command.valid & self.command.ready),
            self.take.eq(Mux(accepted, head.wait, 0)),
            queue.r_en.eq(accepted),
            running.w_en.eq(accepted),
            running.w_data[: len(Engine)].eq(head.signal),
            running.w_data[len(Engine) :].eq(head.index),
            running.r_en.eq(self.done),
            self.oldest.eq(oldest.index),
            self.give.eq(Mux(self.done, oldest.signal, 0)),
            self.waiting.eq(queue.r_rdy & missing),
            self.lacks.eq(Mux(queue.r_rdy, head.wait & ~self.available, 0)),
            self.busy.eq(running.r_rdy),
            self.idle.eq(~queue.r_rdy & ~running.r_rdy),
        ]
        return m
