"""Decodes the program's records and hands them to the engines in order."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import BUFFER_ADDRESS_BITS, COMMAND_BYTES, Buffer, Engine
from hwgen.isa.instructions import COMMANDS, Conv, End, Load, Store
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.command import INDEX_BITS, buffer_words, dispatch_layout, dispatch_of, record_bits
from hwgen.rtl.faults import CODE_BITS, FAULT_LAYOUT, report

COMMAND_OF_ENGINE = {Engine.LOAD: Load, Engine.COMPUTE: Conv, Engine.STORE: Store}
_OPCODE_BITS = 8


def _kept_bits(name: str, width: int, config: HardwareConfig) -> int:
    """Bits of a CONV field that this hardware looks at: the others need no place in queues. Addresses are taken modulo their buffer."""
    if name.startswith("residual_multiplier"):
        return config.add_requantize.inputs["multiplier_a"].bits
    if width != BUFFER_ADDRESS_BITS:
        return width
    buffer = {"weight_address": Buffer.WEIGHT, "parameter_address": Buffer.PARAMETER}.get(name, Buffer.ACTIVATION)
    return ceil_log2(buffer_words(config)[buffer])


def _kept(command: type, config: HardwareConfig) -> Const:
    """A mask over `dispatch_layout(command, config)`; transfers keep everything, since they are checked."""
    layout = dispatch_layout(command, config)
    operands = layout["operands"]
    mask = (1 << operands.offset) - 1
    for name, field in operands.shape:
        width = _kept_bits(name, field.width, config) if command is Conv else field.width
        mask |= ((1 << width) - 1) << (operands.offset + field.offset)
    return Const(mask, layout.size)


class Sequencer(wiring.Component):
    """Gives every command to its engine's queue; a full queue holds the program up.

    Members
    -------
    record, fetch_fault : from the program fetch
    origin : address of the first record; for error addresses only
    index : position of the next command: the number of dispatched ones
    load, compute, store : to the engines' queues
    all_idle : queues, engines and DMAs have nothing left to do
    dispatched : a command (also END) was decoded and left in this cycle
    held_for : a command of that engine waits for room in its queue
    ending : END waits, or leaves
    finished : END was reached and `all_idle`
    fault : UNKNOWN_COMMAND, or `fetch_fault`, with the record's memory address; `index` is always that of the next command

    Timing
    ------
    A record leaves in the cycle in which it is offered, if the queue has room.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "record": In(stream.Signature(record_bits(COMMANDS))),
                "fetch_fault": In(CODE_BITS),
                "origin": In(config.address_bits + 1),
                "index": In(INDEX_BITS),
                "all_idle": In(1),
                "dispatched": Out(1),
                "held_for": Out(len(Engine)),
                "ending": Out(1),
                "finished": Out(1),
                "fault": Out(FAULT_LAYOUT),
                **{engine.name.lower(): Out(stream.Signature(dispatch_layout(command, config))) for engine, command in COMMAND_OF_ENGINE.items()},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        record, valid, known = self.record.payload, Signal(), C(0, 1)
        opcode = record[:_OPCODE_BITS]
        m.d.comb += valid.eq(self.record.valid & (self.fetch_fault == ErrorCode.NONE))
        leaves = self.finished
        for engine, command in COMMAND_OF_ENGINE.items():
            queue = getattr(self, engine.name.lower())
            mine = opcode == command.opcode
            m.d.comb += [queue.valid.eq(valid & mine), queue.payload.eq(dispatch_of(command, record, self.index, self._config) & _kept(command, self._config))]
            m.d.comb += self.held_for[engine].eq(queue.valid & ~queue.ready)
            leaves |= queue.valid & queue.ready
            known |= mine
        m.d.comb += [
            self.ending.eq(valid & (opcode == End.opcode)),
            self.finished.eq(self.ending & self.all_idle),
            self.dispatched.eq(leaves),
            self.record.ready.eq(self.dispatched),
        ]
        address = self.origin + self.index * COMMAND_BYTES
        fetched = self.fetch_fault == ErrorCode.NONE
        m.d.comb += report(self.fault, Mux(fetched, ErrorCode.UNKNOWN_COMMAND, self.fetch_fault), self.index, address)
        m.d.comb += self.fault.valid.eq(~fetched | (valid & ~known & ~self.ending))
        return m
