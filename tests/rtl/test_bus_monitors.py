"""The monitors of the bus benches see every rule that is broken: legal traffic with one fault planted in it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rtl_tests.axi_monitor import SIGNALS, AxiMonitor, ViolationError
from rtl_tests.wishbone_monitor import SIGNALS as WISHBONE_SIGNALS
from rtl_tests.wishbone_monitor import WishboneMonitor

BUS = 16
Cycle = dict[str, int]
FIXED = {"size": 4, "burst": 1, "cache": 3}


def idle() -> Cycle:
    return dict.fromkeys(SIGNALS, 0)


def address(channel: str, first: int, beats: int, ready: int = 1) -> Cycle:
    fields = {"addr": first, "len": beats - 1, "valid": 1, "ready": ready, **FIXED}
    return {f"{channel}{name}": value for name, value in fields.items()}


def beat(data: int, last: int, ready: int = 1, strb: int = 0xFFFF) -> Cycle:
    return {"wvalid": 1, "wready": ready, "wdata": data, "wlast": last, "wstrb": strb}


def legal() -> list[Cycle]:
    """A read of 2 beats and writes of 3 and 1 beats, each offer once refused; the last write's data come before their address."""
    steps: list[Cycle] = [
        {},
        address("ar", 0x1FE0, 2, ready=0),
        address("ar", 0x1FE0, 2) | address("aw", 0x2000, 3, ready=0),
        address("aw", 0x2000, 3) | beat(1, 0, ready=0) | {"rvalid": 1, "rready": 1},
        beat(1, 0) | {"rvalid": 1, "rready": 1, "rlast": 1},
        beat(2, 0),
        beat(3, 1),
        beat(4, 1, strb=0) | {"bvalid": 1, "bready": 1},
        address("aw", 0x2FF0, 1),
        {"bvalid": 1, "bready": 1},
        {},
    ]
    return [idle() | step for step in steps]


def check(cycles: list[Cycle]) -> None:
    monitor = AxiMonitor(BUS)
    for cycle in cycles:
        monitor.step(cycle)


def changed(index: int, **values: int) -> list[Cycle]:
    cycles = legal()
    cycles[index] = cycles[index] | values
    return cycles


AXI_FAULTS: dict[str, tuple[Callable[[], list[Cycle]], str]] = {
    "read withdrawn": (lambda: changed(2, arvalid=0), "ar: offer withdrawn"),
    "write withdrawn": (lambda: changed(3, awvalid=0), "aw: offer withdrawn"),
    "data withdrawn": (lambda: changed(4, wvalid=0), "w: offer withdrawn"),
    "read address changed": (lambda: changed(2, araddr=0x1FC0), "ar: offer changed"),
    "read length changed": (lambda: changed(2, arlen=0), "ar: offer changed"),
    "write address changed": (lambda: changed(3, awaddr=0x2010), "aw: offer changed"),
    "data changed": (lambda: changed(4, wdata=9), "w: offer changed"),
    "strobes changed": (lambda: changed(4, wstrb=0), "w: offer changed"),
    "last changed": (lambda: changed(4, wlast=1), "w: offer changed"),
    "read across 4 KiB": (lambda: changed(1, araddr=0x1FF0), r"ar: burst at 0x1ff0 crosses 4 KiB"),
    "write across 4 KiB": (lambda: changed(2, awaddr=0x2FF0), r"aw: burst at 0x2ff0 crosses 4 KiB"),
    "unaligned": (lambda: changed(1, araddr=0x1FE4), "ar: unaligned address 0x1fe4"),
    "narrow": (lambda: changed(1, arsize=2), "ar: narrow beats"),
    "fixed burst": (lambda: changed(8, awburst=0), "aw: "),
    "wrapping burst": (lambda: changed(1, arburst=2), "ar: "),
    "identifier": (lambda: changed(1, arid=1), "ar: "),
    "exclusive": (lambda: changed(1, arlock=1), "ar: "),
    "too long": (lambda: changed(1, arlen=16, araddr=0), "ar: 17 beats"),
    "last too early": (lambda: changed(5, wlast=1), "w: last is 1 in beat 2"),
    "last missing": (lambda: changed(6, wlast=0), "w: last is 0 in beat 3"),
    "more data than announced": (lambda: changed(8, awlen=1, awaddr=0x2FE0), "w: burst of 1 beats is not what AW announced"),
    "some bytes": (lambda: changed(5, wstrb=0xFF), "w: some bytes"),
    "answer without write": (lambda: changed(5, bvalid=1, bready=1), "b: taken without a burst"),
    "data without read": (lambda: changed(9, rvalid=1, rready=1), "r: taken without a burst"),
    "too many reads": (lambda: [*legal(), *(idle() | address("ar", 0, 1) for _ in range(5))], "ar: too many bursts"),
    "too many writes": (lambda: [*legal(), *(idle() | address("aw", 0, 1) for _ in range(5))], "aw: too many bursts"),
}


