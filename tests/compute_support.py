"""Verilator runs of the compute engine alone, random CONV commands, and the cycles that its docstring promises."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hwgen.config import BANKS, HardwareConfig
from hwgen.cosim.toolchain import environment
from hwgen.emit.verilog import convert
from hwgen.isa.fields import Buffer, Mode, Reduce
from hwgen.isa.instructions import Conv
from hwgen.isa.latency import PASS_CYCLES, READ_CYCLES, SETUP_CYCLES, write_cycles
from hwgen.isa.machine import Memories
from hwgen.rtl.activity import LOST_LAYOUT
from hwgen.rtl.command import buffer_chunks, conv_layout, load_write_layout
from hwgen.rtl.compute import ComputeEngine

HARNESS = Path(__file__).parent / "rtl" / "compute_harness.cpp"
_LIMIT = 300_000  # cycles: what takes longer hangs
BUILDS = Path(os.environ.get("HWGEN_TEST_BUILDS", tempfile.gettempdir())) / "hwgen-compute-builds"


def tiny(out_lanes: int, in_lanes: int, **changes: object) -> HardwareConfig:
    values = {"activation_words": 1024, "weight_words": 4096, "parameter_words": 64, "accumulator_depth": 16, **changes}
    return HardwareConfig(out_lanes=out_lanes, in_lanes=in_lanes, **values)  # type: ignore[arg-type]  # checked by HardwareConfig


def compute_verilog(config: HardwareConfig) -> str:
    """The engine alone."""
    text = convert(ComputeEngine(config), "compute")
    text = re.sub(r"\b(command|load_write|store_read)__(valid|ready|payload)\b", r"\1_\2", text)  # Verilator would escape the double underscore
    return re.sub(r"\babort\b", "abort_now", text)  # a C function's name


@functools.cache
def build(config: HardwareConfig) -> Path:
    """The compiled harness, cached by the content of what goes in."""
    source, harness = compute_verilog(config), HARNESS.read_text()
    folder = BUILDS / hashlib.sha256((source + harness).encode()).hexdigest()[:20]
    program = folder / "Vcompute"
    if not program.exists():
        BUILDS.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=BUILDS))
        (work / "compute.v").write_text(source)
        fast_to_compile = ["-CFLAGS", f"-O0 -DREAD_CYCLES={READ_CYCLES}", "-MAKEFLAGS", "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"]
        model = ["--cc", "--exe", "--build", "-j", "1", "-O3", "--x-assign", "unique", "--x-initial", "unique", "-Wno-fatal", "-Wno-lint"]
        command = ["verilator", *model, *fast_to_compile, "--top-module", "compute", "-Mdir", ".", "compute.v", str(HARNESS)]
        done = subprocess.run(command, cwd=work, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
        work.rename(folder) if not folder.exists() else shutil.rmtree(work)
    return program


def pack(layout, values) -> int:
    result = 0
    for name, place in layout:
        result |= (int(values[name]) & ((1 << place.width) - 1)) << place.offset
    return result


def words_of(value: int, count: int) -> list[int]:
    return [value >> 32 * k & 0xFFFFFFFF for k in range(count)]


def load_payloads(config: HardwareConfig, buffer: Buffer, first: int, memory: np.ndarray) -> list[int]:
    """The bus words that bring `memory` (words, bytes) to words `first` onwards of `buffer`."""
    layout = load_write_layout(config)
    found = []
    for address, word in enumerate(memory, first):
        for chunk in range(buffer_chunks(config)[buffer]):
            content = int.from_bytes(word.tobytes()[chunk * config.bus_bytes : (chunk + 1) * config.bus_bytes], "little")
            found.append(pack(layout, {"buffer": buffer, "address": address, "chunk": chunk, "data": content}))
    return found


@dataclass
class Run:
    accepted: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    writes: list[tuple[int, int, int, int]] = field(default_factory=list)  # cycle, address, mask, data
    activation: dict[int, int] = field(default_factory=dict)
    cycles: int = 0
    busy: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    unexplained: int = 0
    idle: bool = False
    idle_after_abort: bool = False


def run(config: HardwareConfig, before: Memories, commands: Sequence[Conv], pauses: Sequence[int], side_loads: Sequence[int] = (), abort_after: int = 0) -> Run:
    """Load the buffers, give the commands as early as the engine takes them (after `pauses`), read the activation buffer back.

    `side_loads` are written meanwhile, between reads. `abort_after`: first begin the first command, and abort it after so many cycles.
    """
    c = config
    contents = {Buffer.ACTIVATION: before.activation, Buffer.PARAMETER: before.parameter}
    if c.activation_tables:
        contents[Buffer.TABLE] = before.table
    loads = [payload for buffer, memory in contents.items() for payload in load_payloads(c, buffer, 0, memory)]
    # Weights come last, and the word that the first command reads first in the cycle before that command: it must not come too late.
    words = load_payloads(c, Buffer.WEIGHT, 0, before.weight)
    chunks, first = buffer_chunks(c)[Buffer.WEIGHT], commands[0].weight_address
    loads += [words[chunks * ((first + k) % c.weight_words) + part] for k in reversed(range(c.weight_words)) for part in range(chunks)]
    load_words, command_words = -(-load_write_layout(c).size // 32) + 1, -(-conv_layout(c).size // 32)
    data = [load_words, len(loads), command_words, len(commands), len(side_loads), c.activation_words, int(bool(side_loads)), _LIMIT, abort_after]
    for payload in [*loads, *side_loads]:
        data += words_of(payload, load_words)
    for command, pause in zip(commands, pauses, strict=True):
        data += [pause, *words_of(pack(conv_layout(c), {name: getattr(command, name) for name, _ in conv_layout(c)}), command_words)]
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(np.array(data, "<u4").tobytes())
        file.flush()
        done = subprocess.run([build(config), file.name], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    return parse(done.stdout)


def parse(text: str) -> Run:
    found = Run()
    for line in text.splitlines():
        kind, *rest = line.split()
        match kind:
            case "a":
                found.accepted.append(int(rest[0]))
            case "d":
                found.done.append(int(rest[0]))
            case "t":
                found.writes.append((int(rest[0]), *(int(word, 16) for word in rest[1:])))  # type: ignore[arg-type]  # four numbers
            case "r":
                found.activation[int(rest[0])] = int(rest[1], 16)
            case "x":
                found = Run(idle_after_abort=rest[0] == "1")
            case "l":
                *lost, found.unexplained = map(int, rest)
                found.lost = dict(zip((name for name, _ in LOST_LAYOUT), lost, strict=True))
            case "c":
                found.cycles, found.busy, found.idle = int(rest[0]), int(rest[1]), rest[2] == "1"
    return found


def random_memories(config: HardwareConfig, rng: random.Random) -> Memories:
    """Arbitrary contents; shifts stay where the golden model's types hold."""
    memories = Memories(config=config)
    memories.fill_randomly(rng.getrandbits(32))
    records = memories.parameter.reshape(-1, 16)
    records[:, 8] = [rng.randrange(0, 24) for _ in records]
    modest = np.array([rng.random() < 0.8 for _ in records])  # biases and multipliers that do not saturate everything
    records[modest, 2:4] = np.where(records[modest, 1:2] & 128, 255, 0)
    records[modest, 8] = config.multiplier_bits + rng.randrange(5, 10)
    records[:, 3] = np.where(records[:, 2] & 128, 255, 0)  # within 24 bits: no maximum leaves the narrowest accumulator tested
    low, high = records[:, 9].view(np.int8).copy(), records[:, 10].view(np.int8).copy()
    records[:, 9], records[:, 10] = np.minimum(low, high).view(np.uint8), np.maximum(low, high).view(np.uint8)
    wide = np.array([rng.random() < 0.6 for _ in records])
    records[wide, 9], records[wide, 10] = 128, 127
    return memories


