"""Verilog to numbers: yosys, then nextpnr where the device has it, cached by everything that the result follows from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hwgen.cache import cached_text
from hwgen.config import Machine
from hwgen.emit.verilog import TOP_MODULE
from hwgen.errors import ToolError
from hwgen.synth import parse, tools
from hwgen.synth.devices import LARGE_NAME, NAMES, Device, Family, Resources, check_capacity
from hwgen.synth.harness import HARNESS_MODULE, render_harness
from hwgen.synth.place import NETLIST, place
from hwgen.synth.place import settings as placing
from hwgen.synth.product import render_product
from hwgen.synth.registers import BLOCKS, FLIP_FLOP, absorb
from hwgen.synth.request import Stage, SynthesisRequest
from hwgen.synth.tools import SynthesisTool

_SYNTHESIZE = {
    # Products first, one sink for each bit of an operand; wide LUTs take up to 40 % more LUT4.
    Family.ECP5: "synth_ecp5 -top {top} -run begin:coarse; proc; opt_expr; opt_clean; wreduce; techmap -map product.v; "
    "synth_ecp5 -nowidelut {flatten} -top {top} -run coarse:",
    Family.ICE40: "synth_ice40 -device u -dsp -spram {flatten} -top {top}",
    Family.XC7: "synth_xilinx -family xc7 {flatten} -top {top}",
}
_FLATTEN = {Family.ECP5: ("", "-noflatten"), Family.ICE40: ("", "-noflatten"), Family.XC7: ("-flatten", "")}


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """What the accelerator takes, without its harness. `mhz` None: not placed. `overused_wires` above 0: the router did not come to its end
    and was stopped there; `mhz` is the estimate after placement, and the critical path is not known. `blocks`: path of a block and what it
    takes; `control`: cells by type of all that is no data path (parse.DATA_BLOCKS). Both are empty where blocks were not asked for; the serial
    machine is not divided.

    Places and ways are found with the delays of the slowest speed grade, which then are those of all: `by_grade` has the frequency of each. `seed`: the
    placer's."""

    device: Device
    used: Resources
    harness: Resources
    target_mhz: float
    mhz: float | None
    critical_path: tuple[str, ...]
    tools: Mapping[str, str]
    overused_wires: int = 0
    seed: int | None = None
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
    asked = [request.frequency_mhz, request.blocks, list(request.seeds), request.clock_pin]
    settings = [part, asked, placing(device.family), render_product(), _script(request), BLOCKS, parse.STUCK]
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
        *((f"write_json {NETLIST}",) if request.device.place_tool else ()),
    )
    return "; ".join(lines)


def _run(request: SynthesisRequest, harness: str, found: tuple[SynthesisTool, ...], stage: Stage) -> dict[str, Any]:
    """The cells by module, and nextpnr's report or its reason why nothing could be placed."""
    yosys, *placer = found
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
        if placer:
            if request.device.family is Family.ECP5:
                _improve(folder / NETLIST, outcome["cells"])
            outcome["placed"] = place(request, placer[0], folder, stage)
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
        raise request.too_large(tuple(short))


def _read(request: SynthesisRequest, outcome: Mapping[str, Any], versions: Mapping[str, str]) -> Synthesis:
    device, cells, placed = request.device, outcome["cells"], outcome["placed"]
    harness = parse.own_resources(cells, HARNESS_MODULE, device.family)
    used = parse.resources(cells, TOP_MODULE, device.family)
    if placed:
        # A logic cell of iCE40 holds a LUT, a flip-flop, or both: those of the harness that hold a flip-flop alone count as well.
        cells_of_harness = max(harness.lut, harness.ff) if device.family is Family.ICE40 else harness.lut
        used = Resources(**{**vars(used), **placed["used"], "lut": placed["used"]["lut"] - cells_of_harness, "ff": used.ff})
    timing = placed["timing"] if placed else {}
    own = timing.get(str(device.grade), {})
    return Synthesis(
        device=device,
        used=used,
        harness=harness,
        target_mhz=request.frequency_mhz,
        mhz=own.get("mhz"),
        critical_path=tuple(own.get("critical_path", ())),
        tools=dict(versions),
        overused_wires=placed["overused_wires"] if placed else 0,
        seed=placed["seed"] if placed else None,
        by_grade={grade: timing[str(grade)]["mhz"] for grade in device.grades if str(grade) in timing},
        blocks=parse.block_table(cells, TOP_MODULE, device.family) if request.blocks else (),
        control=parse.control_cells(cells, TOP_MODULE, device.family) if request.blocks and request.config.machine is Machine.PARALLEL else {},
    )
