"""`hwgen synth` on a built folder: the report's section, the table, nothing changed when it fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hwgen.cli import main
from hwgen.errors import ConfigError, ToolError
from hwgen.output import REPORT_HTML, REPORT_JSON
from hwgen.report.synthesis import synthesis_rows, with_synthesis
from hwgen.synth import flow
from hwgen.synth.devices import DEVICES, Resources
from hwgen.synth.flow import Synthesis
from hwgen.synthesize import SynthRequest, synth

ROOT = Path(__file__).parents[2]
USED = Resources(lut=12000, ff=9000, dsp=97, ram=40)


def found(device: str = "ecp5-85k", mhz: float | None = 101.5) -> Synthesis:
    return Synthesis(
        device=DEVICES[device],
        used=USED,
        harness=Resources(lut=242, ff=388),
        target_mhz=100.0,
        mhz=mhz,
        critical_path=("walker.index", "walker.place", "4.0 ns logic, 5.9 ns wires") if mhz else (),
        tools={"yosys": "1.0"},
        blocks=(("", USED), ("compute", Resources(lut=9000))),
        control={"LUT4": 2900, "CCU2C": 40, "TRELLIS_FF": 700},
    )


REPORT = {"measured_cycles": None, "predicted_cycles": 50_000}


def test_inferences_follow_from_frequency_and_cycles() -> None:
    report = with_synthesis(REPORT, found())
    entry = report["synthesis"]["ecp5-85k"]
    assert entry["inferences_per_second"] == 2030.0
    assert entry["cycles_source"] == "predicted"
    assert with_synthesis({**REPORT, "measured_cycles": 50_750}, found())["synthesis"]["ecp5-85k"]["inferences_per_second"] == 2000.0
    assert entry["blocks"] == {"accelerator": USED.values(), "compute": Resources(lut=9000).values()}
    assert entry["control"] == {"lut": 2980, "ff": 700, "dsp": 0, "ram": 0, "cells": {"LUT4": 2900, "CCU2C": 40, "TRELLIS_FF": 700}}
    json.dumps(report)


def test_devices_stand_beside_each_other() -> None:
    report = with_synthesis(with_synthesis(REPORT, found("xc7", None)), found())
    assert list(report["synthesis"]) == ["ecp5-85k", "xc7"]
    placed, only_netlist = synthesis_rows(report)
    assert (placed.lut, placed.dsp, placed.mhz, placed.inferences) == ("12,000 (14 %)", "97 (62 %)", "101.5", "2,030.0 (predicted cycles)")
    assert (only_netlist.lut, only_netlist.mhz, only_netlist.inferences) == ("12,000", "not placed", "–")
    assert synthesis_rows({"synthesis": None}) == synthesis_rows({}) == ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "out"
    example = ROOT / "examples/digits"
    assert main(["build", str(example / "model.onnx"), "--calibration", str(example / "calibration.npz"), "--hardware", "4x4", "-o", str(out)]) == 0
    return out


def test_the_report_gets_a_section(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("hwgen.synthesize.synthesize", lambda request, stage: found())
    assert main(["synth", str(folder), "--device", "ecp5-85k", "--blocks"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"LUTs +12,000 \(14 %\)\n +flip-flops +9,000 \(11 %\)\n +DSP blocks +97 \(62 %\)\n", shown)
    assert "control logic: 2,980 LUTs, 2,900 LUT4, 40 CCU2C, 700 TRELLIS_FF" in shown
    assert "slowest path: 4.0 ns logic, 5.9 ns wires, from walker.index to walker.place" in shown
    assert json.loads((folder / REPORT_JSON).read_text())["synthesis"]["ecp5-85k"]["mhz"] == 101.5
    assert "Lattice ECP5 LFE5U-85F" in (folder / REPORT_HTML).read_text()


def test_nothing_changes_when_it_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: (folder / name).read_bytes() for name in (REPORT_JSON, REPORT_HTML)}

    def fail(*_: object) -> None:
        raise ToolError("yosys: must start")

    monkeypatch.setattr(flow.tools, "find", fail)
    with pytest.raises(ToolError):
        synth(SynthRequest(out=folder, device="ecp5-85k"))
    assert {name: (folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (SynthRequest(out=Path("none"), device="ecp6"), "device 'ecp6': must be one of ecp5-85k, ecp5-45k, up5k, xc7"),
        (SynthRequest(out=Path("none"), device="xc7", frequency_mhz=float("nan")), "frequency: must be from 1 to 1000 MHz, not nan"),
        (SynthRequest(out=Path("none"), device="xc7", frequency_mhz=2000.0), "frequency: must be from 1 to 1000 MHz, not 2000"),
        (SynthRequest(out=Path("none"), device="ecp5-85k", seed=0), "seed: must be 1 or more, not 0"),
        (SynthRequest(out=Path("none"), device="ecp5-85k", tries=0), "tries: must be from 1 to 100, not 0"),
        (
            SynthRequest(out=Path("none"), device="ecp5-85k", clock_pin='C17"; A'),
            "clock pin: must be a pin of the package, such as C17 or 35, not 'C17\"; A'",
        ),
        (SynthRequest(out=Path("none"), device="xc7", clock_pin="C17"), "clock pin: must be left out for xc7, which is not placed"),
        (SynthRequest(out=Path("none"), device="xc7", grade=8), "speed grade of xc7: must be left out, not 8"),
    ],
)
def test_bad_requests_are_refused(request_: SynthRequest, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        synth(request_)