def keeping(command: Conv, config: HardwareConfig) -> Conv | None:
    """The command made to keep its sums, if they fit."""
    pixels = command.output_rows * command.output_columns
    return replace(command, output_tiles=1, pixels_per_tile=pixels, keep=1) if pixels <= config.accumulator_depth else None


def resuming(command: Conv, kept: Conv, config: HardwareConfig) -> Conv | None:
    """The command, or its first pixels, made to go on from the sums of `kept`, if these have enough channels."""
    rows, columns, pixels = command.output_rows, command.output_columns, kept.output_rows * kept.output_columns
    if kept.mode == Mode.DEPTHWISE and command.mode != Mode.DEPTHWISE and config.out_lanes > config.in_lanes:
        return None
    if rows * columns > pixels:
        rows, columns = 1, min(columns, pixels)
    return replace(command, output_tiles=1, output_rows=rows, output_columns=columns, pixels_per_tile=rows * columns, resume=1)


def random_conv(config: HardwareConfig, rng: random.Random, region: tuple[int, int]) -> Conv:
    """A legal command that reads the half of the buffer from region[0], and writes to the half from region[1]."""
    while True:
        parts = [part(config, rng) for part in (_random_kernel, _random_image, _random_output, _random_constants)]
        command = _assemble(config, rng, region, {name: value for part in parts for name, value in part.items()})
        if command is not None:
            return command


