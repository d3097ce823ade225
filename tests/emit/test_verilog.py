"""The emitted Verilog: deterministic, lint-clean, accepted by every open tool that is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hwgen.config import PRESETS, Bus
from hwgen.cosim.toolchain import environment
from hwgen.emit.render import template_root
from hwgen.emit.verilog import TOP_MODULE, render_verilog
from hwgen.emit.verilog_text import finish

# Shapes that differ in kind: several bus words per activation word, wide addresses, no multiplier.
SHAPES = {
    "4x4": PRESETS["4x4"],
    "4x16": replace(PRESETS["4x4"], in_lanes=16, bus_bits=32, requantize_lanes=2, multiplier_bits=0, address_bits=40),
    "wishbone": replace(PRESETS["4x4"], bus=Bus.WISHBONE),
    "up5k": PRESETS["up5k"],
}


@pytest.fixture(scope="module", params=SHAPES)
def verilog(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verilog") / "accelerator.v"
    path.write_text(render_verilog(SHAPES[request.param]))
    return path


def run(*command: str | Path) -> str:
    tool = str(command[0])
    if shutil.which(tool, path=environment()["PATH"]) is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def test_verilator_finds_nothing_but_the_waived_warnings(verilog: Path) -> None:
    assert "Warning" not in run("verilator", "--lint-only", "-Wall", "--top-module", TOP_MODULE, template_root() / "rtl" / "lint.vlt", verilog)


def test_icarus_accepts_it_as_verilog_2005(verilog: Path, tmp_path: Path) -> None:
    assert run("iverilog", "-g2005", "-Wall", "-s", TOP_MODULE, "-o", tmp_path / "a.vvp", verilog) == ""


def test_yosys_finds_no_loop_no_second_driver_and_no_latch(verilog: Path) -> None:
    checks = "proc; memory -nomap; opt_clean; check -assert; select -assert-none t:$dlatch"
    log = run("yosys", "-p", f"read_verilog {verilog}; hierarchy -check -top {TOP_MODULE}; {checks}")
    assert "Found and reported 0 problems" in log


def test_there_is_one_clock_and_a_synchronous_reset_and_the_head_says_so(verilog: Path) -> None:
    text = verilog.read_text()
    assert set(re.findall(r"@\((?!\*)(.*?)\)", text)) == {"posedge clk"}
    assert "// One clock (clk, rising edge), synchronous reset (rst, active high).\n" in text[:200]
    assert not re.search(r"\bnegedge\b|\bPLL|\bBUFG", text)


def test_same_hardware_gives_the_same_text_under_any_name(verilog: Path) -> None:
    config = next(config for config in SHAPES.values() if config.hash() in verilog.read_text())
    second = render_verilog(replace(config, name="other */ name"))
    assert second == verilog.read_text() and "other" not in second
    assert not re.search(r"/home|/work|/tmp|20\d\d-\d\d", second)
    assert f"32'd{int(config.hash()[-8:], 16)}" in second, "register config_hash"


def test_the_text_of_the_default_array_stays_readable_in_size() -> None:
    """1.3 MB: every row of the array has operands of its own for windows, every requantize lane its shifters, every counter its low bits."""
    text = render_verilog(PRESETS["16x16"])
    assert len(text) < 1_350_000
    assert "trace_valid" in text and " compute (" in text, "the bench finds compute.trace_valid"


def test_memories_start_undefined(verilog: Path) -> None:
    text = verilog.read_text()
    assert "initial begin" not in text
    assert text.count("memory #(") >= 7, "activation banks, weights, parameters, accumulator, or what the serial machine has in their place"


MODULE = """module a(b, c);
  input b;
  wire b;
  output c;
  reg c;
  wire [3:0] used;
  wire [-1:0] \\second.empty ;
  wire [3:0] \\second.name ;
  wire third;
  wire trace_kept;
  assign used = { b, b, b, b };
  assign \\second.name  = used;
  assign third = \\second.name [2];
  assign trace_kept = used[1];
  always @*
    c = 1'h0;
endmodule
"""


def test_finish_removes_chains_of_unused_names_and_starts_constant_blocks() -> None:
    text = finish(MODULE, "trace_")
    for gone in ("second", "third"):
        assert gone not in text
    assert "  assign trace_kept = used[1];\n" in text and "assign used" in text
    assert "  reg at_start;\n  initial at_start <= 1'h0;" in text and "  always @* begin\n    if (at_start ) begin end\n    c = 1'h0;\n  end\n" in text
    assert finish(text, "trace_") == text


@pytest.mark.parametrize("standard", ["-g2005", "-g2012"])
def test_constant_bits_of_a_register_are_defined_in_simulation(standard: str, tmp_path: Path) -> None:
    """A block that reads nothing never runs: without `finish`, the bit would stay undefined."""
    bench = "module bench; wire c; a dut(.b(1'b0), .c(c)); initial #1 $display(\"%b\", c); endmodule\n"
    (tmp_path / "a.v").write_text(finish(MODULE, "trace_") + bench)
    run("iverilog", standard, "-s", "bench", "-o", tmp_path / "a.vvp", tmp_path / "a.v")
    assert run("vvp", "-n", tmp_path / "a.vvp") == "0\n"
