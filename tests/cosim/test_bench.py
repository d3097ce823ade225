"""The bench and its runner, on a stand-in accelerator that adds 1 to every byte: see stub.v."""

from __future__ import annotations

import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwgen.cache import cache_root
from hwgen.config import PRESETS, HardwareConfig
from hwgen.cosim import runner, script, simulator
from hwgen.cosim.job import MemoryModel, SimulationJob
from hwgen.cosim.memory import memory_image, memory_map, segments
from hwgen.cosim.toolchain import require
from hwgen.errors import DataError, MismatchError, OutputError, ToolError
from hwgen.isa.fields import Region
from hwgen.isa.registers import CAUSES, ErrorCode

STUB = (Path(__file__).parent / "stub.v").read_text()
CONFIG = PRESETS["16x16"]
COUNT, SIZE = 3, 160
HANG_ENTRY = 0x100


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def job(**changes: object) -> SimulationJob:
    random = np.random.default_rng(5)
    inputs = tuple(random.integers(0, 256, SIZE, np.uint8).tobytes() for _ in range(COUNT))
    base = SimulationJob(
        verilog=STUB, config=CONFIG, program=b"", weights=b"", arena_bytes=0, inputs=inputs, output_bytes=SIZE, cycle_limit=5000, wall_limit_seconds=60
    )
    return replace(base, **({"optimized": False} | changes))  # type: ignore[arg-type]


def expected(inputs: tuple[bytes, ...]) -> list[bytes]:
    return [bytes((byte + 1) & 255 for byte in image) for image in inputs]


MEMORIES = [MemoryModel(), MemoryModel(latency_cycles=20), MemoryModel(stall_probability=0.6, seed=3), MemoryModel(latency_cycles=7, stall_probability=0.9)]


@pytest.mark.parametrize("memory", MEMORIES)
def test_outputs_do_not_depend_on_latency_and_stalls(memory: MemoryModel) -> None:
    work = job(memory=memory)
    seen: list[int] = []
    result = runner.simulate(work, progress=seen.append)
    result.check()
    assert seen == [0, 1, 2]
    assert [i.output for i in result.inferences] == expected(work.inputs)
    assert all(i.finished and i.error is None and i.explain() == "done" for i in result.inferences)


def test_latency_and_stalls_cost_cycles() -> None:
    ideal, late, stalled = (runner.simulate(job(memory=memory)).inferences[0].cycles for memory in MEMORIES[:3])
    words = SIZE // CONFIG.bus_bytes
    assert late == ideal + 2 * 19 * words  # one read and one write response per word
    assert stalled > ideal


def test_the_trace_holds_every_result_in_order() -> None:
    work = job()
    trace = runner.simulate(work).trace
    assert trace is not None
    words = SIZE // CONFIG.in_lanes
    assert trace.inference.tolist() == [k for k in range(COUNT) for _ in range(words)]
    assert trace.address.tolist() == list(range(words)) * COUNT
    assert not trace.command.any()  # one command per inference: the count starts anew
    assert trace.mask.all()
    assert (np.diff(trace.cycle.reshape(COUNT, -1), axis=1) > 0).all()
    assert [row.tobytes() for row in trace.data.reshape(COUNT, -1)] == expected(work.inputs)
    assert runner.simulate(replace(work, trace=False)).trace is None


def test_the_second_run_compiles_nothing() -> None:
    first, second = runner.simulate(job(verilog=STUB + "\n// another\n")), runner.simulate(job(verilog=STUB + "\n// another\n"))
    assert first.build_seconds > 0
    assert second.build_seconds == 0


