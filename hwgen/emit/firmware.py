"""The firmware of one compiled network: driver, headers, tables, portable reference and known answers, as a tree of files.

Nothing is written here: `emit_firmware` returns the content of every file, the same bytes for the same network.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from hwgen.config import HardwareConfig
from hwgen.emit import firmware_registers
from hwgen.emit.firmware_answers import KnownAnswer, build_answers
from hwgen.emit.firmware_host import build_host
from hwgen.emit.firmware_kernels import build_kernels
from hwgen.emit.firmware_model import ConfigView, ImageView, ModelView, build_config, build_model
from hwgen.emit.firmware_reference import build_reference
from hwgen.emit.firmware_registers import CodeView, error_codes
from hwgen.emit.firmware_tables import table_files
from hwgen.emit.names import check_prefix, model_prefix, plain
from hwgen.emit.render import render
from hwgen.errors import ModelError
from hwgen.ir.graph import Graph
from hwgen.isa.fields import Region
from hwgen.isa.registers import COUNTERS, REGISTERS
from hwgen.schedule.compile import CompiledNetwork
from hwgen.schedule.homes import HostTensor

DRIVER_VERSION = 0x00010002  # major << 16 | minor
IMAGE_MAGIC = 0x4E50554D
IMAGE_ABI = 3

STATUSES = (
    ("OK", 0, "ok"),
    ("BUSY", 1, "busy"),
    ("ERROR_ARGUMENT", -1, "an argument is missing"),
    ("ERROR_PORT", -2, "the port table is incomplete"),
    ("ERROR_IDENTITY", -3, "no accelerator answers at this address"),
    ("ERROR_VERSION", -4, "the register interface has another version"),
    ("ERROR_CONFIG", -5, "the model was compiled for other hardware"),
    ("ERROR_IMAGE", -6, "the model image is damaged"),
    ("ERROR_ADDRESS", -7, "the accelerator cannot reach a buffer"),
    ("ERROR_ALIGNMENT", -8, "a buffer is not aligned"),
    ("ERROR_STATE", -9, "not in this state: initialize, load and start first"),
    ("ERROR_TIMEOUT", -10, "the accelerator did not finish in time"),
    ("ERROR_HARDWARE", -11, "the accelerator stopped with an error, see npu_hw_error"),
    ("ERROR_ABORTED", -12, "the run was aborted"),
    ("ERROR_LOST", -13, "the accelerator was reset during the run"),
    ("ERROR_MISMATCH", -14, "a result differs from its known answer"),
)


@dataclass(frozen=True, kw_only=True)
class FirmwareInput:
    """What the firmware is made of. `graph` is quantized and as compiled; `inputs` and `outputs` say where they lie in their regions.

    `answers` are golden results of a few images on the same graph. `watchdog_cycles` is the most that the hardware lets a run take;
    0 leaves that to the driver's timeout. `processor` is the compiled network where the processor computes some of its layers.
    """

    prefix: str
    graph: Graph
    config: HardwareConfig
    program: bytes
    weights: bytes
    inputs: tuple[HostTensor, ...]
    outputs: tuple[HostTensor, ...]
    answers: tuple[KnownAnswer, ...]
    arena_bytes: int = 0
    program_entry: int = 0
    resident_entry: int | None = None
    watchdog_cycles: int = 0
    processor: CompiledNetwork | None = None

    @staticmethod
    def of(network: CompiledNetwork, answers: tuple[KnownAnswer, ...], prefix: str = "") -> FirmwareInput:
        """From the compiler's result; the prefix comes from the network's name unless given."""
        return FirmwareInput(
            prefix=prefix or model_prefix(network.graph.name),
            graph=network.graph,
            config=network.config,
            program=network.program,
            weights=network.weights,
            inputs=network.inputs,
            outputs=network.outputs,
            answers=answers,
            arena_bytes=network.region_bytes()[Region.ARENA],
            resident_entry=network.resident_entry,
            processor=network if network.kernels else None,
        )


def _crc_rows() -> tuple[str, ...]:
    """The table of the CRC for four bits at a time."""
    words = []
    for nibble in range(16):
        crc = nibble
        for _ in range(4):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
        words.append(f"UINT32_C(0x{crc:08x})")
    return tuple(", ".join(words[k : k + 4]) for k in range(0, 16, 4))


@dataclass(frozen=True, kw_only=True)
class CounterView:
    name: str
    macro: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class DriverView:
    """Of everything that is the same for all networks."""

    driver_version: str = f"0x{DRIVER_VERSION:08x}"
    image_magic: str = f"0x{IMAGE_MAGIC:08x}"
    image_abi: int = IMAGE_ABI
    statuses: tuple[CodeView, ...] = tuple(CodeView(name=f"NPU_{name}", value=value, text=text) for name, value, text in STATUSES)
    counters: tuple[CounterView, ...] = tuple(CounterView(name=r.name, macro=r.name.upper(), meaning=r.meaning) for r in REGISTERS if r.name in COUNTERS)
    errors: tuple[CodeView, ...] = field(default_factory=error_codes)
    crc_rows: tuple[str, ...] = field(default_factory=_crc_rows)


@dataclass(frozen=True, kw_only=True)
class MakefileView:
    prefix: str
    sources: tuple[str, ...]


def _driver_files() -> dict[str, str]:
    view = DriverView()
    places = {
        "include": ("npu.h", "npu_port.h", "npu_crc.h", "npu_tensor.h"),
        "src": ("npu.c", "npu_crc.c", "npu_tensor.c"),
        "port": ("npu_mock.h", "npu_mock.c"),
        "test": ("npu_driver_test.c",),
    }
    files = {f"{folder}/{name}": render(f"firmware/{name}.j2", view) for folder, names in places.items() for name in names}
    return files | {"include/npu_regs.h": firmware_registers.header("NPU")}


def _register_files(prefix: str) -> dict[str, str]:
    return {
        f"include/{prefix}_regs.h": firmware_registers.header(prefix.upper()),
        f"regs/{prefix}.svd": firmware_registers.svd(),
        f"regs/{prefix}_csr.json": firmware_registers.csr_json(),
        "regs/registers.md": firmware_registers.markdown(),
    }


def _network_files(source: FirmwareInput, config: ConfigView, model: ModelView) -> dict[str, str]:
    p = source.prefix
    answers = build_answers(source.graph, source.answers, p)
    return {
        f"include/{p}_config.h": render("firmware/config.h.j2", config),
        f"include/{p}_model.h": render("firmware/model.h.j2", model),
        f"include/{p}_kat.h": render("firmware/kat.h.j2", answers),
        f"include/{p}_buffers.h": render("firmware/buffers.h.j2", config),
        f"src/{p}_buffers.c": render("firmware/buffers.c.j2", config),
        f"src/{p}_model.c": render("firmware/model.c.j2", model),
        f"src/{p}_pre.c": render("firmware/pre.c.j2", build_host(source.graph, p)),
        f"src/{p}_kat.c": render("firmware/kat.c.j2", answers),
        f"test/{p}_selftest.c": render("firmware/selftest.c.j2", model),
    }


def emit_firmware(source: FirmwareInput) -> dict[str, bytes]:
    """Relative path -> content of every file, sorted by path.

    Raises ConfigError for an illegal prefix, DataError for known answers that do not fit the graph, ModelError for an empty network.
    """
    p = check_prefix(source.prefix)
    if not source.graph.nodes:
        raise ModelError(f"network {plain(source.graph.name)!r}: must have at least one layer to make firmware of")
    reference = build_reference(source.graph, p)
    alignment = source.config.bus_bytes
    tables = table_files(f"{p}_program", source.program, alignment=alignment)
    tables |= table_files(f"{p}_weights", source.weights, alignment=alignment)
    if reference.weights:
        tables |= table_files(f"{p}_reference_weights", reference.weights, alignment=16, signed=True)
    sizes = {
        "program": len(source.program),
        "weights": len(source.weights),
        "arena": source.arena_bytes,
        "input": max(tensor.offset + tensor.size_bytes for tensor in source.inputs),
        "output": max(tensor.offset + tensor.size_bytes for tensor in source.outputs),
    }
    image = ImageView(
        program_crc=f"0x{zlib.crc32(source.program):08x}",
        weights_crc=f"0x{zlib.crc32(source.weights):08x}",
        program_entry=source.program_entry,
        resident_entry="NPU_NO_ENTRY" if source.resident_entry is None else f"UINT32_C({source.resident_entry})",
        watchdog_cycles=source.watchdog_cycles,
        phases=1 if source.processor is None else len(source.processor.phases),
        processor=source.processor is not None,
    )
    model = build_model(source.graph, p, reference, (source.inputs, source.outputs), image)
    kernels = None if source.processor is None else build_kernels(source.processor, p)
    texts = _driver_files() | _register_files(p) | _network_files(source, build_config(source.config, p, sizes), model)
    if kernels is not None:
        texts |= {f"src/{p}_kernels.c": render("firmware/kernels.c.j2", kernels), f"include/{p}_kernels.h": render("firmware/kernels.h.j2", kernels)}
    texts[f"src/{p}_ref.c"] = render("firmware/ref.c.j2", reference.view)
    files = {name: text.encode("ascii") for name, text in texts.items()} | tables
    sources = tuple(sorted(name for name in files if name.startswith(("src/", "port/")) and name.endswith((".c", ".S"))))
    files["Makefile"] = render("firmware/Makefile.j2", MakefileView(prefix=p, sources=sources)).encode("ascii")
    return dict(sorted(files.items()))
