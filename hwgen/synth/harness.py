"""A harness with four pins: every port of the accelerator meets a register, so that paths are real and pins few."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwgen.emit.render import render
from hwgen.emit.verilog import TOP_MODULE
from hwgen.errors import ToolError

HARNESS_MODULE = "hwgen_harness"
_PORT = re.compile(r"^\s*(input|output) (?:wire )?(?:\[(\d{1,4}):0\] )?([a-z]\w*) ?;$", re.MULTILINE)
_MODULE = re.compile(rf"^module {TOP_MODULE}\b.*?^endmodule", re.DOTALL | re.MULTILINE)
_CLOCK = "clk"


@dataclass(frozen=True, kw_only=True)
class Port:
    """`width` bits, the lowest at position `lsb` of the harness' shift register."""

    name: str
    width: int
    lsb: int


@dataclass(frozen=True, kw_only=True)
class HarnessView:
    """The template's variables; sizes are at least 1."""

    module: str
    accelerator: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    input_bits: int
    output_bits: int


def _placed(ports: list[tuple[str, int]]) -> tuple[Port, ...]:
    placed, lsb = [], 0
    for name, width in ports:
        placed.append(Port(name=name, width=width, lsb=lsb))
        lsb += width
    return tuple(placed)


def render_harness(verilog: str) -> str:
    """The harness of the module TOP_MODULE in `verilog`. Raises ToolError when there is none with a clock, inputs and outputs."""
    module = _MODULE.search(verilog)
    found = [(side, name, int(high or 0) + 1) for side, high, name in _PORT.findall(module.group())] if module else []
    inputs = _placed([(name, width) for side, name, width in found if side == "input" and name != _CLOCK])
    outputs = _placed([(name, width) for side, name, width in found if side == "output"])
    if not inputs or not outputs or ("input", _CLOCK, 1) not in found:
        raise ToolError(f"Verilog: must hold module {TOP_MODULE} with a clock, inputs and outputs, found {len(found)} ports; build again")
    view = HarnessView(
        module=HARNESS_MODULE,
        accelerator=TOP_MODULE,
        inputs=inputs,
        outputs=outputs,
        input_bits=sum(port.width for port in inputs),
        output_bits=sum(port.width for port in outputs),
    )
    return render("synth/harness.v.j2", view)