def test_optimizing_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both link the same objects of Verilator's own C++: made once, then left as they are."""
    run, kept = simulator._run, []

    def watched(command: tuple[str, ...], folder: Path) -> None:
        before = {path.name: path.stat().st_mtime_ns for path in folder.glob("obj/verilated*.o")}
        run(command, folder)
        kept.append(before == {path.name: path.stat().st_mtime_ns for path in folder.glob("obj/verilated*.o")} and "verilated.o" in before)

    soon = runner.simulate(job())
    monkeypatch.setattr(simulator, "_run", watched)
    fast = runner.simulate(job(optimized=True))
    assert fast.build_seconds > 0
    assert fast.inferences == soon.inferences
    assert kept == [False, True]  # verilator, make


@pytest.mark.parametrize(
    ("name", "old", "new", "same"),
    [
        ("Vbench_classes.mk", "Vbench__0", "Vbench__1", True),
        ("Vbench_classes.mk", "PARALLEL_BUILDS = 0", "PARALLEL_BUILDS = 1", True),
        ("Vbench_classes.mk", "VM_TIMING = 0", "VM_TIMING = 1", False),
        ("Vbench.mk", "-DBUS_BYTES=8", "-DBUS_BYTES=16", False),
    ],
)
def test_objects_of_verilators_own_code_follow_from_its_switches(name: str, old: str, new: str, same: bool, tmp_path: Path) -> None:
    texts = {
        "Vbench.mk": "VM_USER_CFLAGS = \\\n  -DBUS_BYTES=8 \\\n",
        "Vbench_classes.mk": "VM_TIMING = 0\nVM_PARALLEL_BUILDS = 0\nVM_CLASSES_FAST += \\\n  Vbench__0 \\\n",
    }
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    tools = require()
    first = simulator._runtime(tmp_path, tools)
    assert old in texts[name]
    (tmp_path / name).write_text(texts[name].replace(old, new))
    assert (simulator._runtime(tmp_path, tools) == first) == same
    assert simulator._runtime(tmp_path, [replace(status, version="1.0") for status in tools]).name != first.name


