"""Hardware: start after abort, two runs in a row, reset in the middle, interrupts, counters: the whole machine with its real compute engine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from system_support import CONFIGS, Run, Session, job_of, perform, several_outputs_and_residuals

from hwgen.cosim import runner, script
from hwgen.cosim.job import MemoryModel
from hwgen.cosim.memory import memory_map
from hwgen.errors import MismatchError
from hwgen.isa.fields import Region
from hwgen.isa.instructions import Conv, Load, Store
from hwgen.isa.registers import CAUSES, ErrorCode, offset_of
from hwgen.schedule.compile import CompiledNetwork

ABORT = script.write("control", 2)
STALLS = MemoryModel(latency_cycles=9, stall_probability=0.4, seed=3, aligned=False)
CASES = {"4x4": MemoryModel(), "8x16": STALLS, "wishbone": STALLS, "serial": STALLS}


def assert_clean(session: Session, *right: int) -> None:
    """These runs are right to the word; nothing but outputs was written, and the bus rules were kept."""
    for run in right:
        assert session.is_right(run), (run, session.runs[run].explain(), [str(layer.first) for layer in session.layers(run) if not layer.equal])
    assert session.untouched_outside_the_outputs()
    assert not session.violations


@pytest.mark.parametrize("name", CASES)
def test_start_after_abort(name: str) -> None:
    """The abort falls into every phase of a run: program fetch, loads, every layer, stores beside layers, the end."""
    network = several_outputs_and_residuals(CONFIGS[name])
    probe, codes = job_of(network, 1, CASES[name])
    cycles = perform(network, probe, codes, [Run()]).runs[0].cycles
    steps = 24 if name == "serial" else 40  # of a longer run
    moments = [*range(0, 40, 3), *range(40, cycles - 60, cycles // steps), *range(cycles - 60, cycles + 6, 6)]
    runs = [run for moment in moments for run in (Run(meanwhile=(script.idle(moment), ABORT)), Run())]
    job, codes = job_of(network, len(runs), CASES[name])
    session = perform(network, job, codes, runs)
    assert_clean(session, *range(1, len(runs), 2))
    errors = [session.runs[k].error for k in range(0, len(runs), 2)]
    assert set(errors) <= {ErrorCode.ABORTED, None}
    assert errors.count(ErrorCode.ABORTED) > len(errors) * 3 // 4
    for k in range(0, len(runs), 2):
        assert session.is_right_where_written(k)
        if session.runs[k].error is not None:
            assert session.runs[k].explain().startswith("stopped with error ABORTED (sequencer) at command ")


@pytest.mark.parametrize("name", CASES)
def test_two_runs_in_a_row(name: str) -> None:
    """Without reset and after one; equal cycles where the memory is ideal."""
    network = several_outputs_and_residuals(CONFIGS[name])
    job, codes = job_of(network, 5, CASES[name])
    again = (script.reset(3), *runner.setup_operations(job, memory_map(job)))
    session = perform(network, job, codes, [Run(), Run(), Run(after=again), Run(before=(script.idle(33),)), Run()])
    assert_clean(session, *range(5))
    if not CASES[name].stall_probability:
        assert len({run.cycles for run in session.runs}) == 1


@pytest.mark.parametrize("name", CASES)
def test_transfers_across_4_kib_boundaries(name: str) -> None:
    """Every region lies across one, in the middle of a burst; the bench reports a burst that crosses it."""
    network = several_outputs_and_residuals(CONFIGS[name])
    job, codes = job_of(network, 6, replace(CASES[name], aligned=False))
    places = memory_map(job)
    spans = [(places.base(region, run), places.size(region)) for region in Region for run in range(6) if places.size(region)]
    assert sum(base // 4096 != (base + size - 1) // 4096 for base, size in spans) >= 3
    assert_clean(perform(network, job, codes, [Run()] * 6), *range(6))


def test_reset_in_the_middle_of_a_run() -> None:
    network = several_outputs_and_residuals(CONFIGS["8x16"])
    job, codes = job_of(network, 12, MemoryModel(latency_cycles=5))
    setup = runner.setup_operations(job, memory_map(job))
    cycles = network.predict(5).total_cycles
    # The reset run is set up anew and started without a program, so that its wait for an interrupt ends.
    ended = (*setup, script.write("program_size", 0), script.write("control", 1))
    runs = []
    for moment in (1 + k * cycles // 6 for k in range(6)):
        runs += [Run(meanwhile=(script.idle(moment), script.reset(2), *ended), after=tuple(setup)), Run()]
    session = perform(network, job, codes, runs)
    assert_clean(session, *range(1, len(runs), 2))
    assert [session.runs[k].error for k in range(0, len(runs), 2)] == [ErrorCode.REGION] * (len(runs) // 2)


def test_interrupts_can_be_masked_and_cleared() -> None:
    network = several_outputs_and_residuals(CONFIGS["4x4"])
    job, codes = job_of(network, 3)
    status, pending, enable = "status", "interrupt_status", "interrupt_enable"
    cycles = network.predict(1).total_cycles
    # Masked: the run ends, the interrupt is pending and shows when it is enabled. Then only failures are enabled: an abort raises it.
    masked = (script.idle(cycles + 50), script.read(pending), script.read(status), script.write(enable, 3))
    runs = [
        Run(before=(script.write(enable, 0),), meanwhile=masked, after=(script.read(pending), script.write(enable, 2))),
        Run(meanwhile=(script.idle(100), ABORT), after=(script.read(pending), script.write(enable, 3))),
        Run(),
    ]
    session = perform(network, job, codes, runs, last=[script.read(status), script.read(pending), script.wait_irq(500)])
    assert_clean(session, 0)
    found = [(run, value) for run, offset, value in session.reads if offset == offset_of(pending)]
    assert found == [(0, 1), (0, 0), (1, 0), (2, 0)]
    assert session.runs[0].bench_cycles < 20, "the interrupt comes as soon as it is enabled"
    assert session.runs[1].error is ErrorCode.ABORTED
    assert session.runs[2].error is None and all(layer.equal for layer in session.layers(2))
    assert not session.runs[2].finished, "nothing is pending any more: the last wait ends by its limit"


@pytest.mark.parametrize("name", [name for name in CASES if CONFIGS[name].counters])
def test_counters(name: str) -> None:
    """failures.md, larger arrays that are hardly faster: where the cycles go can be read off the machine."""
    network = several_outputs_and_residuals(CONFIGS[name])
    job, codes = job_of(network, 2, CASES[name])
    session = perform(network, job, codes, [Run(meanwhile=(script.idle(200), ABORT)), Run()])
    assert_clean(session, 1)
    registers, bus = session.runs[1].registers, network.config.bus_bytes
    moved = {kind: sum(c.rows * c.row_bytes // bus for c in network.commands if isinstance(c, kind)) for kind in (Load, Store)}
    convs = [c for c in network.commands if isinstance(c, Conv)]
    assert registers["write_beats"] == moved[Store]
    assert moved[Load] + len(job.program) // bus == registers["read_beats"]
    assert registers["commands"] == len(network.commands)
    assert registers["array_busy"] == sum(c.output_tiles * c.passes * c.output_rows * c.output_columns for c in convs)
    assert all(registers[counter] < registers["cycles"] for counter in ("array_busy", "compute_wait", "load_busy", "store_busy"))
    for run in session.runs:
        assert sum(run.registers[cause] for cause in CAUSES) == run.registers["cycles"], "every cycle has exactly one cause"
    assert (registers["error"], registers["error_command"], registers["error_address"]) == (0, 0, 0), "start clears the error of the run before"


def test_a_bus_that_never_answers_is_a_clear_error() -> None:
    """The watchdog ends the run; without it the bench's limit does."""
    network = several_outputs_and_residuals(CONFIGS["4x4"])
    job, _ = job_of(network, 2, MemoryModel(latency_cycles=1 << 24), limit_cycles=3000)
    with pytest.raises(MismatchError, match=r"^co-simulation, inference 0: the accelerator must reach END, no interrupt within 300\d cycles$"):
        runner.simulate(job).check()
    watched = runner.simulate(replace(job, watchdog_cycles=700))
    assert watched.inferences[0].error is ErrorCode.WATCHDOG
    assert watched.inferences[0].cycles == 701
    assert watched.inferences[0].registers["status"] == 0b101, "failed, and busy as long as the memory owes an answer"
    with pytest.raises(MismatchError, match=r"inference 0: the accelerator must reach END, stopped with error WATCHDOG \(sequencer\) at command 0,"):
        watched.check()