def _random_kernel(config: HardwareConfig, rng: random.Random) -> dict[str, int]:
    mode = rng.choice(list(Mode))
    return {
        "mode": mode,
        "reduce": Reduce.MAX if mode == Mode.DEPTHWISE and rng.random() < 0.4 else Reduce.SUM,
        "tap_rows": rng.randint(1, BANKS),
        "taps": rng.choice([1, 2, 3, 4, 5, 7, 8, 16]),
        "kernel_rows": rng.choice([1, 1, 2, 3, 4, 5, 6, 7]),
        "kernel_columns": rng.choice([1, 1, 2, 3, 5, 7]),
        "stride_rows": rng.choice([1, 1, 2, 3]),
        "stride_columns": rng.choice([1, 1, 2, 3]),
        "dilation_rows": rng.choice([1, 1, 2]),
        "dilation_columns": rng.choice([1, 1, 1, 2, 3, 4]),
        "weights_held": int(rng.random() < 0.2),
        "weight_address": rng.randint(0, config.weight_words - 1) + (1 << 20),
    }


def _random_image(config: HardwareConfig, rng: random.Random) -> dict[str, int]:
    """Here input_columns are bytes in packed mode, and input_row_step, input_block_stride are what lies between rows and blocks."""
    return {
        "pad_value": rng.randint(-128, 127),
        "input_rows": rng.randint(1, 9),
        "input_columns": rng.randint(1, 9),
        "input_row_step": rng.choice([0, 0, 1, 3]),
        "input_block_stride": rng.choice([0, 0, 1, 5]),
        "input_blocks": rng.choice([1, 1, 2, 3]),
        "origin_row": -rng.choice([0, 0, 1, 2, 3]),
        "origin_column": -rng.choice([0, 0, 1, 2, 3]),
    }


def _random_output(config: HardwareConfig, rng: random.Random) -> dict[str, int]:
    single = rng.random() < 0.15
    rows, columns = (1, 1) if single else (rng.randint(1, 7), rng.randint(1, 7))
    gap = rng.choice([0, 0, 1, 2]) if config.output_gaps else 0
    row_stride, residual_stride = columns * (gap + 1) + rng.choice([0, 0, 2]), columns + rng.choice([0, 1])
    return {
        "output_column_gap": gap,
        "output_rows": rows,
        "output_columns": columns,
        "output_row_stride": row_stride,
        "output_block_stride": rows * row_stride + rng.choice([0, 0, 1, 3]),
        "output_tiles": rng.choice([1, 1, 2, 3, 5]),
        "pixels_per_tile": rng.choice([1, 2, 3, 4, 5, 7, 16, 16]),
        "residual": int(rng.random() < 0.35),
        "residual_row_stride": residual_stride,
        "residual_block_stride": rows * residual_stride + rng.choice([0, 0, 1, 2]),
    }


