"""Place and route: nextpnr on the netlist that yosys left, at every speed grade, from as many seeds as are asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwgen.errors import ToolError
from hwgen.synth import parse, tools
from hwgen.synth.devices import Device, Family
from hwgen.synth.request import Stage, SynthesisRequest
from hwgen.synth.tools import Finished, SynthesisTool

NETLIST = "netlist.json"
_ROUTED, _REPORT = "routed.json", "report.json"
# The same netlist and seed give the same result. With the default placer of ECP5, heap, there is a quarter more wire and the router does not get
# to the end, nor with seed 1; see docs/accelerator.md.
_PLACE = {
    Family.ECP5: ("--lpf-allow-unconstrained", "--placer", "static", "--router", "router2"),
    Family.ICE40: ("--pcf-allow-unconstrained",),
}
# Pins are nextpnr's choice, because the places found so are better; but sometimes no way leads from its clock pin to the clock network.
_CLOCK_LOST = re.compile(r"Failed to route arc .* of net 'clk\b")
_PINS = {Family.ECP5: ("--lpf", 'LOCATE COMP "clk" SITE "{pin}";\n'), Family.ICE40: ("--pcf", "set_io clk {pin}\n")}
# Of a file that nextpnr wrote: what it says of the part and the router goes before arguments.
_AS_PLACED = ("--no-pack", "--no-place")
_AS_ROUTED = (*_AS_PLACED, "--router", "router1")  # which finds no way missing
_WRITTEN = ('"arch.speed": "{value}"', '"router": "{value}"')


def settings(family: Family) -> list[Any]:
    """What a result follows from beside the request."""
    return [_PLACE.get(family), _PINS.get(family), _AS_PLACED, _AS_ROUTED]


def place(request: SynthesisRequest, tool: SynthesisTool, folder: Path, stage: Stage) -> dict[str, Any]:
    """Of NETLIST in the folder, as JSON: `used` by name of Resources, `timing` by speed grade, `overused_wires` (above 0: the router was stopped,
    the timing of the slowest grade is the estimate after placement, and the others are not known), `seed`.

    Raises CapacityError when the netlist does not fit, ToolError when the tool fails.
    """
    run = _Run(request=request, tool=tool, folder=folder, stage=stage)
    if request.tries == 1:
        stage(f"place and route with {tool.name}")
        return run.outcome(request.seeds[0], run.routed(request.seeds[0], None))
    placed = run.placements()
    results, estimates = [], {seed: parse.estimated_mhz(done.log) for seed, done in placed.items()}
    for seed in sorted(placed, key=lambda seed: (-estimates[seed], seed)):
        stage(f"route seed {seed}, {estimates[seed]:.1f} MHz estimated")
        results.append(run.outcome(seed, run.routed(seed, placed[seed])))
        if not results[-1]["overused_wires"]:
            return results[-1]
    return results[0]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """nextpnr in a folder."""

    request: SynthesisRequest
    tool: SynthesisTool
    folder: Path
    stage: Stage

    @property
    def _device(self) -> Device:
        return self.request.device

    def _start(self, *arguments: str, device: Device | None = None) -> Finished:
        wanted = ("--freq", f"{self.request.frequency_mhz:g}", "--timing-allow-fail")
        return tools.run(self.tool, (*(device or self._device.slowest).place_flags, *wanted, *arguments), self.folder, parse.is_stuck)

    def _from_netlist(self, seed: int, pin: str | None, *arguments: str) -> Finished:
        return self._start(*_PLACE[self._device.family], *self._pins(pin), "--json", NETLIST, "--seed", str(seed), *arguments)

    def _pins(self, pin: str | None) -> tuple[str, ...]:
        """The arguments that put the clock there."""
        if pin is None:
            return ()
        option, text = _PINS[self._device.family]
        (self.folder / "pins").write_text(text.format(pin=pin), encoding="ascii")
        return option, "pins"

    def placements(self) -> dict[int, Finished]:
        """By seed, each written to its file, not routed."""
        result = {}
        for seed in self.request.seeds:
            self.stage(f"place seed {seed} with {self.tool.name}")
            result[seed] = self._from_netlist(seed, self.request.clock_pin, "--no-route", "--write", _placed(seed))
            self._check(result[seed], "place")
        return result

    def routed(self, seed: int, placement: Finished | None) -> tuple[Finished, Finished]:
        """What placed and what routed: one run where there was no placement."""
        written = ("--report", _REPORT, "--write", _ROUTED)
        if placement is not None:
            done = self._start(*_AS_PLACED, "--json", _placed(seed), *written)
        else:
            done = self._from_netlist(seed, self.request.clock_pin, *written)
        if done.code and self._device.clock_pin and self.request.clock_pin is None and _CLOCK_LOST.search(done.error):
            self.stage(f"place and route with {self.tool.name} again, the clock at pin {self._device.clock_pin}")
            placement, done = None, self._from_netlist(seed, self._device.clock_pin, *written)
        return placement or done, done

    def outcome(self, seed: int, done: tuple[Finished, Finished]) -> dict[str, Any]:
        placement, routing = done
        slowest = self._device.slowest
        if routing.stopped:
            used = {name: count for name, (count, _) in parse.utilization(placement.log).items()}
            timing = {str(slowest.grade): {"mhz": parse.estimated_mhz(placement.log), "critical_path": ()}}
            wires = parse.overused_wires(routing.log)[-1]
        else:
            self._check(routing, "place and route")
            report = self._report()
            used, wires = {name: int(entry["used"]) for name, entry in report["utilization"].items()}, 0
            timing = {str(slowest.grade): _timing(report)}
            for grade in self._device.grades[1:]:
                self.stage(f"time speed grade {grade} with {self.tool.name}")
                timing[str(grade)] = _timing(self._at_grade(self._device.of_grade(grade)))
        return {"used": parse.placed_resources(used, self._device.family), "timing": timing, "overused_wires": wires, "seed": seed}

    def _check(self, done: Finished, what: str) -> None:
        if not done.code:
            return
        short = parse.too_small(parse.utilization(done.log))
        raise self.request.too_large(short) if short else ToolError(f"{self._named}: must {what} the accelerator, failed: {done.error}")

    @property
    def _named(self) -> str:
        return f"{self.tool.name} {self.tool.version}"

    def _report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / _REPORT).read_text(encoding="utf-8"))
        return report

    def _at_grade(self, device: Device) -> dict[str, Any]:
        """nextpnr's report on the routed netlist at another speed grade."""
        text = (self.folder / _ROUTED).read_text(encoding="utf-8")
        values = (device.slowest.grade, device.grade), (_PLACE[device.family][-1], _AS_ROUTED[-1])
        for setting, (old, new) in zip(_WRITTEN, values, strict=True):
            before, after = setting.format(value=old), setting.format(value=new)
            if text.count(before) != 1:
                raise ToolError(f"{self._named}: must say {before} once in what it writes; use another version")
            text = text.replace(before, after)
        (self.folder / "timed.json").write_text(text, encoding="utf-8")
        self._check(self._start(*_AS_ROUTED, "--json", "timed.json", "--report", _REPORT, device=device), "time")
        return self._report()


def _placed(seed: int) -> str:
    return f"placed-{seed}.json"


def _timing(report: Mapping[str, Any]) -> dict[str, Any]:
    return {"mhz": parse.frequency_mhz(report), "critical_path": parse.critical_path(report)}