def test_a_watchdog_that_is_just_long_enough() -> None:
    network = several_outputs_and_residuals(CONFIGS["8x16"])
    job, codes = job_of(network, 3)
    cycles = network.predict(1).total_cycles
    measured = perform(network, job, codes, [Run()]).runs[0].cycles
    assert abs(measured - cycles) < 0.05 * cycles
    limits = [measured, measured - 1, measured - 40]
    session = perform(network, job, codes, [Run(before=(script.write("watchdog", limit),)) for limit in limits])
    assert_clean(session, 0)
    assert [run.error for run in session.runs] == [None, ErrorCode.WATCHDOG, ErrorCode.WATCHDOG]
    assert all(session.is_right_where_written(run) for run in (1, 2))


def test_a_stopped_machine_is_left_alone_until_its_memory_has_answered() -> None:
    """The interrupt of an error comes long before the last answer of a slow memory; a start before that would be ignored."""
    network = several_outputs_and_residuals(CONFIGS["4x4"])
    job, codes = job_of(network, 4, MemoryModel(latency_cycles=2000))
    stopped = Run(meanwhile=(script.idle(50), ABORT))
    session = perform(network, job, codes, [stopped, Run(), stopped, Run()])
    assert_clean(session, 1, 3)
    for run in (0, 2):
        assert session.runs[run].error is ErrorCode.ABORTED
        assert session.runs[run].registers["status"] == 0b100, "failed, and no longer busy"
        assert session.runs[run].bench_cycles < 100 < 2000 < session.runs[run + 1].cycles


@pytest.mark.parametrize("name", ["8x8", "wishbone"])
@pytest.mark.parametrize("first_address", [(1 << 32) - (1 << 13), 0xFF_FFE0_0000], ids=["across_4_gib", "near_the_top"])
def test_memory_above_4_gib(name: str, first_address: int) -> None:
    """Regions that lie across and above 4 GiB; an address that lost its upper bits gets an error response."""
    network = several_outputs_and_residuals(CONFIGS[name])
    job, codes = job_of(network, 3, MemoryModel(latency_cycles=3, aligned=False, first_address=first_address))
    output = memory_map(job).base(Region.OUTPUT, 1)
    assert output >> 32
    lost = Run(before=(script.write("output_base_high", 0),))
    session = perform(network, job, codes, [Run(), lost, Run()])
    assert_clean(session, 0, 2)
    assert session.runs[1].error is ErrorCode.BUS_WRITE
    assert session.runs[1].registers["error_address"] == (output + first_store(network).memory_offset) % (1 << 32)


def first_store(network: CompiledNetwork) -> Store:
    return next(command for command in network.commands if isinstance(command, Store))