def _random_constants(config: HardwareConfig, rng: random.Random) -> dict[str, int]:
    def multiplier() -> int:
        return rng.getrandbits(config.multiplier_bits) if config.multiplier_bits else rng.randint(0, 12)

    tables = {"table": int(rng.random() < 0.5), "table_address": 64 * rng.randrange(config.activation_tables)} if config.activation_tables else {}
    return {
        **tables,
        "parameters_held": int(rng.random() < 0.2),
        "parameter_address": rng.randint(0, config.parameter_words - 1),
        "residual_low": rng.choice([-128, -100, -5]),
        "residual_high": rng.choice([127, 90, 3]),
        "residual_shift": rng.randint(0, 20),
        "residual_multiplier_a": multiplier(),
        "residual_multiplier_b": multiplier(),
        "residual_offset": rng.randint(-(1 << 24), 1 << 24),
    }


def _assemble(config: HardwareConfig, rng: random.Random, region: tuple[int, int], v: dict[str, int]) -> Conv | None:
    """The command of the choices `v`, or None where they contradict each other or do not fit half of the buffer."""
    half, n, mode = config.activation_words // 2 - 8, config.in_lanes, v["mode"]
    depthwise, packed = mode == Mode.DEPTHWISE, mode == Mode.PACKED
    kernel_columns = v.pop("kernel_columns")
    v["kernel_steps"] = rng.randint(1, 2) if packed else kernel_columns
    if packed:
        v["input_columns"], v["origin_column"] = 5 * n, rng.randint(0, 2 * n)
    row_words = (9 if packed else v["input_columns"]) + v["input_row_step"]
    if packed and (v["origin_column"] + (v["output_columns"] - 1) * v["stride_columns"] + v["kernel_steps"] * n) // n >= row_words:
        return None
    blocks, channels = v["input_blocks"], v["output_tiles"] * (config.depthwise_lanes if depthwise else config.out_lanes)
    block_words = v["input_rows"] * row_words + v["input_block_stride"]
    v["output_blocks"] = max(1, -(-channels // n) - rng.choice([0, 0, 0, 1]))
    sizes = [block_words * blocks, v["output_blocks"] * v["output_block_stride"], v["output_blocks"] * v["residual_block_stride"]]
    if (depthwise and (channels - 1) // n >= blocks) or max(sizes) > half:
        return None
    v["tap_rows"], v["taps"] = _taps(config, v, v["dilation_rows"] * row_words) if depthwise else (1, 1)
    if depthwise:
        v["kernel_steps"] = -(-kernel_columns // v["taps"])
    first = [base + rng.randint(0, half - size) for base, size in zip((region[0], region[1], region[0]), sizes, strict=True)]
    if sizes[1] + sizes[2] <= half and rng.random() < 0.5:  # the residual in the half of the output, behind it
        first[1] = region[1] + rng.randint(0, half - sizes[1] - sizes[2])
        first[2] = first[1] + sizes[1]
    v["input_address"], v["output_address"], v["residual_address"] = (first[0] + v["origin_row"] * row_words) % (1 << 24), first[1], first[2]
    v["input_row_step"], v["kernel_row_step"], v["input_block_stride"] = v["stride_rows"] * row_words, v["dilation_rows"] * row_words, block_words
    command = Conv(**{**v, "input_blocks": blocks if mode == Mode.DENSE else 1})
    return replace(command, pixels_per_tile=rng.choice([3, 20, 65535])) if command.passes == 1 and rng.random() < 0.7 else command


def _taps(config: HardwareConfig, v: dict[str, int], kernel_row_step: int) -> tuple[int, int]:
    """At most as many rows and columns as chosen."""
    rows = max(r for r in range(1, v["tap_rows"] + 1) if len({k * kernel_row_step % BANKS for k in range(r)}) == r)
    chain = config.window_taps // {1: 1, 2: 2, 3: 4, 4: 4}[rows]
    return rows, 1 if v["reduce"] == Reduce.MAX else min(v["taps"], chain)


def clear_unused_lanes(config: HardwareConfig, memories: Memories, command: Conv) -> None:
    """Of a window's weight sets: lanes that hold none of its taps must be zero."""
    sets = 1 if command.weights_held else command.output_tiles * command.passes
    chain = config.window_taps // {1: 1, 2: 2, 3: 4, 4: 4}[command.tap_rows]
    used = {row * chain + k for row in range(command.tap_rows) for k in range(command.taps)}
    words = (command.weight_address + np.arange(sets * config.weight_load_cycles)) % config.weight_words
    content = memories.weight[words].reshape(len(words), -1, config.in_lanes)
    content[..., [lane for lane in range(config.in_lanes) if lane not in used]] = 0
    memories.weight[words] = content.reshape(len(words), -1)


def passes_cycles(c: Conv, config: HardwareConfig) -> int:
    """Cycles from a command's first column to its last slice, as ComputeEngine's docstring says; pixel by pixel."""
    depthwise = c.mode == Mode.DEPTHWISE
    channels = config.depthwise_lanes if depthwise else config.out_lanes
    pixels = c.output_rows * c.output_columns
    now = earliest = 0
    for tile in range(c.output_tiles):
        for start in range(0, pixels, c.pixels_per_tile):
            span = range(start, min(start + c.pixels_per_tile, pixels))
            for number in range(c.passes):
                for pixel in span:
                    now += _columns(c, number // c.input_blocks % c.kernel_steps, pixel, pixel == start) - 1
                    if pixel == start:
                        now = max(now, earliest)
                        earliest = now + PASS_CYCLES
                    last = number == c.passes - 1
                    now += channels // config.requantize_lanes + _conflict(c, config, tile * channels, pixel) if last else 1
    return now


def _columns(c: Conv, step: int, pixel: int, first: bool) -> int:
    """Columns that a pixel walks."""
    x = pixel % c.output_columns
    left = c.origin_column + x * c.stride_columns + step * c.taps
    if c.mode != Mode.DEPTHWISE or c.dilation_columns != 1:
        return c.taps
    if x == 0:
        return c.taps - sum(left + t < 0 for t in range(c.taps - (2 if c.output_columns == 1 else 1)))
    return c.taps if first else min(c.stride_columns, c.taps)


def _conflict(c: Conv, config: HardwareConfig, first_channel: int, pixel: int) -> bool:
    """Whether the last column of the last pass and the residual of slice 0 need the same bank of the same side."""

    def port(word: int) -> tuple[int, bool]:
        return word % 4, word % config.activation_words >= config.activation_words // 2

    n = config.in_lanes
    block = first_channel // n
    if not c.residual or c.keep or block >= c.output_blocks:
        return False
    y, x = divmod(pixel, c.output_columns)
    residual = port(c.residual_address + block * c.residual_block_stride + y * c.residual_row_stride + x)
    rows = [r for r in range((c.row_groups - 1) * c.tap_rows, c.kernel_rows) if 0 <= c.origin_row + y * c.stride_rows + r * c.dilation_rows < c.input_rows]
    words = [c.input_address + y * c.input_row_step + r * c.kernel_row_step for r in rows]
    if c.mode == Mode.PACKED:
        byte = c.origin_column + x * c.stride_columns + (c.kernel_steps - 1) * n
        return residual in {port(word + k) for word in words for k in (byte // n, byte // n + (byte % n > 0))}
    column = c.origin_column + x * c.stride_columns + (c.kernel_steps * c.taps - 1) * c.dilation_columns
    block_words = (block if c.mode == Mode.DEPTHWISE else c.input_blocks - 1) * c.input_block_stride
    return 0 <= column < c.input_columns and residual in {port(word + block_words + column) for word in words}


def expected_cycles(commands: Sequence[Conv], config: HardwareConfig, accepted: Sequence[int]) -> list[int]:
    """The cycle of each `done`."""
    found: list[int] = []
    for command, a in zip(commands, accepted, strict=True):
        start = max(a + SETUP_CYCLES, found[-1] + 1 if found else 0)
        found.append(start + passes_cycles(command, config) - 1 + write_cycles(config, bool(command.residual), bool(command.table)))
    return found
