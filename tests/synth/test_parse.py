"""Reports of the tools as numbers."""

from __future__ import annotations

import re

import pytest

from hwgen.config import HardwareConfig
from hwgen.emit.verilog import render_verilog
from hwgen.errors import ToolError
from hwgen.synth.devices import Family, Resources
from hwgen.synth.parse import (
    DATA_BLOCKS,
    block_table,
    cell_name,
    control_cells,
    critical_path,
    frequency_mhz,
    module_cells,
    own_resources,
    placed_resources,
    resources,
    resources_of,
    too_small,
    utilization,
)

STAT = {
    "modules": {
        "\\top": {"num_cells_by_type": {"LUT4": 2, "TRELLIS_FF": 3, "top.a": 2, "$paramod\\memory": 1}},
        "\\top.a": {"num_cells_by_type": {"CCU2C": 1, "MULT18X18D": 1, "PFUMX": 7, "top.a.b": 1}},
        "\\top.a.b": {"num_cells_by_type": {"LUT4": 10}},
        "$paramod\\memory": {"num_cells_by_type": {"DP16KD": 4, "TRELLIS_DPR16X4": 1}},
    }
}


def test_cells_add_up_over_instances() -> None:
    cells = module_cells(STAT)
    assert own_resources(cells, "top", Family.ECP5) == Resources(lut=2, ff=3)
    assert resources(cells, "top.a", Family.ECP5) == Resources(lut=12, dsp=1)
    assert resources(cells, "top", Family.ECP5) == Resources(lut=2 + 2 * 12 + 6, ff=3, dsp=2, ram=4)


def test_blocks_are_listed_with_what_lies_inside() -> None:
    table = block_table(module_cells(STAT), "top", Family.ECP5)
    assert [path for path, _ in table] == ["", "a", "a.b"]
    assert [used.lut for _, used in table] == [32, 12, 10]


def test_control_is_what_lies_in_no_block_of_the_data_path() -> None:
    cells = {
        "top": {"LUT4": 2, "PFUMX": 3, "top.load": 2, "top.compute": 1},
        "top.load": {"LUT4": 10, "memory": 1},
        "top.compute": {"LUT4": 5, "top.compute.route$288": 1, "top.compute.walker": 1},
        "top.compute.route$288": {"LUT4": 1000, "top.compute.route$288.part": 1},
        "top.compute.route$288.part": {"LUT4": 100},
        "top.compute.walker": {"CCU2C": 7},
        "memory": {"TRELLIS_DPR16X4": 3},
    }
    control = control_cells(cells, "top", Family.ECP5)
    assert control == {"LUT4": 2 + 20 + 5, "CCU2C": 7, "TRELLIS_DPR16X4": 6}
    assert resources_of(control, Family.ECP5).lut == 27 + 14 + 36


def test_blocks_of_the_data_path_are_in_the_verilog() -> None:
    """With every option each name is there, once."""
    verilog = render_verilog(HardwareConfig(out_lanes=4, in_lanes=4, activation_tables=2, weight_decoder=True))
    modules = re.findall(r"^module \\?(?:\S+\.)?([a-z_]+)", verilog, re.MULTILINE)
    assert {name: modules.count(name) for name in DATA_BLOCKS} == dict.fromkeys(DATA_BLOCKS, 1)


@pytest.mark.parametrize("stat", [{}, {"modules": []}, {"modules": {"a": {}}}, {"modules": {"a": {"num_cells_by_type": {"LUT4": "x"}}}}])
def test_statistics_of_another_form_are_refused(stat: dict[str, object]) -> None:
    with pytest.raises(ToolError, match=r"^yosys: must list the cells of each module, its statistics have another form \(\w+\); use another version$"):
        module_cells(stat)


def test_utilization_says_what_is_too_small() -> None:
    log = """Info: Device utilisation:
Info: \t          TRELLIS_IO:       4/    365     1%
Info: \t          MULT18X18D:      97/     72   134%
Info: \t          TRELLIS_FF:   18432/  43848    42%
ERROR: Unable to place cell 'x', no BELs remaining to implement cell type 'MULT18X18D'
"""
    assert utilization(log) == {"TRELLIS_IO": (4, 365), "MULT18X18D": (97, 72), "TRELLIS_FF": (18432, 43848)}
    assert too_small(utilization(log)) == ("MULT18X18D 97 of 72",)
    assert utilization("ERROR: nothing") == {}


REPORT = {
    "utilization": {"TRELLIS_COMB": {"used": 10, "available": 20}, "TRELLIS_FF": {"used": 3, "available": 20}, "DCCA": {"used": 1, "available": 1}},
    "fmax": {"$glbnet$clk": {"achieved": 101.234, "constraint": 100.0}, "other": {"achieved": 150.0, "constraint": 100.0}},
    "critical_paths": [
        {"from": "<async>", "to": "posedge clk", "path": [{"type": "routing", "delay": 90.0, "from": {"cell": "pin"}, "to": {"cell": "x"}}]},
        {
            "from": "posedge clk",
            "to": "posedge clk",
            "path": [
                {"type": "clk-to-q", "delay": 0.5, "from": {"cell": "dut.walker.index_TRELLIS_FF_Q"}, "to": {"cell": "dut.walker.index_TRELLIS_FF_Q"}},
                {"type": "routing", "delay": 2.0, "from": {"cell": "dut.walker.index_TRELLIS_FF_Q"}, "to": {"cell": "dut.place_LUT4_Z"}},
                {"type": "setup", "delay": 0.25, "from": {"cell": "dut.place_LUT4_Z"}, "to": {"cell": "dut.place_LUT4_Z"}},
            ],
        },
    ],
}


def test_the_slowest_clock_counts() -> None:
    assert frequency_mhz(REPORT) == 101.23
    with pytest.raises(ToolError, match="^nextpnr: must report the frequency of a clock, reports none; the netlist has no path between registers$"):
        frequency_mhz({"fmax": {}})


def test_the_slowest_path_between_registers() -> None:
    assert critical_path(REPORT) == ("dut.walker.index", "dut.place_LUT4_Z", "0.8 ns logic, 2.0 ns wires")
    assert critical_path({"critical_paths": []}) == ()


def test_placed_resources_go_by_our_names() -> None:
    used = {"TRELLIS_COMB": 10, "TRELLIS_FF": 3, "DCCA": 1}
    assert placed_resources(used, Family.ECP5) == {"lut": 10, "ff": 3}


def test_cell_names_are_those_of_the_verilog() -> None:
    assert cell_name("a.$paramod$1234\\hwgen_memory.words") == "a.hwgen_memory.words"
