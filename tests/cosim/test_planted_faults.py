"""A fault planted in any rung must be caught: in the weights, the parameters, the program, and in the Verilog itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from random_graphs import random_graph
from system_support import CONFIGS, job_of, render, several_outputs_and_residuals

from hwgen import verify as verify_module
from hwgen.arith import Rounding
from hwgen.build import BuildRequest, build
from hwgen.cli import main
from hwgen.config import HardwareConfig
from hwgen.cosim.compare import compare
from hwgen.cosim.job import SimulationJob, SimulationResult
from hwgen.cosim.runner import simulate
from hwgen.errors import CapacityError, MismatchError
from hwgen.isa.fields import COMMAND_BYTES, Buffer
from hwgen.isa.instructions import Command, Conv, End, Load, Store
from hwgen.isa.program import decode, encode
from hwgen.ops.integer import Int8Array
from hwgen.rtl.command import command_layout
from hwgen.schedule.compile import CompiledNetwork, compile_network
from hwgen.verify import expectations, layer_comparisons, output_comparison

EXAMPLE = Path(__file__).parents[2] / "examples/digits"
REGRESS = bool(os.environ.get("HWGEN_REGRESS"))
CONFIG = CONFIGS["4x4"]


Fault = Callable[[SimulationJob], SimulationJob]


def flip(content: bytes, at: int, mask: int) -> bytes:
    return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def loads(job: SimulationJob, buffer: Buffer) -> list[Load]:
    return [command for command in decode(job.program) if isinstance(command, Load) and command.destination == buffer]


def in_weights(job: SimulationJob) -> SimulationJob:
    return replace(job, weights=flip(job.weights, loads(job, Buffer.WEIGHT)[0].memory_offset, 0x40))


def in_record(byte: int, mask: int) -> Fault:
    """In the first channel's parameter record: hwgen.layout.parameter_bytes."""
    return lambda job: replace(job, weights=flip(job.weights, loads(job, Buffer.PARAMETER)[0].memory_offset + byte, mask))


def any_command(command: Command) -> bool:
    return True


def in_command(kind: type, change: Callable[[Command], Command], accept: Callable[[Command], bool] = any_command) -> Fault:
    """In the first command of `kind` that `accept` takes."""

    def plant(job: SimulationJob) -> SimulationJob:
        commands = list(decode(job.program))
        at = next(k for k, command in enumerate(commands) if isinstance(command, kind) and accept(command))
        commands[at] = change(commands[at])
        return replace(job, program=encode(commands))

    return plant


def add(name: str, amount: int = 1) -> Callable[[Command], Command]:
    return lambda command: replace(command, **{name: getattr(command, name) + amount})


def last_store(job: SimulationJob) -> SimulationJob:
    commands = list(decode(job.program))
    end = next(k for k, command in enumerate(commands) if isinstance(command, End))  # another program may lie behind this one
    at = max(k for k, command in enumerate(commands[:end]) if isinstance(command, Store))
    commands[at] = add("buffer_address")(commands[at])
    return replace(job, program=encode(commands))


FAULTS = {
    "a weight's bit": in_weights,
    "the sign of a bias": in_record(3, 0x80),
    "a bit of a multiplier": in_record(6, 0x40),
    "a shift by one too many": in_record(8, 0x01),
    "a lower clamp bound": in_record(9, 0xC0),
    "an upper clamp bound": in_record(10, 0xFF),
    "a zero point": in_record(11, 0x04),
    "an output address": in_command(Conv, add("output_address")),
    "an input address": in_command(Conv, add("input_address")),
    "a weight address": in_command(Conv, add("weight_address")),
    "a row too few": in_command(Conv, add("output_rows", -1), lambda c: c.output_rows > 1),
    "a row stride": in_command(Conv, add("output_row_stride"), lambda c: c.output_rows > 1),
    "the padding's value": in_command(Conv, lambda c: replace(c, pad_value=c.pad_value ^ 0x40), lambda c: c.origin_row < 0 or c.origin_column < 0),
    "a residual's constant": in_command(Conv, lambda c: replace(c, residual_offset=-c.residual_offset), lambda c: c.residual == 1),
    "a residual's address": in_command(Conv, add("residual_address"), lambda c: c.residual == 1),
    "a token that nobody gives": in_command(Load, lambda c: replace(c, signal_compute=0), lambda c: c.signal_compute == 1),
    "the first weights loaded to another place": in_command(Load, add("buffer_address"), lambda c: c.destination == Buffer.WEIGHT),
    "the place of an output": last_store,
}


