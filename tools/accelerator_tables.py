"""The generated parts of docs/accelerator.md."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path

from amaranth.lib.wiring import In, Out

import hwgen.isa.latency as latency
from hwgen.build import QuantizeOptions
from hwgen.config import DEFAULT_PRESET, PRESETS, Bus, HardwareConfig, Machine
from hwgen.isa.instructions import Command, Conv, Store
from hwgen.isa.program import disassemble
from hwgen.isa.registers import ErrorCode
from hwgen.network import for_hardware, load_network
from hwgen.progress import Silent
from hwgen.rtl.top import bus_ports
from hwgen.schedule.compile import compile_network
from hwgen.schedule.cost import command_cycles, slices_per_pixel

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = {
    "out_lanes": "M: output channels computed at once",
    "in_lanes": "N: products per output channel and cycle; bytes of an activation word",
    "activation_words": "words of N bytes",
    "weight_words": "words of max(1, M/4) x N bytes",
    "parameter_words": "words of max(1, M/4) records of 16 bytes",
    "accumulator_depth": "D: pixels whose partial sums are kept",
    "accumulator_bits": "width of sums",
    "requantize_lanes": "Q: results per cycle; 0 in a TOML file: min(M, N)",
    "window_taps": "T: taps of a channel in depthwise mode, 4, 8 or 16; 0 in a TOML file: min(N, 16)",
    "multiplier_bits": "width of the requantization multiplier; 0 builds none, scales must then be powers of two",
    "rounding": "of requantization and addition",
    "bus": "of memory and registers: axi4 or wishbone",
    "bus_bits": "width of the memory bus; 0 in a TOML file: 8 N, at most 128",
    "address_bits": "width of memory addresses",
    "watchdog_bits": "width of the watchdog register",
    "output_gaps": "whether results may be written with gaps between columns, which enlargements need",
    "activation_tables": "tables of 256 codes that lie on chip at once, 0, 1, 2, 4 or 8; 0 builds none",
    "machine": "parallel, or the [serial machine](#the-serial-machine)",
    "weight_decoder": "whether weights of few bits lie packed in memory and are unpacked on their way into the weight buffer",
    "counters": "whether the machine counts where its cycles go; without, only `cycles` and `commands`",
}
ERRORS = {
    ErrorCode.NONE: ("-", "-", "no error"),
    ErrorCode.UNKNOWN_COMMAND: ("sequencer", "the record's memory address", "the opcode is none of those in commands.md"),
    ErrorCode.REGION: (
        "load, store, sequencer",
        "the row's memory address",
        "the row (of the sequencer: the next record) does not lie wholly in its region, or the region does not exist",
    ),
    ErrorCode.BUS_READ: ("load, sequencer", "the bus word's address (sequencer: the record's)", "SLVERR or DECERR on R, `err` to a read"),
    ErrorCode.BUS_WRITE: ("store", "the burst's address", "SLVERR or DECERR on B, `err` to a write"),
    ErrorCode.WATCHDOG: ("sequencer", "0", "the program ran for `watchdog` cycles; the command is the next to be dispatched"),
    ErrorCode.ABORTED: ("sequencer", "0", "`control.abort`; the command is the next to be dispatched"),
    ErrorCode.ALIGNMENT: (
        "load, store, sequencer",
        "the row's memory address",
        "region base, offset, row length or (with several rows) row stride is no multiple of the bus word, or there are 0 rows or bytes",
    ),
    ErrorCode.BUFFER: ("load, store", "the row's buffer word", "the row reaches beyond the buffer, or the buffer does not exist"),
    ErrorCode.FORMAT: (
        "load",
        "the row's buffer word",
        "the weight format does not exist, or the buffer takes none; hardware without a decoder does not look at the format",
    ),
    ErrorCode.TOKENS: ("the giving engine", "0", "a 256th token was given that nobody had taken"),
}
# Lines of the example whose numbers follow from shapes alone: the same on every machine.


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def parameters() -> str:
    """Every field of HardwareConfig with its values in the presets."""
    names = [field.name for field in dataclasses.fields(HardwareConfig) if field.name != "name"]
    rows = [[f"`{name}`", PARAMETERS[name], *(_plain(getattr(config, name)) for config in PRESETS.values())] for name in names]
    return table(["parameter", "meaning", *PRESETS], rows)


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value


def latencies() -> str:
    """What follows from the parameters, for each preset."""
    rows = {
        "S: cycles per pixel of a last pass, dense and packed": lambda c: slices_per_pixel(Conv(), c),
        "S, depthwise": lambda c: slices_per_pixel(Conv(mode=1), c),
        "T: taps of a channel in depthwise mode": lambda c: c.window_taps,
        "cycles to load a weight set": lambda c: c.weight_load_cycles,
        "from a pixel's read to its sums": latency.sum_cycles,
        "W: from the emission of a result to its write": lambda c: latency.write_cycles(c, residual=False),
        "W with residual": lambda c: latency.write_cycles(c, residual=True),
        "added to W by a table": lambda c: latency.TABLE_CYCLES,
    }
    presets = {name: config for name, config in PRESETS.items() if config.machine is Machine.PARALLEL}
    return table(["cycles", *presets], [[name, *(value(config) for config in presets.values())] for name, value in rows.items()])


def constants(serial: bool) -> str:
    """Numbers of isa/latency.py with the comments that stand beside them, of one of the two machines."""
    found = re.findall(r"^([A-Z_]+) = (.*?)  # (.*)$", Path(latency.__file__).read_text(encoding="utf-8"), re.MULTILINE)
    rows = [[f"`{name}`", _number(name, text), meaning] for name, text, meaning in found if name.startswith("SERIAL_") == serial]
    return table(["constant", "value", "meaning"], rows)


def _number(name: str, text: str) -> str:
    value = getattr(latency, name)
    return ", ".join(f"{engine.name.lower()} {depth}" for engine, depth in value.items()) if isinstance(value, dict) else str(value)


CHANNELS = {"s_axil_": ("aw", "w", "b", "ar", "r"), "m_axi_": ("aw", "w", "b", "ar", "r"), "s_wb_": ("",), "m_wb_": ("",)}


def ports(bus: Bus) -> str:
    """Ports by channel; widths in bits."""
    rows = [["`clk`, `rst`, `irq`", "clk 1, rst 1", "irq 1"]]
    for prefix, signature in bus_ports(replace(PRESETS[DEFAULT_PRESET], bus=bus)).items():
        left = dict(signature.members.items())
        for channel in sorted(CHANNELS[prefix], key=len, reverse=True):  # awaddr belongs to aw, not to a channel a
            found = {name: left.pop(name) for name in list(left) if name.startswith(channel)}
            cells = [[f"{name.removeprefix(channel)} {member.shape}" for name, member in found.items() if member.flow is flow] for flow in (In, Out)]
            rows.append([f"`{prefix}{channel}*`", *(", ".join(cell) or "-" for cell in cells)])
    return table(["ports", "inputs", "outputs"], rows)


def errors() -> str:
    return table(
        ["code", "name", "engine", "`error_address`", "cause"], [[int(code), f"`{code.name}`", *(ERRORS[code][k] for k in range(3))] for code in ErrorCode]
    )


def _excerpt(commands: Sequence[Command]) -> list[int]:
    """The beginning, the first command of each kind, and the end."""
    kinds: dict[object, int] = {}
    for index, command in enumerate(commands):
        kinds.setdefault((command.mode, command.reduce, command.passes > 1) if isinstance(command, Conv) else type(command), index)
    return sorted({*range(4), *kinds.values(), *range(len(commands) - 2, len(commands))})


def program() -> str:
    """An excerpt of the example's program at 16x16, with the cycles that the model predicts."""
    folder, config = ROOT / "examples/digits", PRESETS[DEFAULT_PRESET]
    network = load_network(folder / "model.onnx", folder / "calibration.npz", QuantizeOptions(), Silent())
    compiled = compile_network(for_hardware(network.graph, config), config)
    prediction, lines = compiled.prediction, disassemble(compiled.commands).splitlines()
    excerpt = _excerpt(compiled.commands)
    shown = [lines[k] for k in excerpt]
    costs = []
    for index in excerpt:
        command, span = compiled.commands[index], prediction.spans[index]
        if isinstance(command, Conv):
            work = f"pixels {command.output_rows * command.output_columns}, tiles {command.output_tiles}, passes {command.passes}"
            costs.append([index, work, command_cycles(command, config), span.start, span.end])
        elif command.engine is not None:
            words = command.rows * command.row_bytes // config.bus_bytes
            costs.append([index, f"{words} bus words {'out' if isinstance(command, Store) else 'in'}", "", span.start, span.end])
    text = "\n".join(["```text", *shown, "```", ""])
    return f"{text}\n{table(['command', 'work', 'cycles of the array', 'accepted in cycle', 'done in cycle'], costs)}"


BLOCKS = {
    "parameters": parameters,
    "latencies": latencies,
    "constants": partial(constants, False),
    "serial": partial(constants, True),
    "ports": partial(ports, Bus.AXI4),
    "wishbone": partial(ports, Bus.WISHBONE),
    "errors": errors,
    "program": program,
}
