"""The rules of AXI4 that a master must keep, checked cycle by cycle; knows nothing of the accelerator's insides."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

PAGE = 4096
PAYLOADS = {
    "ar": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
    "aw": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
    "w": ("data", "strb", "last"),
}
FIXED = {"id": 0, "burst": 1, "lock": 0, "cache": 3, "prot": 0, "qos": 0}
SIGNALS = (
    *(f"{channel}{name}" for channel, names in PAYLOADS.items() for name in (*names, "valid", "ready")),
    *("rvalid", "rready", "rlast", "bvalid", "bready"),
)


class ViolationError(AssertionError):
    """A rule was broken."""


def require(holds: bool, rule: str) -> None:
    if not holds:
        raise ViolationError(rule)


@dataclass
class AxiMonitor:
    """`step` takes the values of SIGNALS in one cycle and raises ViolationError. `bus_bytes`: width of a full bus word."""

    bus_bytes: int
    most_beats: int = 16
    most_outstanding: int = 4
    offered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    reads: deque[int] = field(default_factory=deque)  # beats left of every burst that is under way
    announced: deque[int] = field(default_factory=deque)  # beats of AW whose W have not all come
    early: deque[int] = field(default_factory=deque)  # beats of finished W bursts whose AW has not come
    sent: int = 0  # beats of the W burst that has not ended
    unanswered: int = 0  # writes whose AW and W are both there, without B

    def step(self, values: Mapping[str, int], reset: bool = False) -> None:
        if reset:
            require(not any(values[f"{channel}valid"] for channel in PAYLOADS), "valid during reset")
            return
        for channel, names in PAYLOADS.items():
            self._stable(channel, values, names)
        for channel in ("ar", "aw"):
            if values[f"{channel}valid"]:
                self._legal({name: values[f"{channel}{name}"] for name in PAYLOADS[channel]}, channel)
        self._read(values)
        self._write(values)

    def _stable(self, channel: str, values: Mapping[str, int], names: tuple[str, ...]) -> None:
        valid, ready = values[f"{channel}valid"], values[f"{channel}ready"]
        payload = tuple(values[f"{channel}{name}"] for name in names)
        before = self.offered.pop(channel, None)
        require(before is None or bool(valid), f"{channel}: offer withdrawn")
        require(before in (None, payload), f"{channel}: offer changed from {before} to {payload}")
        if valid and not ready:
            self.offered[channel] = payload

    def _legal(self, burst: dict[str, int], channel: str) -> None:
        first, beats = burst["addr"], burst["len"] + 1
        require(all(burst[name] == value for name, value in FIXED.items()), f"{channel}: {burst}")
        require(1 << burst["size"] == self.bus_bytes, f"{channel}: narrow beats")
        require(first % self.bus_bytes == 0, f"{channel}: unaligned address {first:#x}")
        require(beats <= self.most_beats, f"{channel}: {beats} beats")
        require(first // PAGE == (first + beats * self.bus_bytes - 1) // PAGE, f"{channel}: burst at {first:#x} crosses 4 KiB")

    def _read(self, values: Mapping[str, int]) -> None:
        if values["rvalid"] and values["rready"]:
            require(bool(self.reads), "r: taken without a burst")
            self.reads[0] -= 1
            if not self.reads[0]:
                self.reads.popleft()
        if values["arvalid"] and values["arready"]:
            self.reads.append(values["arlen"] + 1)
        require(len(self.reads) <= self.most_outstanding, "ar: too many bursts")

    def _write(self, values: Mapping[str, int]) -> None:
        if values["bvalid"] and values["bready"]:
            require(self.unanswered > 0, "b: taken without a burst")
            self.unanswered -= 1
        if values["awvalid"] and values["awready"]:
            self.announced.append(values["awlen"] + 1)
        if values["wvalid"] and values["wready"]:
            self.sent += 1
            full = (1 << self.bus_bytes) - 1
            require(values["wstrb"] in (0, full), "w: some bytes of a bus word only")
            if self.announced and not self.early:
                require(bool(values["wlast"]) == (self.sent == self.announced[0]), f"w: last is {values['wlast']} in beat {self.sent}")
            if values["wlast"]:
                self.early.append(self.sent)
                self.sent = 0
        while self.announced and self.early:
            beats = self.early.popleft()
            require(self.announced.popleft() == beats, f"w: burst of {beats} beats is not what AW announced")
            self.unanswered += 1
        require(not self.announced or self.sent < self.announced[0], "w: more beats than AW announced")
        require(len(self.announced) + self.unanswered <= self.most_outstanding, "aw: too many bursts")
