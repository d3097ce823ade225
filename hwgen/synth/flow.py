"""Verilog to numbers: yosys, then nextpnr where the device has it, cached by everything that the result follows from."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hwgen.cache import cached_text
from hwgen.config import HardwareConfig, Machine
from hwgen.emit.verilog import TOP_MODULE
from hwgen.errors import CapacityError, ToolError
from hwgen.synth import parse, tools
from hwgen.synth.devices import LARGE_NAME, NAMES, Device, Family, Resources, check_capacity
from hwgen.synth.harness import HARNESS_MODULE, render_harness
from hwgen.synth.product import render_product
from hwgen.synth.registers import BLOCKS, FLIP_FLOP, absorb
from hwgen.synth.tools import SynthesisTool

Stage = Callable[[str], None]  # told the name of each stage that begins
_SYNTHESIZE = {
    # Products first, one sink for each bit of an operand; wide LUTs take up to 40 % more LUT4.
    Family.ECP5: "synth_ecp5 -top {top} -run begin:coarse; proc; opt_expr; opt_clean; wreduce; techmap -map product.v; "
    "synth_ecp5 -nowidelut {flatten} -top {top} -run coarse:",
    Family.ICE40: "synth_ice40 -device u -dsp -spram {flatten} -top {top}",
    Family.XC7: "synth_xilinx -family xc7 {flatten} -top {top}",
}
# The same netlist and seed give the same result. With the default placer of ECP5, heap, there is a quarter more wire and the router does not get
# to the end, nor with seed 1; see docs/accelerator.md.
_PLACE = {
    Family.ECP5: ("--lpf-allow-unconstrained", "--placer", "static", "--router", "router2"),
    Family.ICE40: ("--pcf-allow-unconstrained",),
}
_SEED = {Family.ECP5: 2, Family.ICE40: 1, Family.XC7: 1}  # ECP5: with it preset 8x8 is routed to the end
# Pins are nextpnr's choice, because the places found so are better; but sometimes no way leads from its clock pin to the clock network.
_CLOCK_LOST = re.compile(r"Failed to route arc .* of net 'clk\b")
_PINS = {Family.ECP5: ("--lpf", 'LOCATE COMP "clk" SITE "{pin}";\n'), Family.ICE40: ("--pcf", "set_io clk {pin}\n")}
# A routed netlist at another speed grade: its wires stay, and router1 finds none missing. What the file says of the part goes before arguments.
_AS_ROUTED = ("--no-pack", "--no-place", "--router", "router1")
_WRITTEN = ('"arch.speed": "{grade}"', '"router": "{router}"')
_FLATTEN = {Family.ECP5: ("", "-noflatten"), Family.ICE40: ("", "-noflatten"), Family.XC7: ("-flatten", "")}


@dataclass(frozen=True, kw_only=True)
class SynthesisRequest:
    """`frequency_mhz` is what place and route work towards. `blocks`: keep the blocks apart, and count each; costs some optimization.
    `seed`: of the placer's random numbers; None: the one of the device's family. `clock_pin`: of the board; None: any."""

    verilog: str
    config: HardwareConfig
    device: Device
    frequency_mhz: float
    blocks: bool = False
    seed: int | None = None
    clock_pin: str | None = None

    @property
    def placer_seed(self) -> int:
        return _SEED[self.device.family] if self.seed is None else self.seed


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """What the accelerator takes, without its harness. `mhz` None: not placed. `overused_wires` above 0: the router did not come to its end
    and was stopped there; `mhz` is the estimate after placement, and the critical path is not known. `blocks`: path of a block and what it
    takes; `control`: cells by type of all that is no data path (parse.DATA_BLOCKS). Both are empty where blocks were not asked for; the serial
    machine is not divided.

    Places and ways are found with the delays of the slowest speed grade, which then are those of all: `by_grade` has the frequency of each."""

    device: Device
    used: Resources
    harness: Resources
    target_mhz: float
    mhz: float | None
    critical_path: tuple[str, ...]
    tools: Mapping[str, str]
    overused_wires: int = 0
    by_grade: Mapping[int, float] = field(default_factory=dict)
    blocks: tuple[tuple[str, Resources], ...] = ()
    control: Mapping[str, int] = field(default_factory=dict)


def synthesize(request: SynthesisRequest, stage: Stage) -> Synthesis:
    """Run the tools, or take their results from the cache.

    Raises CapacityError when the accelerator does not fit the device, ToolError when a tool is missing or fails.
    """
    device = request.device
    check_capacity(request.config, device)
    names = ("yosys", *((device.place_tool,) if device.place_tool else ()))
    found = tools.find(names)
    harness = render_harness(request.verilog)
    versions = {tool.name: tool.version for tool in found}
    part = asdict(device.slowest) | {"family": device.family.value}
    settings = [part, request.frequency_mhz, request.blocks, request.placer_seed, request.clock_pin, _PLACE.get(device.family)]
    settings += [render_product(), _script(request), BLOCKS, parse.STUCK, _PINS.get(device.family), _AS_ROUTED]
    key = json.dumps([request.verilog, harness, settings, versions])
    outcome: dict[str, Any] = json.loads(cached_text("synthesis", key, lambda: json.dumps(_run(request, harness, found, stage))))
    return _read(request, outcome, versions)


def _script(request: SynthesisRequest) -> str:
    family = request.device.family
    lines = (
        "read_verilog accelerator.v harness.v",
        # Its boundary stays, so that it can be counted without the harness; all its ports meet registers there anyway.
        f"setattr -mod -set keep_hierarchy 1 {TOP_MODULE}",
        _SYNTHESIZE[family].format(flatten=_FLATTEN[family][request.blocks], top=HARNESS_MODULE),
        "tee -q -o stat.json stat -json",
        *(("write_json netlist.json",) if request.device.place_tool else ()),
    )
    return "; ".join(lines)


def _run(request: SynthesisRequest, harness: str, found: tuple[SynthesisTool, ...], stage: Stage) -> dict[str, Any]:
    """The cells by module, and nextpnr's report or its reason why nothing could be placed."""
    yosys, *place = found
    with tempfile.TemporaryDirectory(prefix="hwgen-") as name:
        folder = Path(name)
        (folder / "accelerator.v").write_text(request.verilog, encoding="utf-8")
        (folder / "harness.v").write_text(harness, encoding="utf-8")
        (folder / "product.v").write_text(render_product(), encoding="utf-8")
        stage(f"synthesize with {yosys.name}")
        done = tools.run(yosys, ("-q", "-p", _script(request)), folder)
        if done.code:
            raise ToolError(f"{yosys.name} {yosys.version}: must synthesize the accelerator, failed: {done.error}")
        outcome: dict[str, Any] = {"cells": parse.module_cells(json.loads((folder / "stat.json").read_text(encoding="utf-8"))), "placed": None}
        _check_fit(request, outcome["cells"])
        if place:
            if request.device.family is Family.ECP5:
                _improve(folder / "netlist.json", outcome["cells"])
            stage(f"place and route with {place[0].name}")
            outcome["placed"] = _place(request, place[0], folder, stage)
        return outcome


