"""The rules of pipelined Wishbone B4, checked cycle by cycle on either end of a bus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rtl_tests.axi_monitor import require

SIGNALS = ("cyc", "stb", "we", "adr", "sel", "dat_w", "stall", "ack", "err")


@dataclass
class WishboneMonitor:
    """`step` takes the values of SIGNALS in one cycle and raises ViolationError. `word_bytes`: 0 where narrow accesses are allowed."""

    word_bytes: int = 0
    waiting: int = 0  # words taken and not answered
    offered: tuple[int, ...] | None = None

    def step(self, values: Mapping[str, int], reset: bool = False) -> None:
        cyc, stb, stall, answered = (bool(values[name]) for name in ("cyc", "stb", "stall", "ack"))
        answered |= bool(values["err"])
        if reset:
            require(not cyc and not stb, "cyc or stb during reset")
            return
        require(cyc or not stb, "stb without cyc")
        require(cyc or not self.waiting, f"cyc dropped with {self.waiting} answers under way")
        offer = tuple(values[name] for name in ("we", "adr", "sel", *(("dat_w",) if values["we"] else ()))) if stb else None
        require(self.offered in (None, offer), f"stalled offer changed from {self.offered} to {offer}")
        self.offered = offer if stb and stall else None
        if stb and self.word_bytes:
            require(values["adr"] % self.word_bytes == 0, f"unaligned address {values['adr']:#x}")
            full = (1 << self.word_bytes) - 1
            require(values["sel"] == full or (bool(values["we"]) and not values["sel"]), f"some bytes of a word only: {values['sel']:#x}")
        require(not (values["ack"] and values["err"]), "ack and err at once")
        self.waiting += stb and not stall
        require(self.waiting > 0 or not answered, "answer that nobody waits for")
        self.waiting -= answered
