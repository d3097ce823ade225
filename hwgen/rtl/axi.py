"""AXI signatures: the AXI4-Lite slave of the registers, and the parts of AXI4 that the DMA engines decide about.

What never changes (identifiers, INCR bursts of whole bus words, protection bits) is tied where the ports are made, in top.py.
"""

from __future__ import annotations

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.latency import BURST_BEATS
from hwgen.isa.registers import REGISTER_SPACE_BYTES

LENGTH_BITS = ceil_log2(BURST_BEATS)
FAULT_ADDRESS_BITS = 32


def byte_bits(config: HardwareConfig) -> int:
    """Address bits inside a bus word."""
    return ceil_log2(config.bus_bytes)


def region_layout(config: HardwareConfig) -> data.StructLayout:
    return data.StructLayout({"base": config.address_bits, "size": 32})


def address_channel(config: HardwareConfig) -> stream.Signature:
    """AR or AW: `length` is the number of beats minus 1."""
    return stream.Signature(data.StructLayout({"address": config.address_bits, "length": LENGTH_BITS}))


def read_channel(config: HardwareConfig) -> stream.Signature:
    return stream.Signature(data.StructLayout({"data": config.bus_bits, "error": 1, "last": 1}))


def write_channel(config: HardwareConfig) -> stream.Signature:
    return stream.Signature(data.StructLayout({"data": config.bus_bits, "strobe": config.bus_bytes, "last": 1}))


def response_channel() -> stream.Signature:
    return stream.Signature(data.StructLayout({"error": 1}))


def memory_channels(config: HardwareConfig) -> dict[str, wiring.Member]:
    """The DMA engines' channels, as members of what connects them to a bus."""
    return {
        "ar": In(address_channel(config)),
        "r": Out(read_channel(config)),
        "aw": In(address_channel(config)),
        "w": In(write_channel(config)),
        "b": Out(response_channel()),
    }


# name, width, driven by the master
_AXI_LITE = (
    ("awaddr", ceil_log2(REGISTER_SPACE_BYTES), True), ("awprot", 3, True), ("awvalid", 1, True), ("awready", 1, False),
    ("wdata", 32, True), ("wstrb", 4, True), ("wvalid", 1, True), ("wready", 1, False),
    ("bresp", 2, False), ("bvalid", 1, False), ("bready", 1, True),
    ("araddr", ceil_log2(REGISTER_SPACE_BYTES), True), ("arprot", 3, True), ("arvalid", 1, True), ("arready", 1, False),
    ("rdata", 32, False), ("rresp", 2, False), ("rvalid", 1, False), ("rready", 1, True),
)  # fmt: skip


def axi_lite_signature() -> wiring.Signature:
    """AXI4-Lite as the master sees it, under the standard's signal names."""
    return wiring.Signature({name: (Out if from_master else In)(width) for name, width, from_master in _AXI_LITE})


def axi_master_signature(config: HardwareConfig) -> wiring.Signature:
    """AXI4 as the master sees it, under the standard's signal names."""
    address = {"id": 4, "addr": config.address_bits, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4, "prot": 3, "qos": 4, "valid": 1}
    members = {f"{channel}{name}": Out(width) for channel in ("aw", "ar") for name, width in address.items()}
    members |= {"awready": In(1), "arready": In(1), "wready": In(1), "bready": Out(1), "rready": Out(1)}
    members |= {"wdata": Out(config.bus_bits), "wstrb": Out(config.bus_bytes), "wlast": Out(1), "wvalid": Out(1)}
    members |= {"bid": In(4), "bresp": In(2), "bvalid": In(1)}
    members |= {"rid": In(4), "rdata": In(config.bus_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1)}
    return wiring.Signature(members)