def _improve(path: Path, cells: dict[str, dict[str, int]]) -> None:
    """Flip-flops go into the blocks before them, and no longer count."""
    netlist = json.loads(path.read_text(encoding="utf-8"))
    for module, count in absorb(netlist).items():
        if count:
            cells[module.lstrip("\\")][FLIP_FLOP] -= count
    path.write_text(json.dumps(netlist), encoding="utf-8")


def _check_fit(request: SynthesisRequest, cells: parse.Cells) -> None:
    """Blocks that are too many are known before placing; LUTs and flip-flops only nearly, so these get some room."""
    device = request.device
    if device.capacity is None:
        return
    needed = parse.resources(cells, HARNESS_MODULE, device.family).values()
    short = []
    for name, available in device.capacity.values().items():
        room = 1.1 if name in ("lut", "ff") else 1.0
        if needed.get(name, 0) > room * available:
            short.append(f"{NAMES.get(name, LARGE_NAME)} {needed[name]:,} of {available:,}")
    if short:
        raise _does_not_fit(request, tuple(short))


def _does_not_fit(request: SynthesisRequest, short: tuple[str, ...]) -> CapacityError:
    what, where = f"hardware {request.config.name!r}", request.device.title_with_grade
    return CapacityError(f"{what}: must fit {where}, needs {'; '.join(short)}; take a smaller --array, smaller buffers or a larger device")


