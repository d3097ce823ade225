"""Registers inside the blocks of ECP5, in place of flip-flops behind them: yosys leaves these outside, and nextpnr moves none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Cell = dict[str, Any]
Sinks = Mapping[Any, list[tuple[str, str, int]]]  # bit of a net -> cell, port and place in the port; the module's own ports have no cell
FLIP_FLOP = "TRELLIS_FF"
_ZERO, _ONE = "0", "1"  # constants in the JSON of yosys


@dataclass(frozen=True, kw_only=True)
class _Register:
    """The output register of some outputs of a block: parameters that switch it on, ports (by what they are of the flip-flops)."""

    outputs: re.Pattern[str]
    parameters: Mapping[str, str]
    clock: str
    enable: str
    reset: str


_REGISTERS = {
    "MULT18X18D": (
        _Register(
            outputs=re.compile(r"P\d+"),
            parameters={"REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0", "REG_OUTPUT_RST": "RST0"},
            clock="CLK0",
            enable="CE0",
            reset="RST0",
        ),
    ),
    "DP16KD": tuple(
        _Register(outputs=re.compile(rf"DO{side}\d+"), parameters={f"REGMODE_{side}": "OUTREG"}, clock=f"CLK{side}", enable=f"OCE{side}", reset=f"RST{side}")
        for side in "AB"
    ),
}
BLOCKS = tuple(_REGISTERS)  # whose registers are used


def absorb(netlist: dict[str, Any]) -> dict[str, int]:
    """Changes the JSON netlist of yosys (after synth_ecp5): where every used output of a multiplier or of a port of a block RAM goes to a
    flip-flop and to nothing else, and these have one clock, one enable and no reset, the block's output register takes their place.
    Returns how many flip-flops each module lost."""
    return {name: _absorb(module) for name, module in netlist["modules"].items()}


def _absorb(module: dict[str, Any]) -> int:
    cells: dict[str, Cell] = module["cells"]
    sinks = sinks_of(module)
    lost: set[str] = set()
    for cell in list(cells.values()):
        for register in _REGISTERS.get(cell["type"], ()):
            lost |= _take(cells, cell, register, sinks)
    for name in lost:
        del cells[name]
    return len(lost)


def sinks_of(module: dict[str, Any]) -> Sinks:
    """The pins that each bit drives."""
    found: dict[Any, list[tuple[str, str, int]]] = {}
    for name, port in module["ports"].items():
        for index, bit in enumerate(port["bits"]):
            found.setdefault(bit, []).append(("", name, index))
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "output":
                for index, bit in enumerate(bits):
                    found.setdefault(bit, []).append((name, port, index))
    return found


def _take(cells: dict[str, Cell], block: Cell, register: _Register, sinks: Sinks) -> set[str]:
    """The flip-flops that the register replaces: all or none."""
    outputs = {port: bits[0] for port, bits in block["connections"].items() if register.outputs.fullmatch(port) and bits and bits[0] in sinks}
    behind = {port: sinks[bit] for port, bit in outputs.items()}
    if not outputs or any(len(found) != 1 or found[0][1] != "DI" or not _plain(cells[found[0][0]]) for found in behind.values()):
        return set()
    flip_flops = {port: found[0][0] for port, found in behind.items()}
    controls = {(cells[name]["connections"]["CLK"][0], _enable(cells[name])) for name in flip_flops.values()}
    if len(controls) != 1:
        return set()
    clock, enable = controls.pop()
    here = block["connections"].get(register.clock)
    if here and isinstance(here[0], int) and here[0] != clock:
        return set()
    for port, name in flip_flops.items():
        block["connections"][port] = cells[name]["connections"]["Q"]
    for port, value in ((register.clock, clock), (register.enable, enable), (register.reset, _ZERO)):
        block["connections"][port] = [value]
        block["port_directions"][port] = "input"
    block["parameters"].update(register.parameters)
    return set(flip_flops.values())


def _plain(cell: Cell) -> bool:
    """A flip-flop as the registers of blocks are: from 0, at the rising edge, without a reset."""
    if cell["type"] != FLIP_FLOP:
        return False
    parameters, reset = cell["parameters"], cell["connections"].get("LSR", [_ZERO])
    return (
        parameters.get("CLKMUX", "CLK") == "CLK"
        and _enable_kind(cell) in (_ONE, "CE")
        and parameters.get("REGSET", "RESET") == "RESET"
        and parameters.get("LSRMUX", "LSR") == "LSR"
        and reset == [_ZERO]
    )


def _enable(cell: Cell) -> Any:
    return cell["connections"]["CE"][0] if _enable_kind(cell) == "CE" else _ONE


def _enable_kind(cell: Cell) -> str:
    """Yosys writes a space behind text that could be a number."""
    return str(cell["parameters"].get("CEMUX", _ONE)).strip()
