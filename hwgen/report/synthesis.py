"""The section of the report that `hwgen synth` measures: what the accelerator takes of a device, how fast it runs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwgen.synth.devices import NAMES
from hwgen.synth.parse import resources_of

if TYPE_CHECKING:
    from hwgen.synth.flow import Synthesis

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SynthesisRow:
    """One device's line of the page's table."""

    device: str
    lut: str
    ff: str
    dsp: str
    ram: str
    mhz: str
    inferences: str


def cycles_of(report: Json) -> tuple[int, str]:
    """Cycles of one inference and how they are known."""
    measured = report["measured_cycles"]
    return (measured, "measured") if measured is not None else (report["predicted_cycles"], "predicted")


def synthesis_entry(found: Synthesis, report: Json) -> Json:
    """The report's entry of one device. Everything in it is measured by the tools, cycles as `cycles_source` says."""
    cycles, source = cycles_of(report)
    return {
        "device": found.device.title_with_grade,
        "grade": found.device.grade,
        "used": found.used.values(),
        "available": found.device.capacity.values() if found.device.capacity else None,
        "harness": found.harness.values(),
        "target_mhz": found.target_mhz,
        "mhz": found.mhz,
        "overused_wires": found.overused_wires,
        "seed": found.seed,
        "mhz_by_grade": {str(grade): mhz for grade, mhz in found.by_grade.items()},
        "inferences_per_second": round(1e6 * found.mhz / cycles, 2) if found.mhz and cycles else None,
        "cycles_source": source,
        "critical_path": list(found.critical_path),
        "tools": dict(found.tools),
        "control": {**resources_of(found.control, found.device.family).values(), "cells": dict(found.control)} if found.control else None,
        "blocks": {path or "accelerator": used.values() for path, used in found.blocks},
    }


def with_synthesis(report: Json, found: Synthesis) -> Json:
    """`report` with this device's entry; those of other devices stay."""
    before = report.get("synthesis") or {}
    return report | {"synthesis": dict(sorted({**before, found.device.name_in_report: synthesis_entry(found, report)}.items()))}


def _share(entry: Json, name: str) -> str:
    used = f"{entry['used'][name]:,}"
    available = entry["available"]
    return f"{used} ({100 * entry['used'][name] / available[name]:.0f} %)" if available else used


def _frequency(entry: Json) -> str:
    wires = entry["overused_wires"]
    if wires:
        known = f"{entry['mhz']:.1f} estimated" if entry["mhz"] else "not known"
        return f"{known}; routing stopped at {wires:,} overused wires"
    if not entry["mhz"]:
        return "not placed"
    others = [f"{grade}: {mhz:.1f}" for grade, mhz in entry.get("mhz_by_grade", {}).items() if grade != str(entry["grade"])]
    return f"{entry['mhz']:.1f}" + (f" (grade {', '.join(others)})" if others else "")


def synthesis_rows(report: Json) -> tuple[SynthesisRow, ...]:
    """The devices of a report, as text."""
    rows = []
    for entry in (report.get("synthesis") or {}).values():
        shares = {name: _share(entry, name) for name in NAMES}
        if "large" in entry["used"]:
            shares["ram"] += f" + {_share(entry, 'large')} large"
        rate = entry["inferences_per_second"]
        speed = f"{rate:,.1f} ({entry['cycles_source']} cycles)" if rate else "–"
        rows.append(SynthesisRow(device=entry["device"], **shares, mhz=_frequency(entry), inferences=speed))
    return tuple(rows)
