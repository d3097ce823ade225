"""What a block reports when it must stop the machine."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Value, ValueLike
from amaranth.lib import data

from hwgen.isa.registers import ErrorCode
from hwgen.rtl.axi import FAULT_ADDRESS_BITS
from hwgen.rtl.command import INDEX_BITS

CODE_BITS = 8
SEQUENCER = 3  # number of the sequencer in register `error`, behind those of isa.Engine

FAULT_LAYOUT = data.StructLayout({"valid": 1, "code": CODE_BITS, "index": INDEX_BITS, "address": FAULT_ADDRESS_BITS})


def report(fault: Any, code: ErrorCode | Value, index: ValueLike, address: ValueLike) -> list[Any]:
    """Statements that raise `fault` (a view of FAULT_LAYOUT) in this cycle; `address` keeps its low bits."""
    return [fault.valid.eq(1), fault.code.eq(code), fault.index.eq(index), fault.address.eq(Value.cast(address)[:FAULT_ADDRESS_BITS])]