def test_legal_axi_passes() -> None:
    check(legal())


@pytest.mark.parametrize("fault", AXI_FAULTS)
def test_axi_faults_are_seen(fault: str) -> None:
    make, rule = AXI_FAULTS[fault]
    with pytest.raises(ViolationError, match=f"^{rule}"):
        check(make())


@pytest.mark.parametrize("channel", ["ar", "aw", "w"])
def test_an_offer_during_reset_is_seen(channel: str) -> None:
    with pytest.raises(ViolationError, match="^valid during reset$"):
        AxiMonitor(BUS).step(idle() | {f"{channel}valid": 1}, reset=True)
    AxiMonitor(BUS).step(idle(), reset=True)


def wishbone() -> list[Cycle]:
    """A read that is stalled once, a write, a write without bytes; an answer, an error, an answer in the cycle of its word."""
    on = {"cyc": 1}
    steps: list[Cycle] = [
        {},
        on | {"stb": 1, "adr": 0x20, "sel": 0xFFFF, "stall": 1},
        on | {"stb": 1, "adr": 0x20, "sel": 0xFFFF},
        on | {"stb": 1, "adr": 0x40, "sel": 0xFFFF, "we": 1, "dat_w": 7, "stall": 1},
        on | {"stb": 1, "adr": 0x40, "sel": 0xFFFF, "we": 1, "dat_w": 7, "ack": 1},
        on | {"err": 1},
        on | {"stb": 1, "adr": 0x50, "sel": 0, "we": 1, "ack": 1},
        {},
    ]
    return [dict.fromkeys(WISHBONE_SIGNALS, 0) | step for step in steps]


WISHBONE_FAULTS = {
    "stb without cyc": (1, {"cyc": 0}, "stb without cyc"),
    "cyc dropped": (5, {"cyc": 0, "err": 0}, "cyc dropped with 1 answers under way"),
    "withdrawn": (2, {"stb": 0}, "stalled offer changed"),
    "address changed": (2, {"adr": 0x30}, "stalled offer changed"),
    "data changed": (4, {"dat_w": 8}, "stalled offer changed"),
    "direction changed": (4, {"we": 0}, "stalled offer changed"),
    "unaligned": (6, {"adr": 0x54}, "unaligned address 0x54"),
    "some bytes": (6, {"sel": 3}, "some bytes of a word only: 0x3"),
    "no bytes of a read": (6, {"we": 0}, "some bytes of a word only: 0x0"),
    "two answers at once": (5, {"ack": 1}, "ack and err at once"),
    "answer that nobody waits for": (7, {"ack": 1}, "answer that nobody waits for"),
    "answer to a stalled word": (1, {"ack": 1}, "answer that nobody waits for"),
}


def test_legal_wishbone_passes() -> None:
    monitor = WishboneMonitor(BUS)
    for cycle in wishbone():
        monitor.step(cycle)
    assert not monitor.waiting


@pytest.mark.parametrize("fault", WISHBONE_FAULTS)
def test_wishbone_faults_are_seen(fault: str) -> None:
    index, values, rule = WISHBONE_FAULTS[fault]
    cycles, monitor = wishbone(), WishboneMonitor(BUS)
    cycles[index] = cycles[index] | values
    with pytest.raises(ViolationError, match=f"^{rule}"):
        for cycle in cycles:
            monitor.step(cycle)


def test_wishbone_offers_during_reset_are_seen() -> None:
    quiet = dict.fromkeys(WISHBONE_SIGNALS, 0)
    WishboneMonitor().step(quiet, reset=True)
    with pytest.raises(ViolationError, match="^cyc or stb during reset$"):
        WishboneMonitor().step(quiet | {"cyc": 1}, reset=True)


def test_random_legal_traffic_passes() -> None:
    """Reads with random stalls: offers are held, data follow."""
    chooser, monitor, offer, left = random.Random(3), AxiMonitor(BUS), {}, 0
    for _ in range(3000):
        if not offer and not left and chooser.random() < 0.5:
            beats = chooser.randint(1, 16)
            offer = address("ar", 0x1000 * chooser.randint(0, 9) + BUS * chooser.randint(0, 256 - beats), beats)
        cycle = idle() | offer | ({"arready": int(chooser.random() < 0.5)} if offer else {})
        if left and chooser.random() < 0.6:
            cycle |= {"rvalid": 1, "rready": 1, "rlast": int(left == 1)}
            left -= 1
        monitor.step(cycle)
        if offer and cycle["arready"]:
            left, offer = offer["arlen"] + 1, {}
    assert not monitor.reads or left
