"""The outside of the Wishbone machine: a master of the registers and a memory, pipelined or classic, with random stalls; the monitors."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.handle import SimHandleBase
from cocotb.triggers import RisingEdge, Timer

from rtl_tests.wishbone_monitor import SIGNALS, WishboneMonitor

SETTLED = 1  # ns after the clock's edge, when the accelerator's outputs have their values of the cycle


@dataclass
class Behaviour:
    """Shares of cycles that are stalled or without answer. `classic`: a word is taken in the cycle of its answer, the next one not before."""

    stall: float = 0.0
    late: float = 0.0
    latency: int = 1
    classic: bool = False


def _values(handles: dict[str, SimHandleBase]) -> dict[str, int]:
    """What a cycle shows; payloads only where a word is offered."""
    shown = ("cyc", "stb", "stall", "ack", "err", *(("we", "adr", "sel", "dat_w") if handles["stb"].value == 1 else ()))
    found = {name: handles[name].value for name in shown if name in handles}
    return dict.fromkeys(SIGNALS, 0) | {name: int(value) for name, value in found.items() if value.is_resolvable}


class WishboneHost:
    """Register accesses, one at a time."""

    def __init__(self, dut: SimHandleBase) -> None:
        self.dut, self.chooser, self.idle, self.classic = dut, random.Random(0), 0.0, False
        for name in ("cyc", "stb", "we", "adr", "dat", "sel"):
            getattr(dut, f"s_wb_{name}_i").value = 0

    async def access(self, address: int, word: int, select: int, write: bool) -> int:
        dut = self.dut
        while self.chooser.random() < self.idle:
            await RisingEdge(dut.clk)
        for name, value in (("cyc", 1), ("stb", 1), ("we", write), ("adr", address), ("dat", word), ("sel", select)):
            getattr(dut, f"s_wb_{name}_i").value = int(value)
        for _ in range(100):  # the serial machine clears its registers for 64 cycles after a reset
            await RisingEdge(dut.clk)
            if dut.s_wb_ack_o.value == 1:
                break
            if dut.s_wb_stall_o.value == 0 and not self.classic:
                dut.s_wb_stb_i.value = 0
        else:
            raise AssertionError("no answer to a register access")
        answer = int(dut.s_wb_dat_o.value)
        dut.s_wb_stb_i.value = dut.s_wb_cyc_i.value = 0
        return answer

    async def write_dword(self, address: int, value: int) -> None:
        await self.access(address, value, 15, write=True)

    async def read_dword(self, address: int) -> int:
        return await self.access(address, 0, 15, write=False)

    async def write(self, address: int, content: bytes) -> None:
        """Bytes inside one word."""
        lane = address % 4
        await self.access(address - lane, int.from_bytes(bytes(lane) + content, "little"), ((1 << len(content)) - 1) << lane, write=True)


class WishboneSide:
    """Host accesses, and what the bus does to the accelerator."""

    def __init__(self, dut: SimHandleBase, memory: Any, bus_bytes: int) -> None:
        self.dut, self.memory, self.bus_bytes = dut, memory, bus_bytes
        self.host, self.behaviour, self.blocked, self.chooser = WishboneHost(dut), Behaviour(), -1, random.Random(0)
        self.queue: deque[tuple[int, bool, int]] = deque()  # cycle of the answer, error, data
        for name in ("stall", "ack", "err", "dat"):
            getattr(dut, f"m_wb_{name}_i").value = 0
        cocotb.start_soon(self._serve())
        cocotb.start_soon(self._watch("m_wb_", ("o", "i"), WishboneMonitor(bus_bytes)))
        cocotb.start_soon(self._watch("s_wb_", ("i", "o"), WishboneMonitor()))

    def _handles(self, prefix: str, ends: tuple[str, str]) -> dict[str, SimHandleBase]:
        """By the names of the monitor; the registers have no err."""
        master, slave = ends
        names = {name: f"{name}_{master}" for name in ("cyc", "stb", "we", "adr", "sel")} | {name: f"{name}_{slave}" for name in ("stall", "ack", "err")}
        names["dat_w"] = f"dat_{master}"
        return {name: getattr(self.dut, prefix + port) for name, port in names.items() if (prefix, name) != ("s_wb_", "err")}

    async def _watch(self, prefix: str, ends: tuple[str, str], monitor: WishboneMonitor) -> None:
        handles = self._handles(prefix, ends)
        while True:
            await RisingEdge(self.dut.clk)
            classic = prefix == "s_wb_" and self.host.classic  # such a master holds its word until the answer: other rules
            if self.dut.rst.value == 0 and not classic:
                monitor.step(_values(handles))

    async def _perform(self, values: dict[str, int]) -> tuple[bool, int]:
        """error, data"""
        try:
            if not values["we"]:
                return False, int.from_bytes(await self.memory.read(values["adr"], self.bus_bytes), "little")
            if values["sel"]:
                await self.memory.write(values["adr"], values["dat_w"].to_bytes(self.bus_bytes, "little"))
        except PermissionError:
            return True, self.chooser.getrandbits(8 * self.bus_bytes)
        return False, self.chooser.getrandbits(8 * self.bus_bytes)

    async def _serve(self) -> None:
        dut, now, handles = self.dut, 0, self._handles("m_wb_", ("o", "i"))
        while True:
            await RisingEdge(dut.clk)
            await Timer(SETTLED, unit="ns")
            now += 1
            how, values = self.behaviour, _values(handles)
            offered = bool(values["cyc"] and values["stb"]) and not dut.rst.value
            answers = self.blocked != 1 and self.chooser.random() >= how.late
            stall = self.blocked == 0 or self.chooser.random() < how.stall or (how.classic and not answers)
            if offered and not stall:
                self.queue.append((now if how.classic else now + how.latency, *await self._perform(values)))
            answered = bool(self.queue) and answers and self.queue[0][0] <= now
            _, error, data = self.queue.popleft() if answered else (0, False, self.chooser.getrandbits(8 * self.bus_bytes))
            dut.m_wb_stall_i.value, dut.m_wb_dat_i.value = int(stall), data
            dut.m_wb_ack_i.value, dut.m_wb_err_i.value = int(answered and not error), int(answered and error)

    def set_memory(self, memory: object) -> None:
        self.memory = memory

    def add_stalls(self, seed: int) -> None:
        self.chooser = chooser = random.Random(seed)
        shares = [0.0, 0.2, 0.5, 0.8]
        self.behaviour = Behaviour(chooser.choice(shares), chooser.choice(shares), chooser.choice([0, 1, 2, 7, 30]), classic=seed % 3 == 0)
        self.host.chooser, self.host.idle, self.host.classic = random.Random(seed), chooser.choice(shares), seed % 2 == 0

    def block(self, way: int) -> None:
        """No word is taken (0), or none is answered (1) any more."""
        self.blocked = way

    def release(self, way: int) -> None:
        self.blocked = -1

    ways = range(2)
