"""The system side, assembled around a stub of the compute engine, on independent models of AXI and Wishbone: rtl_tests/."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner
from compute_stub import ComputeStub

from hwgen.config import PRESETS, Bus, HardwareConfig, Machine
from hwgen.cosim.toolchain import environment
from hwgen.emit.verilog import TOP_MODULE, render_verilog
from hwgen.rtl import top
from hwgen.rtl.axi_port import AxiPort
from hwgen.rtl.wishbone import WishbonePort

ROOT = Path(__file__).parents[2]
BENCHES = ["rtl_tests.bench_registers", "rtl_tests.bench_bus", "rtl_tests.bench_errors"]
REGRESS = bool(os.environ.get("HWGEN_REGRESS"))
SMALL = {"activation_words": 256, "weight_words": 64, "parameter_words": 64}
CONFIGS = {
    "wide": replace(PRESETS["16x16"], **SMALL),
    # Several bus words per activation word, several bursts per program record, addresses of more than 32 bits.
    "narrow": replace(PRESETS["8x8"], **SMALL, bus_bits=32, address_bits=40),
    "wishbone": replace(PRESETS["8x8"], **SMALL, bus=Bus.WISHBONE, address_bits=40),
    "serial": replace(PRESETS["up5k"], **SMALL),
}
# Icarus needs no compiler and knows undefined values: it sees a start from registers or memories that nothing has set.
ICARUS = "icarus" if shutil.which("iverilog") else "verilator"
SIMULATORS = {"wide": "verilator", "narrow": ICARUS, "wishbone": ICARUS, "serial": ICARUS}


def run_benches(config: HardwareConfig, verilog: str, simulator: str, folder: Path, seeds: range, only: str = "") -> tuple[int, str]:
    """Tests that ran, and the log where one failed. Every seed means other places in memory and other random commands.

    `only`: regular expression that the tests' names contain.
    """
    source = folder / "accelerator.v"
    source.write_text(verilog)
    runner, count = get_runner(simulator), 0
    common: dict[str, Any] = {"hdl_toplevel": TOP_MODULE, "build_dir": folder}
    extra = {"CONFIG": json.dumps(config.values())}
    arguments = ["-Wno-fatal", "-Wno-lint"] if simulator == "verilator" else []
    runner.build(sources=[source], build_args=arguments, timescale=("1ns", "1ps"), log_file=folder / "build.log", **common)
    for seed in seeds:
        log = folder / f"run{seed}.log"
        try:
            results = runner.test(test_module=BENCHES, extra_env=extra, seed=seed, log_file=log, test_filter=only or None, **common)
        except SystemExit:  # so the runner says under pytest that a test failed
            return count, f"seed {seed}\n{log.read_text()[-8000:]}"
        ran, failures = get_results(results)
        assert not failures
        count += ran
    return count, ""


class WithdrawnWrite(AxiPort):
    """Takes an address back that the memory does not take at once."""

    def elaborate(self, platform: object) -> Module:
        m, refused = super().elaborate(platform), Signal()
        m.d.sync += refused.eq(self.bus.awvalid & ~self.bus.awready)
        m.d.comb += self.bus.awvalid.eq(self.aw.valid & ~refused)
        return m


class DroppedCycle(WishbonePort):
    """Ends the bus cycle while answers are under way."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.bus.cyc_o.eq(self.bus.stb_o)
        return m


@pytest.mark.parametrize(("name", "faulty", "rule"), [("narrow", WithdrawnWrite, "aw: offer withdrawn"), ("wishbone", DroppedCycle, "cyc dropped with")])
def test_a_planted_fault_is_seen_in_the_simulation(name: str, faulty: type, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(top, faulty.__mro__[1].__name__, faulty)
    verilog = render_verilog(CONFIGS[name], ComputeStub(CONFIGS[name]))
    _, failed = run_benches(CONFIGS[name], verilog, SIMULATORS[name], tmp_path, range(1, 2), only="transfers_agree.*seed=1")
    assert f"ViolationError: {rule}" in failed


@pytest.mark.parametrize("name", CONFIGS)
def test_bus_protocol_transfers_and_error_stops(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    config = CONFIGS[name]
    stub = None if config.machine is Machine.SERIAL else ComputeStub(config, stalls=name == "wide")
    verilog = render_verilog(config, stub)
    count, failed = run_benches(config, verilog, SIMULATORS[name], tmp_path, range(1, 11 if REGRESS else 2))
    assert not failed, failed
    assert count > 20