def first_catch(job: SimulationJob, network: CompiledNetwork, codes: dict[str, Int8Array]) -> str:
    """What notices a fault: nothing (empty), the run itself, the comparison of the layers, or that of the outputs."""
    result = simulate(job)
    try:
        result.check()
    except MismatchError:
        return "run"
    assert result.trace is not None
    if not all(layer.equal for layer in compare(expectations(network, codes), result.trace, network.config.activation_words)):
        return "layers"
    try:
        output_comparison(network, codes, result)
    except MismatchError:
        return "outputs"
    return ""


def test_weights_overwritten_between_two_runs_are_caught() -> None:
    """By a LOAD behind the cold program's last CONV; the cold run itself is right."""
    network = compile_network(several_outputs_and_residuals(CONFIG).graph, CONFIG)  # both programs
    assert network.resident is not None
    job, codes = job_of(network, 2)
    cold = list(network.cold.commands)
    last = max(k for k, command in enumerate(cold) if isinstance(command, Conv))
    cold[last] = replace(cold[last], signal_load=1)
    first = loads(job, Buffer.WEIGHT)[0]
    cold.insert(-1, replace(first, wait_compute=1, signal_compute=0, memory_offset=first.memory_offset + job.config.bus_bytes))
    for commands, wrong_inference in ((network.cold.commands, None), (tuple(cold), 1)):
        program = encode(commands) + encode(network.resident.commands)
        result = simulate(replace(job, program=program, later_entry=len(commands) * COMMAND_BYTES))
        result.check()
        assert result.trace is not None
        layers = layer_comparisons(network, codes, result.trace)
        assert {layer.first.inference for layer in layers if layer.first is not None} == ({1} if wrong_inference else set())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_program_or_weights_is_caught(fault: str) -> None:
    network = several_outputs_and_residuals(CONFIG)
    job, codes = job_of(network, 2, limit_cycles=20_000)
    changed = FAULTS[fault](job)
    assert (changed.program, changed.weights) != (job.program, job.weights)
    wanted = {"a token that nobody gives": "run", "the place of an output": "outputs"}.get(fault, "layers")
    assert first_catch(changed, network, codes) == wanted


def test_without_a_fault_nothing_is_caught() -> None:
    network = several_outputs_and_residuals(CONFIG)
    job, codes = job_of(network, 2)
    assert first_catch(job, network, codes) == ""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """What is exchanged in the Verilog, and by what: the first place, or all of them."""

    pattern: str
    replacement: str
    everywhere: bool = False

    def plant(self, verilog: str) -> str:
        changed, count = re.subn(self.pattern, self.replacement, verilog, count=0 if self.everywhere else 1)
        assert count, f"{self.pattern} stands nowhere: the Verilog has changed, and the fault wants another place"
        return changed


def ignored_field(name: str) -> Mutant:
    """The machine takes a field of CONV for 0 in one place."""
    field = command_layout(Conv, CONFIG)[name]
    return Mutant(pattern=rf"\bcommand\[{field.offset + field.width - 1}:{field.offset}\]", replacement=f"{field.width}'d0")


def ignored_bits(name: str) -> Mutant:
    """Likewise, of a field that is read bit by bit, everywhere."""
    field = command_layout(Conv, CONFIG)[name]
    bits = "|".join(str(field.offset + bit) for bit in range(field.width))
    return Mutant(pattern=rf"\bcommand\[({bits})\]", replacement="1'd0", everywhere=True)