def test_two_processes_at_once_compile_once() -> None:
    verilog, results = STUB + "\n// together\n", []
    threads = [threading.Thread(target=lambda: results.append(runner.simulate(job(verilog=verilog)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.build_seconds > 0 for result in results) == [False, True]


def test_an_accelerator_that_hangs_is_a_clear_error() -> None:
    result = runner.simulate(job(program_entry=HANG_ENTRY, cycle_limit=300))
    assert [i.finished for i in result.inferences] == [False] * COUNT
    with pytest.raises(MismatchError, match=r"^co-simulation, inference 0: the accelerator must reach END, no interrupt within 30\d cycles$"):
        result.check()


def test_a_simulation_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(MismatchError, match=r"^co-simulation: must end within 0\.2 s, stopped; the accelerator hangs, or too many inferences were asked for$"):
        runner.simulate(job(program_entry=HANG_ENTRY, cycle_limit=1 << 30, wall_limit_seconds=0.2))


@pytest.mark.parametrize(("kind", "region", "code"), [("read_error", Region.INPUT, ErrorCode.BUS_READ), ("write_error", Region.OUTPUT, ErrorCode.BUS_WRITE)])
def test_error_responses_stop_the_inference_that_meets_them(kind: str, region: Region, code: ErrorCode) -> None:
    work = job()
    address = memory_map(work).base(region, 1) + 37
    result = runner.simulate(replace(work, memory=MemoryModel(**{kind: address})))
    assert [i.error for i in result.inferences] == [None, code, None]
    with pytest.raises(MismatchError, match=rf"inference 1: the accelerator must reach END, stopped with error {code.name} \(load engine\) at command 0"):
        result.check()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("m_axi_awlen = 0", "m_axi_awlen = 255", "write address"),
        ("m_axi_arburst = 1", "m_axi_arburst = 0", "read address"),
        ("m_axi_wlast = 1", "m_axi_wlast = 0", "wlast"),
    ],
)
def test_broken_bus_rules_are_reported(old: str, new: str, text: str) -> None:
    result = runner.simulate(job(verilog=STUB.replace(old, new), cycle_limit=200))
    assert any(text in violation for violation in result.violations)
    assert not runner.simulate(job()).violations


def test_violations_alone_fail_the_check() -> None:
    result = replace(runner.simulate(job()), violations=("12 read address withdrawn",))
    with pytest.raises(MismatchError, match=r"^co-simulation: the accelerator must keep the rules of its bus, 1 violations; first: 12 read address withdrawn$"):
        result.check()


def test_memory_outside_the_output_is_not_touched_and_the_pattern_shows_unwritten_bytes() -> None:
    work = job(output_bytes=SIZE + 32)  # the stub writes as many bytes as the output region has; the input is shorter
    with_gap = runner.simulate(replace(work, memory=MemoryModel(read_error=memory_map(work).base(Region.INPUT, 0) + 16)))
    assert with_gap.inferences[0].output[16:] == bytes([0xA5]) * (SIZE + 16)


def test_verilog_that_does_not_compile_is_a_tool_error() -> None:
    with pytest.raises(ToolError, match=r"^verilator: failed with exit code 1 while compiling the simulation:\n  %Error"):
        runner.simulate(job(verilog=STUB.replace("endmodule", "garbage", 1)))


@pytest.mark.parametrize("wire", ["trace_valid", "trace_accepted"])
def test_verilog_without_trace_is_refused(wire: str) -> None:
    with pytest.raises(ToolError, match=f"^Verilog of the accelerator: must hold the wire {wire}, which shows the simulation what happens inside; build"):
        simulator.trace_scope("module hwgen_accelerator (clk);\nendmodule\n", wire)


def test_the_trace_scope_is_the_module_that_holds_the_wires() -> None:
    text = "module hwgen_accelerator(clk);\nendmodule\nmodule \\hwgen_accelerator.compute.control (clk);\n  wire trace_valid;\nendmodule\n"
    text += "module \\hwgen_accelerator.activity (clk);\n  output [8:0] trace_cause;\n  output trace_accepted;\nendmodule\n"
    assert simulator.trace_scope(text) == "dut.compute.control"
    assert simulator.trace_scope(text, "trace_accepted") == "dut.activity"


def test_commands_are_recorded_with_their_times_and_causes() -> None:
    """The stub runs one command: a word is a pixel, every other cycle is a wait for a load."""
    result = runner.simulate(job())
    commands = result.commands
    assert commands is not None
    assert commands.inference.tolist() == [k for k in range(COUNT) for _ in range(2)]
    assert commands.ended.tolist() == [0, 1] * COUNT
    words = SIZE // CONFIG.bus_bytes
    for k, inference in enumerate(result.inferences):
        conv, run = 2 * k, 2 * k + 1
        assert commands.accepted[conv] == 0 < commands.first[conv] < commands.last[conv] < commands.done[conv] < commands.done[run] == inference.cycles
        assert commands.counts[conv].tolist() == [words - 1, commands.done[conv] - (words - 1), *[0] * (len(CAUSES) - 2)]
        assert commands.counts[run].tolist() == [words, inference.cycles - words, *[0] * (len(CAUSES) - 2)]
    assert runner.simulate(job(trace=False)).commands is None


def test_an_unwritable_cache_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"^cache folder .*: must be writable, .*; set HWGEN_CACHE to another folder$"):
        runner.simulate(job())


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HWGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "hwgen"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache/hwgen"


def test_memory_grows_in_steps() -> None:
    assert simulator.memory_size(0) == simulator.memory_size(simulator.MEMORY_BYTES) == simulator.MEMORY_BYTES
    assert simulator.memory_size(simulator.MEMORY_BYTES + 1) == 4 * simulator.MEMORY_BYTES


def test_too_many_operations_are_refused() -> None:
    with pytest.raises(DataError, match=r"^co-simulation: one run may take 131072 host operations, not 131073; run fewer inferences at once$"):
        script.encode_script([script.idle(1)] * script.MAX_OPERATIONS)


