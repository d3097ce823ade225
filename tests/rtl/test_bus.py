"""The system side, assembled around a stub of the compute engine, on independent AXI models: rtl_tests/bench_bus.py."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner
from compute_stub import ComputeStub

from hwgen.config import PRESETS
from hwgen.cosim.toolchain import environment
from hwgen.emit.verilog import TOP_MODULE, render_verilog

ROOT = Path(__file__).parents[2]
SMALL = {"activation_words": 256, "weight_words": 64, "parameter_words": 64}
CONFIGS = {
    "wide": replace(PRESETS["16x16"], **SMALL),
    # Several bus words per activation word, several bursts per program record, addresses of more than 32 bits.
    "narrow": replace(PRESETS["8x8"], **SMALL, bus_bits=32, address_bits=40),
}
# Icarus needs no compiler and knows undefined values: it sees a start from registers or memories that nothing has set.
SIMULATORS = {"wide": "verilator", "narrow": "icarus" if shutil.which("iverilog") else "verilator"}


@pytest.mark.parametrize("name", CONFIGS)
def test_bus_protocol_transfers_and_error_stops(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.syspath_prepend(ROOT / "rtl_tests")
    config, simulator = CONFIGS[name], SIMULATORS[name]
    source = tmp_path / "accelerator.v"
    source.write_text(render_verilog(config, ComputeStub(config, stalls=name == "wide")))
    runner = get_runner(simulator)
    common: dict[str, Any] = {"hdl_toplevel": TOP_MODULE, "build_dir": tmp_path}
    arguments = ["-Wno-fatal", "-Wno-lint"] if simulator == "verilator" else []
    runner.build(sources=[source], build_args=arguments, timescale=("1ns", "1ps"), log_file=tmp_path / "build.log", **common)
    results = runner.test(test_module="bench_bus", extra_env={"CONFIG": json.dumps(config.values())}, seed=1, log_file=tmp_path / "run.log", **common)
    count, failures = get_results(results)
    assert count > 20 and not failures, (tmp_path / "run.log").read_text()[-8000:]