IGNORED = (
    *("input_row_step", "kernel_row_step", "input_block_stride", "stride_columns", "dilation_columns", "origin_row", "pixels_per_tile"),
    *("output_row_stride", "output_block_stride", "residual_row_stride", "residual_multiplier_b"),
)
MUTANTS = {
    "a sum of products with a wrong sign": Mutant(pattern=r"(\$signed\(product_1_2\)) \+", replacement=r"\1 -"),
    "a row without its bias": Mutant(pattern=r"\$signed\(base_2\) \+ ", replacement="$signed(1'h0) + "),
    "another weight lane": Mutant(pattern=r"\$signed\(product_2_3\)", replacement="$signed(product_2_2)"),
    "a zero point subtracted": Mutant(pattern=r"\+ \$signed\(lane3_3_zero_point\)", replacement="- $signed(lane3_3_zero_point)"),
    "a shift without sign": Mutant(pattern=r"\blane0_1_product\[55\]", replacement="1'd0", everywhere=True),
    "a shift by another lane's amount": Mutant(pattern=r"\blane1_2_shift\[", replacement="lane0_2_shift[", everywhere=True),
    **{f"{name} ignored": ignored_field(name) for name in IGNORED},
    "residual_shift ignored": ignored_bits("residual_shift"),
}
IN_CI = ("a row without its bias", "output_row_stride ignored")  # each compiles for some seconds


def shows(verilog: str, config: HardwareConfig) -> bool:
    """Whether a network shows the fault: one that works every row of the array, then others, for what this one does not use."""
    tried = [several_outputs_and_residuals(config)]
    for seed in range(25):
        with contextlib.suppress(CapacityError):
            tried.append(compile_network(random_graph(seed, nodes=6, multiplier_bits=config.multiplier_bits, rounding=config.rounding), config))
    jobs = ((network, *job_of(network, 2, limit_cycles=100_000)) for network in tried)
    return any(first_catch(replace(job, verilog=verilog, optimized=False), network, codes) for network, job, codes in jobs)


def test_every_fault_has_a_place_in_the_verilog() -> None:
    """Those that only the long run compiles too: a block that is written anew must not lose its faults unseen."""
    verilog = render(CONFIG)
    assert all(mutant.plant(verilog) != verilog for mutant in MUTANTS.values())


@pytest.mark.parametrize("name", MUTANTS if REGRESS else IN_CI)
def test_a_fault_in_the_verilog_is_caught(name: str) -> None:
    assert shows(MUTANTS[name].plant(render(CONFIG)), CONFIG)


ARITHMETIC = {
    "rounding": ("8x8", {"rounding": Rounding.HALF_UP}),  # shifts alone: every second result is a tie
    "multiplier_bits": ("4x4", {"multiplier_bits": 16}),
}


@pytest.mark.skipif(not REGRESS, reason="set HWGEN_REGRESS: compiles for some seconds each")
@pytest.mark.parametrize("case", ARITHMETIC)
def test_hardware_of_another_arithmetic_is_caught(case: str) -> None:
    """Arithmetic: rounding half up in the model and half away in RTL."""
    name, changes = ARITHMETIC[case]
    assert shows(render(replace(CONFIGS[name], **changes)), CONFIGS[name])


def test_verify_exits_with_1_and_names_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Experience: no per-layer comparison when accuracy drops."""
    out = tmp_path / "out"
    build(BuildRequest(model=EXAMPLE / "model.onnx", calibration=EXAMPLE / "calibration.npz", out=out, hardware=CONFIG))
    assert main(["verify", str(out), "--count", "1"]) == 0
    capsys.readouterr()

    def faulty(job: SimulationJob, **options: object) -> SimulationResult:
        return simulate(in_weights(job), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(verify_module, "simulate", faulty)
    assert main(["verify", str(out), "--count", "1"]) == 1
    report = json.loads((out / "report/report.json").read_text())
    first = report["layers"][0]
    assert 0 < first["mismatches"] < first["elements"]
    assert first["name"] in capsys.readouterr().out
