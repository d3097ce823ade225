"""Copies of flip-flops that drive very many pins: one place cannot be near all of them, and neither yosys nor nextpnr copies any."""

from __future__ import annotations

from typing import Any

from hwgen.synth.registers import FLIP_FLOP, Cell, Sinks, sinks_of

MOST_PINS = 40  # that a flip-flop drives, or a LUT that stands directly behind flip-flops
_OUTPUTS = {FLIP_FLOP: "Q", "LUT4": "Z"}


def copy_drivers(netlist: dict[str, Any]) -> dict[str, int]:
    """Changes the JSON netlist of yosys (after synth_ecp5): flip-flops, and LUTs that hang on flip-flops alone, are copied until none drives more
    than MOST_PINS pins; pins stay together by the names of their cells, so by their places in the hierarchy. Returns the copies of
    flip-flops by module."""
    return {name: _copy(module) for name, module in netlist["modules"].items()}


def _copy(module: dict[str, Any]) -> int:
    cells: dict[str, Cell] = module["cells"]
    registered = {cell["connections"]["Q"][0] for cell in cells.values() if cell["type"] == FLIP_FLOP}
    nets = [*(bits for cell in cells.values() for bits in cell["connections"].values()), *(net["bits"] for net in module.get("netnames", {}).values())]
    free = 1 + max((bit for bits in nets for bit in bits if isinstance(bit, int)), default=1)
    added = 0
    for kind in ("LUT4", FLIP_FLOP):  # LUTs first: their copies are pins of flip-flops
        sinks = sinks_of(module)
        for name in [name for name, cell in cells.items() if cell["type"] == kind and _may(cell, registered)]:
            parts = _parts(sinks, cells[name]["connections"][_OUTPUTS[kind]][0])
            for number, pins in enumerate(parts[1:], 1):
                copied = {**cells[name], "connections": {**cells[name]["connections"], _OUTPUTS[kind]: [free]}}
                cells[f"{name}$copy{number}"] = copied
                for cell, port, index in pins:
                    bits = cells[cell]["connections"][port]
                    cells[cell]["connections"][port] = [*bits[:index], free, *bits[index + 1 :]]
                free += 1
            added += max(0, len(parts) - 1) if kind == FLIP_FLOP else 0
    return added


def _may(cell: Cell, registered: set[Any]) -> bool:
    if cell["type"] == FLIP_FLOP:
        return True
    inputs = [bits[0] for port, bits in cell["connections"].items() if port != "Z"]
    return all(bit in registered for bit in inputs if isinstance(bit, int))


def _parts(sinks: Sinks, bit: Any) -> list[list[tuple[str, str, int]]]:
    """The pins in groups of about equal size; those that the module's own ports name stay with the first."""
    pins = sinks.get(bit, [])
    own = [pin for pin in pins if not pin[0]]
    others = sorted(pin for pin in pins if pin[0])
    count = -(-len(others) // MOST_PINS)
    if count < 2:
        return [pins]
    parts = [others[len(others) * k // count : len(others) * (k + 1) // count] for k in range(count)]
    return [own + parts[0], *parts[1:]]
