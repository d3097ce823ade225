"""Where the multipliers of an ECP5 go: those of one output channel beside each other, in the middle of the device.

Placer static spreads DSP blocks over whole rows of the device, those of one channel far apart; every sum then crosses the chip.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from hwgen.synth.devices import Device

MULTIPLIER = "MULT18X18D"
_OFFSETS = {0: 0, 1: 1, 4: 4, 5: 5}  # of a DSP block's multipliers from its first column -> their numbers in nextpnr's names
_NUMBER = re.compile(r"^(.*)\.\$(\d+)_")  # the block that a product belongs to, and which of its expressions it is


@dataclass(frozen=True, kw_only=True)
class Site:
    """A multiplier of the device."""

    column: int
    row: int
    number: int

    @property
    def name(self) -> str:
        return f"X{self.column}/Y{self.row}/MULT18_{self.number}"


def place_multipliers(cells: dict[str, dict[str, Any]], lanes: int, device: Device) -> int:
    """Gives the multipliers of a netlist (JSON of yosys) their places; returns how many got one. Blocks write their products lane after
    lane, so the k-th of n in a block belongs to lane k * lanes / n. Where the lanes do not fit the rows, nothing is placed."""
    strips = _strips(cells, lanes)
    rows = sorted(device.dsp_rows, key=lambda row: (abs(row - device.middle_row), row))
    each = -(-len(strips) // max(1, len(rows)))  # of strips in a row: all rows, so that none becomes long
    chosen: list[tuple[str, Site]] = []
    for number, row in enumerate(rows):
        names = [name for strip in strips[number * each : (number + 1) * each] for name in strip]
        sites = _middle(device, row, len(names))
        if len(sites) < len(names):
            return 0
        chosen += zip(names, sites, strict=False)
    for name, site in chosen:
        cells[name].setdefault("attributes", {})["BEL"] = site.name
    return len(chosen)


def _strips(cells: dict[str, dict[str, Any]], lanes: int) -> list[list[str]]:
    """The multipliers of each lane, block by block."""
    blocks: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name, cell in cells.items():
        found = _NUMBER.match(name)
        if cell["type"] == MULTIPLIER and found:
            blocks[found[1]].append((int(found[2]), name))
    strips: list[list[str]] = [[] for _ in range(lanes)]
    for _, products in sorted(blocks.items()):
        for k, (_, name) in enumerate(sorted(products)):
            strips[k * lanes // len(products)].append(name)
    return [strip for strip in strips if strip]


def _middle(device: Device, row: int, count: int) -> list[Site]:
    """So many sites in the middle of a row, from the left; all of it where they are fewer. Begins with a whole pair."""
    sites = [Site(column=first + offset, row=row, number=number) for first in device.dsp_columns for offset, number in _OFFSETS.items()]
    begin = max(0, len(sites) - count) // 2 & ~1
    return sites[begin : begin + count]
