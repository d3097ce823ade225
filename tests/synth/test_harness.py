"""The harness around the accelerator's ports."""

from __future__ import annotations

import re

import pytest

from hwgen.errors import ToolError
from hwgen.synth.harness import HARNESS_MODULE, render_harness

SMALL = """module other(a);
  input a;
endmodule

module hwgen_accelerator(a, clk, y);
  input clk;
  wire clk;
  input [7:0] a;
  input rst;
  output [3:0] y;
  output irq ;
  reg [3:0] y;
endmodule
"""


def test_every_port_but_the_clock_meets_a_register() -> None:
    text = render_harness(SMALL)
    assert f"module {HARNESS_MODULE} (" in text
    assert "reg [8:0] stimulus;" in text
    assert "reg [4:0] captured;" in text
    assert re.findall(r"\.(\w+)\((.*?)\)[,\n]", text) == [
        ("a", "stimulus[0 +: 8]"),
        ("rst", "stimulus[8 +: 1]"),
        ("y", "response[0 +: 4]"),
        ("irq", "response[4 +: 1]"),
        ("clk", "clk"),
    ]


@pytest.mark.parametrize("text", ["", SMALL.replace("input clk", "input clock"), SMALL.replace("hwgen_accelerator", "else"), SMALL.replace("output", "inout")])
def test_other_verilog_is_refused(text: str) -> None:
    with pytest.raises(ToolError, match=r"^Verilog: must hold module hwgen_accelerator with a clock, inputs and outputs, found \d ports; build again$"):
        render_harness(text)