def test_regions_are_aligned_and_apart() -> None:
    work = job(program=b"p" * 100, weights=b"w" * 50, arena_bytes=33)
    places = memory_map(work)
    spans = []
    for region in Region:
        for index in range(COUNT if region in (Region.INPUT, Region.OUTPUT) else 1):
            spans.append((places.base(region, index), places.base(region, index) + places.size(region)))
    assert all(first % CONFIG.bus_bytes == 0 for first, _ in spans)
    ordered = sorted(spans)
    assert all(a[1] <= b[0] for a, b in zip(ordered, ordered[1:], strict=False))
    assert ordered[-1][1] <= places.end


@pytest.mark.parametrize("config", [PRESETS["4x4"], CONFIG])
def test_memory_images_hold_the_lowest_byte_in_the_lowest_bits(config: HardwareConfig) -> None:
    text = memory_image([(4 * config.bus_bytes, bytes(range(config.bus_bytes + 1)))], config.bus_bytes).split()
    assert text[0] == "@4"
    assert bytes.fromhex(text[1])[::-1] == bytes(range(config.bus_bytes))
    assert bytes.fromhex(text[2])[::-1] == bytes([config.bus_bytes]) + bytes([0xA5]) * (config.bus_bytes - 1)


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
def test_the_bench_gives_the_same_on_icarus(tmp_path: Path) -> None:
    work = job(memory=MemoryModel(latency_cycles=3, stall_probability=0.4, seed=9))
    wanted = runner.simulate(work)
    places = memory_map(work)
    operations = runner.setup_operations(work, places)
    for index in range(COUNT):
        operations += runner.inference_operations(work, places, index)
    (tmp_path / "memory.hex").write_text(memory_image(segments(work, places), CONFIG.bus_bytes))
    (tmp_path / "script.hex").write_text(script.encode_script(operations))
    (tmp_path / "stub.v").write_text(STUB)
    (tmp_path / "clock.v").write_text(
        "module clock; reg clk = 0; wire finished; always #5 clk = ~clk; bench #(.MEMORY_WORDS_LOG2(12)) b(.clk(clk), .finished(finished));"
        " always @(posedge clk) if (finished) $finish(0); endmodule\n"
    )
    sources = ["clock.v", *map(str, simulator.bench_sources(CONFIG.bus)), "stub.v"]
    subprocess.run(["iverilog", "-g2005", "-s", "clock", "-o", "sim", *sources], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(["vvp", "sim", *runner._arguments(work)], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    found = runner._inferences((tmp_path / "log.txt").read_text().splitlines(), (tmp_path / "dump.bin").read_bytes(), work)
    assert [i.output for i in found] == [i.output for i in wanted.inferences] == expected(work.inputs)
    assert [i.bench_cycles for i in found] == [i.bench_cycles for i in wanted.inferences]
    trace = runner.read_trace((tmp_path / "trace.bin").read_bytes(), CONFIG.in_lanes)
    assert wanted.trace is not None
    assert (trace.data == wanted.trace.data).all()
    assert (trace.cycle == wanted.trace.cycle).all()
    commands = runner.read_commands((tmp_path / "commands.bin").read_bytes())
    assert wanted.commands is not None
    assert (commands.counts == wanted.commands.counts).all()


def test_a_register_that_reset_forgets_shows_from_a_random_start() -> None:
    forgetful = STUB.replace("s_axil_rvalid <= 0; m_axi_awvalid <= 0;", "s_axil_rvalid <= 0;")
    assert forgetful != STUB
    work = job(verilog=forgetful, cycle_limit=300)
    runner.simulate(work).check()
    outcomes = [runner.simulate(replace(work, random_start=seed)) for seed in range(4)]
    assert any(not i.finished or i.output != wanted for o in outcomes for i, wanted in zip(o.inferences, expected(work.inputs), strict=True))
    for seed in range(4):
        result = runner.simulate(job(random_start=seed))
        result.check()
        assert [i.output for i in result.inferences] == expected(work.inputs)
