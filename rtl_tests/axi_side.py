"""The outside of the AXI machine: cocotbext-axi as master of the registers and as memory, random back-pressure, the monitor."""

from __future__ import annotations

import random
from collections.abc import Iterator

import cocotb
from cocotb.handle import SimHandleBase
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave

from rtl_tests.axi_monitor import SIGNALS, AxiMonitor


def noise(seed: int, share: float) -> Iterator[bool]:
    chooser = random.Random(seed)
    while True:
        yield chooser.random() < share


VALIDS = ("awvalid", "arvalid", "wvalid", "rvalid", "bvalid")  # in this order a name's first match is its channel


def _known(handle: SimHandleBase) -> int:
    return int(handle.value) if handle.value.is_resolvable else 0


class AxiSide:
    """Host accesses, and what the bus does to the accelerator."""

    def __init__(self, dut: SimHandleBase, memory: object, bus_bytes: int) -> None:
        self.dut = dut
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, target=memory)
        for part in (self.host.write_if, self.host.read_if, self.slave.write_if, self.slave.read_if):
            part.log.setLevel("ERROR")
        read, write = self.slave.read_if, self.slave.write_if
        self.memory_channels = [read.ar_channel, read.r_channel, write.aw_channel, write.w_channel, write.b_channel]
        cocotb.start_soon(self._watch(AxiMonitor(bus_bytes)))

    async def _watch(self, monitor: AxiMonitor) -> None:
        handles = {name: getattr(self.dut, f"m_axi_{name}") for name in SIGNALS}
        strobes = [name for name in SIGNALS if name.endswith(("valid", "ready"))]
        while True:
            await RisingEdge(self.dut.clk)
            if self.dut.rst.value == 0:
                values = dict.fromkeys(SIGNALS, 0) | {name: _known(handles[name]) for name in strobes}
                shown = [name for name in SIGNALS if name not in strobes and values[next(s for s in VALIDS if name.startswith(s[:-5]))]]
                monitor.step(values | {name: _known(handles[name]) for name in shown})

    def set_memory(self, memory: object) -> None:
        self.slave.write_if.target = self.slave.read_if.target = memory

    def add_stalls(self, seed: int) -> None:
        """Every channel of both buses is held back at random, each with a share of its own."""
        chooser, host = random.Random(seed), self.host
        hosts = [host.write_if.aw_channel, host.write_if.w_channel, host.write_if.b_channel, host.read_if.ar_channel, host.read_if.r_channel]
        for number, channel in enumerate([*self.memory_channels, *hosts]):
            channel.set_pause_generator(noise(seed * 100 + number, chooser.choice([0.0, 0.2, 0.5, 0.8])))

    def block(self, way: int) -> None:
        """Nothing passes one of the memory's channels any more."""
        self.memory_channels[way].set_pause_generator(noise(0, 1.0))

    def release(self, way: int) -> None:
        self.memory_channels[way].clear_pause_generator()
        self.memory_channels[way].pause = False

    ways = range(5)
