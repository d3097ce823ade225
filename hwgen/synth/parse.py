"""What the tools report, as numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hwgen.errors import ToolError
from hwgen.synth.devices import CELLS, PLACED, Family, Resources

_UTILIZATION = re.compile(r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", re.MULTILINE)
_OVERUSED = re.compile(r"\biter=\d+ wires=\d+ overused=(\d+)")
_FREQUENCY = re.compile(r"Max frequency for clock\s+'(.+)': (\d+\.\d+) MHz")
STUCK = ((10, 500), (50, 0))  # of router2: rounds without progress, with more than so many overused wires; with few it may yet find a way
_NAMESPACE = re.compile(r"\$paramod[^\\]*\\")  # what yosys puts before the name of a module with parameters

# Blocks through which data pass: operands, sums, results, and the memories that hold them. All others are control.
DATA_BLOCKS = (
    *("activations", "weights", "decoder", "parameters", "table"),
    *("route", "array", "accumulator", "parameter_set", "requantizer", "adder", "residuals"),
)

Cells = Mapping[str, Mapping[str, int]]  # module -> cell type -> count, submodules among the types


def module_cells(stat: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The cells of each module in the JSON of yosys' `stat`. Raises ToolError when it has another form."""
    try:
        return {
            str(name).lstrip("\\"): {str(kind).lstrip("\\"): int(count) for kind, count in module["num_cells_by_type"].items()}
            for name, module in stat["modules"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ToolError(f"yosys: must list the cells of each module, its statistics have another form ({type(error).__name__}); use another version") from error


def resources_of(counts: Mapping[str, int], family: Family) -> Resources:
    """What so many cells of each type take."""
    total, known = Resources(), CELLS[family]
    for kind, count in counts.items():
        total += known.get(kind, Resources()).times(count)
    return total


def own_resources(cells: Cells, module: str, family: Family) -> Resources:
    """What `module` takes apart from its submodules."""
    return resources_of(cells.get(module, {}), family)


def resources(cells: Cells, module: str, family: Family) -> Resources:
    """What `module` takes with all its submodules."""
    total = own_resources(cells, module, family)
    for kind, count in cells.get(module, {}).items():
        if kind in cells:
            total += resources(cells, kind, family).times(count)
    return total


def block_table(cells: Cells, top: str, family: Family, most_levels: int = 4) -> tuple[tuple[str, Resources], ...]:
    """Every block below `top` as its path with what it takes, submodules included, the largest first; memories are part of their block."""
    rows: list[tuple[str, Resources]] = []

    def visit(module: str, path: str, level: int) -> None:
        rows.append((path, resources(cells, module, family)))
        inside = sorted((kind for kind in cells.get(module, {}) if kind in cells), key=lambda kind: (-resources(cells, kind, family).lut, kind))
        for kind in inside:
            if level < most_levels and kind.startswith(f"{top}."):
                visit(kind, kind.removeprefix(f"{top}."), level + 1)

    visit(top, "", 0)
    return tuple(rows)


def control_cells(cells: Cells, top: str, family: Family) -> dict[str, int]:
    """The cells below `top` that take resources and lie in no block of DATA_BLOCKS, by type."""
    total: dict[str, int] = {}

    def visit(module: str) -> None:
        for kind, count in cells.get(module, {}).items():
            if kind in CELLS[family]:
                total[kind] = total.get(kind, 0) + count
            elif kind in cells and kind.split(".")[-1].split("$")[0] not in DATA_BLOCKS:
                for _ in range(count):
                    visit(kind)

    visit(top)
    return dict(sorted(total.items()))


def utilization(log: str) -> dict[str, tuple[int, int]]:
    """Used and available by name of nextpnr, as its log has it before it places: also when it then gives up."""
    return {name: (int(used), int(available)) for name, used, available in _UTILIZATION.findall(log)}


def too_small(used: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Each thing of which the device has too few."""
    return tuple(f"{name} {count} of {available}" for name, (count, available) in used.items() if count > available)


def placed_resources(used: Mapping[str, int], family: Family) -> dict[str, int]:
    """What the placed netlist takes of LUTs, DSP blocks, ...; by the names of Resources. `used`: by nextpnr's names."""
    return {name: used[cell] for name, cell in PLACED[family].items() if cell in used}


def overused_wires(log: str) -> tuple[int, ...]:
    """After each round of router2: wires that more than one net wants. The last is 0 where the routing has come to its end."""
    return tuple(int(count) for count in _OVERUSED.findall(log))


def is_stuck(log: str) -> bool:
    """The router has found nothing better for so many rounds (STUCK) that it would go on for hours."""
    counts = overused_wires(log)
    return any(len(counts) > rounds and wires < min(counts[:-rounds]) <= min(counts[-rounds:]) for rounds, wires in STUCK)


def estimated_mhz(log: str) -> float:
    """The lowest frequency over all clocks by the last estimate of the log. Raises ToolError when there is none."""
    found = {clock: float(mhz) for clock, mhz in _FREQUENCY.findall(log)}
    if not found:
        raise ToolError("nextpnr: must estimate the frequency of a clock after placement, estimates none")
    return round(min(found.values()), 2)


def frequency_mhz(report: Mapping[str, Any]) -> float:
    """The lowest frequency over all clocks. Raises ToolError when the netlist has no clock."""
    achieved = [float(clock["achieved"]) for clock in report["fmax"].values()]
    if not achieved:
        raise ToolError("nextpnr: must report the frequency of a clock, reports none; the netlist has no path between registers")
    return round(min(achieved), 2)


def critical_path(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the slowest path between registers begins and ends, and its length in ns of logic and of wires."""
    paths = [path for path in report.get("critical_paths", ()) if path["from"] == path["to"]]
    if not paths:
        return ()
    steps = max((path["path"] for path in paths), key=lambda steps: sum(step["delay"] for step in steps))
    wires = sum(step["delay"] for step in steps if step["type"] == "routing")
    total = sum(step["delay"] for step in steps)
    first, last = steps[0]["from"]["cell"], steps[-1]["to"]["cell"]
    return (cell_name(first), cell_name(last), f"{total - wires:.1f} ns logic, {wires:.1f} ns wires")


def cell_name(name: str) -> str:
    """The part of a netlist's cell name that a reader of the Verilog knows."""
    return _NAMESPACE.sub("", name).split("_TRELLIS_FF")[0].split("_SB_DFF")[0][:120]