def _place(request: SynthesisRequest, tool: SynthesisTool, folder: Path, stage: Stage) -> dict[str, Any]:
    device = request.device
    wanted = ("--json", "netlist.json", "--freq", f"{request.frequency_mhz:g}", "--timing-allow-fail", "--report", "report.json")
    written = ("--write", "routed.json") if device.grades else ()
    arguments = (*device.slowest.place_flags, *_PLACE[device.family], *wanted, *written, "--seed", str(request.placer_seed))
    done = tools.run(tool, (*arguments, *_pins(device, request.clock_pin, folder)), folder, parse.is_stuck)
    if done.code and device.clock_pin and request.clock_pin is None and _CLOCK_LOST.search(done.error):
        stage(f"place and route with {tool.name} again, the clock at pin {device.clock_pin}")
        done = tools.run(tool, (*arguments, *_pins(device, device.clock_pin, folder)), folder, parse.is_stuck)
    if done.stopped:
        used = parse.placed_resources({name: count for name, (count, _) in parse.utilization(done.log).items()}, device.family)
        estimate = {"mhz": parse.estimated_mhz(done.log), "critical_path": ()}
        return {"used": used, "timing": {str(device.slowest.grade): estimate}, "overused_wires": parse.overused_wires(done.log)[-1]}
    if done.code:
        short = parse.too_small(parse.utilization(done.log))
        if short:
            raise _does_not_fit(request, short)
        raise ToolError(f"{tool.name} {tool.version}: must place and route the accelerator, failed: {done.error}")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    used = parse.placed_resources({name: int(entry["used"]) for name, entry in report["utilization"].items()}, device.family)
    timing = {str(device.slowest.grade): _timing(report)}
    for grade in device.grades[1:]:
        stage(f"time speed grade {grade} with {tool.name}")
        timing[str(grade)] = _timing(_at_grade(device.of_grade(grade), wanted, tool, folder))
    return {"used": used, "timing": timing, "overused_wires": 0}


def _pins(device: Device, pin: str | None, folder: Path) -> tuple[str, ...]:
    """The arguments that put the clock there."""
    if pin is None:
        return ()
    option, text = _PINS[device.family]
    (folder / "pins").write_text(text.format(pin=pin), encoding="ascii")
    return option, "pins"


def _timing(report: Mapping[str, Any]) -> dict[str, Any]:
    return {"mhz": parse.frequency_mhz(report), "critical_path": parse.critical_path(report)}


def _at_grade(device: Device, wanted: tuple[str, ...], tool: SynthesisTool, folder: Path) -> dict[str, Any]:
    """nextpnr's report on routed.json at another speed grade."""
    routed = (folder / "routed.json").read_text(encoding="utf-8")
    for setting, new, old in ((_WRITTEN[0], device.grade, device.slowest.grade), (_WRITTEN[1], _AS_ROUTED[-1], _PLACE[device.family][-1])):
        before, after = (setting.format(grade=value, router=value) for value in (old, new))
        if routed.count(before) != 1:
            raise ToolError(f"{tool.name} {tool.version}: must say {before} once in what it writes; use another version")
        routed = routed.replace(before, after)
    (folder / "netlist.json").write_text(routed, encoding="utf-8")
    done = tools.run(tool, (*device.place_flags, *_AS_ROUTED, *wanted), folder)
    if done.code:
        raise ToolError(f"{tool.name} {tool.version}: must time the routed accelerator, failed: {done.error}")
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def _read(request: SynthesisRequest, outcome: Mapping[str, Any], versions: Mapping[str, str]) -> Synthesis:
    device, cells, placed = request.device, outcome["cells"], outcome["placed"]
    harness = parse.own_resources(cells, HARNESS_MODULE, device.family)
    used = parse.resources(cells, TOP_MODULE, device.family)
    if placed:
        # A logic cell of iCE40 holds a LUT, a flip-flop, or both: those of the harness that hold a flip-flop alone count as well.
        cells_of_harness = max(harness.lut, harness.ff) if device.family is Family.ICE40 else harness.lut
        used = Resources(**{**vars(used), **placed["used"], "lut": placed["used"]["lut"] - cells_of_harness, "ff": used.ff})
    timing = placed["timing"].get(str(device.grade), {}) if placed else {}
    return Synthesis(
        device=device,
        used=used,
        harness=harness,
        target_mhz=request.frequency_mhz,
        mhz=timing.get("mhz"),
        critical_path=tuple(timing.get("critical_path", ())),
        tools=dict(versions),
        overused_wires=placed["overused_wires"] if placed else 0,
        by_grade={grade: placed["timing"][str(grade)]["mhz"] for grade in device.grades if str(grade) in placed["timing"]} if placed else {},
        blocks=parse.block_table(cells, TOP_MODULE, device.family) if request.blocks else (),
        control=parse.control_cells(cells, TOP_MODULE, device.family) if request.blocks and request.config.machine is Machine.PARALLEL else {},
    )
