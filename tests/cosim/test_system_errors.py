"""Hardware: error responses, and every other way to stop the machine. It names what is wrong and where, writes nothing outside, and runs again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from system_support import CONFIGS, Run, Session, job_of, perform, several_outputs_and_residuals

from hwgen.cosim import script
from hwgen.cosim.job import InferenceResult, MemoryModel, SimulationJob
from hwgen.cosim.memory import FILL, MemoryMap, memory_map
from hwgen.cosim.script import Operation
from hwgen.isa.fields import COMMAND_BYTES, Buffer, Engine, Region
from hwgen.isa.instructions import Command, Conv, End, Load, Store
from hwgen.isa.machine import Memories, ProgramError
from hwgen.isa.program import encode
from hwgen.isa.registers import ErrorCode
from hwgen.isa.simulate import simulate
from hwgen.packing import WeightFormat
from hwgen.schedule.compile import CompiledNetwork

SEQUENCER = 3
STALLS = MemoryModel(latency_cycles=9, stall_probability=0.4, seed=3, aligned=False)
CASES = {"4x4": MemoryModel(), "8x16": STALLS, "wishbone": STALLS, "serial": MemoryModel(latency_cycles=5)}


def first(commands: tuple[Command, ...], kind: type, accept: Callable[[Command], bool] = lambda command: True) -> int:
    return next(k for k, command in enumerate(commands) if isinstance(command, kind) and accept(command))


def faulty_programs(network: CompiledNetwork) -> dict[str, bytes]:
    """Programs with one wrong record each."""
    commands, c = network.commands, network.config
    weights = first(commands, Load, lambda load: load.destination == Buffer.WEIGHT)
    last_store = max(k for k, command in enumerate(commands) if isinstance(command, Store))
    last_conv = max(k for k, command in enumerate(commands) if isinstance(command, Conv))

    def patched(index: int, **changes: int) -> bytes:
        return encode([*commands[:index], replace(commands[index], **changes), *commands[index + 1 :]])

    def opcode(index: int, value: int) -> bytes:
        program = bytearray(network.program)
        program[index * COMMAND_BYTES] = value
        return bytes(program)

    packed = {}
    if c.weight_decoder:
        words = -(-commands[weights].row_bytes // c.weight_word_bytes)
        packed = {
            "a format that does not exist": patched(weights, format=len(WeightFormat)),
            "parameters of few bits": patched(first(commands, Load, lambda load: load.destination == Buffer.PARAMETER), format=WeightFormat.TERNARY),
            "weights too long when unpacked": patched(weights, format=WeightFormat.BINARY, buffer_address=c.weight_words - words),
        }
    return (
        packed
        | {
            "unknown command at the start": opcode(0, 0x7F),
            "unknown command in the middle": opcode(len(commands) // 2, 0),
            "unknown command instead of END": opcode(len(commands) - 1, 0xFF),
            "misaligned length": patched(weights, row_bytes=commands[weights].row_bytes + 1),
            "misaligned offset": patched(last_store, memory_offset=commands[last_store].memory_offset + 2),
            "no bytes": patched(0, row_bytes=0),
            "no rows": patched(last_store, rows=0),
            "weights beyond their buffer": patched(weights, buffer_address=c.weight_words - 1),
            "a store beyond the buffer": patched(last_store, buffer_address=c.activation_words),
            "a buffer that does not exist": patched(weights, destination=3),
            "a region that does not exist": patched(last_store, region=7),
            "a load behind its region": patched(weights, memory_offset=len(network.weights)),
            "a store behind its region": patched(last_store, memory_offset=network.region_bytes()[Region.OUTPUT]),
            "an offset that wraps": patched(last_store, memory_offset=(1 << 32) - c.bus_bytes),
            "a token that nobody gives": patched(last_conv, wait_compute=1),  # engines give none to themselves
            "no END": network.program[:-COMMAND_BYTES],
        }
    )


def predicted_error(network: CompiledNetwork, program: bytes, entry: int = 0, **sizes: int) -> ProgramError:
    """What the instruction simulator says of a program, in regions of these sizes (others: as compiled)."""
    memories = Memories(config=network.config)
    memories.regions = {region: np.zeros(sizes.get(region.name.lower(), size), np.uint8) for region, size in network.region_bytes().items()}
    memories.regions[Region.PROGRAM] = np.frombuffer(bytes(entry) + program, np.uint8)
    with pytest.raises(ProgramError) as stop:
        simulate(memories, entry, queue_depth=2)
    return stop.value


def where(error: ProgramError, commands: tuple[Command, ...], places: MemoryMap, run: int) -> tuple[int, int, int, int | None]:
    """A predicted error as the registers show it: code, engine, command, address (None where the prediction does not say)."""
    guilty = commands[error.command] if error.command < len(commands) else End()
    program_alone = error.code is ErrorCode.UNKNOWN_COMMAND or guilty.engine is None
    engine = SEQUENCER if program_alone or error.code is ErrorCode.WATCHDOG else int(guilty.engine)
    if error.code in (ErrorCode.WATCHDOG, ErrorCode.ALIGNMENT):
        return error.code, engine, error.command, None
    if error.code in (ErrorCode.BUFFER, ErrorCode.FORMAT):
        return error.code, engine, error.command, error.address
    region = Region.PROGRAM if program_alone else Region(guilty.region)
    return error.code, engine, error.command, (places.base(region, run) + error.address) % (1 << 32)


def stop_of(found: InferenceResult, like: tuple[int, int, int, int | None]) -> tuple[int, int, int, int | None]:
    error, address = found.registers["error"], found.registers["error_address"]
    return error & 0xFF, error >> 8, found.registers["error_command"], None if like[3] is None else address


def assert_harmless(session: Session, failed: list[int], right: list[int]) -> None:
    """Failed runs left right bytes or none; the others are right to the word."""
    assert all(session.is_right_where_written(run) for run in failed)
    assert all(session.is_right(run) for run in right), [(run, session.runs[run].explain()) for run in right]
    assert session.untouched_outside_the_outputs()
    assert not session.violations


@pytest.mark.parametrize("name", CASES)
def test_faulty_programs_stop_the_machine_and_the_next_run_is_right(name: str) -> None:
    """All programs lie in one region, one behind the other: program_entry chooses, and is 0 for none of the right runs."""
    network = several_outputs_and_residuals(CONFIGS[name])
    faulty = faulty_programs(network)
    if name == "serial":  # it waits for no token
        del faulty["a token that nobody gives"]
    job, codes = job_of(network, 2 * len(faulty), CASES[name])
    program, entries = b"".join([*faulty.values(), network.program]), np.cumsum([0, *map(len, faulty.values())]).tolist()
    job = replace(job, program=program, watchdog_cycles=100_000, program_entry=entries[-1])
    places, size, runs = memory_map(job), len(program), []
    for (title, content), entry in zip(faulty.items(), entries[:-1], strict=True):
        end = entry + len(content) if title == "no END" else size
        watchdog = 9000 if "token" in title else 100_000
        before = (script.write("program_entry", entry), script.write("program_size", end), script.write("watchdog", watchdog))
        after = (script.write("program_entry", entries[-1]), script.write("program_size", size), script.write("watchdog", 100_000))
        runs += [Run(before=before, after=after), Run()]
    session, wrong = perform(network, job, codes, runs), []
    for k, (title, content) in enumerate(faulty.items()):
        wanted = where(predicted_error(network, content, entries[k]), network.commands, places, 2 * k)
        if title == "a region that does not exist":
            wanted = (*wanted[:3], None)  # no base to add the offset to
        found = stop_of(session.runs[2 * k], wanted)
        if wanted[0] == ErrorCode.WATCHDOG:
            found = (*found[:2], wanted[2], found[3])  # the records behind the one that waits still leave for their queues
        if found != wanted:
            wrong.append((title, found, wanted))
    assert not wrong
    assert_harmless(session, list(range(0, len(runs), 2)), list(range(1, len(runs), 2)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("region", [Region.PROGRAM, Region.WEIGHTS, Region.INPUT, Region.OUTPUT])
def test_a_region_that_is_too_small_is_never_left(name: str, region: Region) -> None:
    network = several_outputs_and_residuals(CONFIGS[name])
    job, codes = job_of(network, 8, CASES[name])
    places, bus, register = memory_map(job), network.config.bus_bytes, f"{region.name.lower()}_size"
    full = network.region_bytes()[region]
    sizes = [0, bus, full // 2 // bus * bus, full - bus]
    restore = (script.write(register, full),)
    runs = [run for size in sizes for run in (Run(before=(script.write(register, size),), after=restore), Run())]
    session = perform(network, job, codes, runs)
    for k, size in enumerate(sizes):
        program = network.program[:size] if region is Region.PROGRAM else network.program
        error = predicted_error(network, program, **({} if region is Region.PROGRAM else {region.name.lower(): size}))
        commands = network.commands[: size // COMMAND_BYTES] if region is Region.PROGRAM else network.commands
        wanted = where(error, commands, places, 2 * k)
        assert wanted[0] == ErrorCode.REGION
        assert stop_of(session.runs[2 * k], wanted) == wanted
    assert_harmless(session, [0, 2, 4, 6], [1, 3, 5, 7])


def bus_error_cases(network: CompiledNetwork, job: SimulationJob) -> dict[str, tuple[str, int, int, ErrorCode, tuple[Operation, ...]]]:
    """kind, address, engine, code and what run 1 does to meet it. Weights and program have a second copy that only run 1 uses."""
    places, bus = memory_map(job), network.config.bus_bytes
    weights, half = places.base(Region.WEIGHTS) + len(network.weights), len(network.program)
    again = (script.write("program_entry", half),)
    return {
        "input": ("read_error", places.base(Region.INPUT, 1) + 3, Engine.LOAD, ErrorCode.BUS_READ, ()),
        "weights": ("read_error", weights + len(network.weights) // 2, Engine.LOAD, ErrorCode.BUS_READ, (script.write("weights_base", weights),)),
        "program": ("read_error", places.base(Region.PROGRAM) + half + 5 * COMMAND_BYTES + bus, SEQUENCER, ErrorCode.BUS_READ, again),
        "output": ("write_error", places.base(Region.OUTPUT, 1) + 1, Engine.STORE, ErrorCode.BUS_WRITE, ()),
        "last output": ("write_error", places.base(Region.OUTPUT, 2) - places.output_stride + job.output_bytes - 1, Engine.STORE, ErrorCode.BUS_WRITE, ()),
    }


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("case", ["input", "weights", "program", "output", "last output"])
def test_error_responses_stop_the_run_that_meets_them(name: str, case: str) -> None:
    network = several_outputs_and_residuals(CONFIGS[name])
    job, codes = job_of(network, 3, CASES[name])
    job = replace(job, weights=job.weights * 2, program=job.program * 2)
    kind, address, engine, code, before = bus_error_cases(network, job)[case]
    job = replace(job, memory=replace(CASES[name], **{kind: address}))
    places = memory_map(job)
    after = (script.write("program_entry", 0), script.write("weights_base", places.base(Region.WEIGHTS)))
    session = perform(network, job, codes, [Run(), Run(before=before, after=after), Run()])
    found = session.runs[1]
    assert (found.error, found.registers["error"] >> 8) == (code, engine), found.explain()
    bus = network.config.bus_bytes
    burst = 1 if code is ErrorCode.BUS_READ else 16  # a write is answered per burst
    at = found.registers["error_address"]
    if case == "program":
        assert at == places.base(Region.PROGRAM) + len(network.program) + 5 * COMMAND_BYTES
        assert found.registers["error_command"] == 5
    else:
        assert at <= address < at + burst * bus, (hex(at), hex(address))
        region = {"input": Region.INPUT, "weights": Region.WEIGHTS}.get(case, Region.OUTPUT)
        guilty = network.commands[found.registers["error_command"]]
        assert isinstance(guilty, Load | Store) and guilty.region == region
        base = places.base(Region.WEIGHTS) + len(network.weights) if case == "weights" else places.base(region, 1)
        row = guilty.memory_row_stride * (guilty.rows - 1) + guilty.row_bytes
        assert base + guilty.memory_offset <= address < base + guilty.memory_offset + row
    assert_harmless(session, [1], [0, 2])


def test_a_run_that_stops_leaves_the_rest_of_the_output_as_it_was() -> None:
    """The stores of later outputs do not happen once an earlier command has failed."""
    network = several_outputs_and_residuals(CONFIGS["4x4"])
    job, codes = job_of(network, 2)
    session = perform(network, job, codes, [Run(before=(script.write("input_size", 0),)), Run(before=(script.write("watchdog", 5),))])
    assert [run.error for run in session.runs] == [ErrorCode.REGION, ErrorCode.WATCHDOG]
    assert all(run.output == bytes([FILL]) * job.output_bytes for run in session.runs)
    assert End in [type(command) for command in network.commands]
