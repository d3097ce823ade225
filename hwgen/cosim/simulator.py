"""Verilog -> a compiled simulation, kept in a cache by the hash of everything that it depends on: the hardware, not the network."""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hwgen.cache import cache_root
from hwgen.children import started
from hwgen.config import Bus, HardwareConfig
from hwgen.cosim.toolchain import ToolStatus, environment, require
from hwgen.emit.render import template_root
from hwgen.errors import OutputError, ToolError

if sys.platform != "win32":
    import fcntl

MEMORY_BYTES = 1 << 22  # simulated system memory; grows by factors of four for networks that need more
_MAIN = "bench_main.cpp"
_VERILATE = (
    *("--cc", "--exe", "-Mdir", "obj", "--prefix", "Vbench", "-o", "sim"),
    *("-O3", "--x-assign", "fast", "--x-initial", "unique", "-Wno-fatal", "-Wno-lint", "-Wno-style"),
)
_MAKE = ("make", "-C", "obj", "-f", "Vbench.mk", "OPT_GLOBAL=-O2")
_MAKE_FAST_PROGRAM = ("-j", "2", "OPT_FAST=-O2")
_MAKE_SOON = ("VM_PARALLEL_BUILDS=0", "OPT_FAST=-O0")  # one file without optimization: a quarter of the time, for runs that are 4 to 5 times longer
_SWITCH = re.compile(r"^VM_(?!PARALLEL_BUILDS)\w+ = .*", re.MULTILINE)  # in Vbench_classes.mk, beside the lists of the design's files
_BUILD_LIMIT_SECONDS = 1800


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """A compiled simulation. `build_seconds` is 0.0 when it came from the cache."""

    program: Path
    memory_bytes: int
    build_seconds: float


def memory_size(needed_bytes: int) -> int:
    """Size of the simulated memory: few sizes, so that networks share compiled simulations."""
    size = MEMORY_BYTES
    while size < needed_bytes:
        size *= 4
    return size


def _parameters(config: HardwareConfig, memory_bytes: int) -> tuple[str, ...]:
    words_log2 = (memory_bytes // config.bus_bytes - 1).bit_length()
    return (
        f"-GBUS_BITS={config.bus_bits}",
        f"-GADDRESS_BITS={config.address_bits}",
        f"-GLANES={config.in_lanes}",
        f"-GMEMORY_WORDS_LOG2={words_log2}",
    )


def trace_scope(verilog: str, wire: str = "trace_valid") -> str:
    """The instance that holds `wire`, one of the wires trace_*: a module's name is its place in the hierarchy, below that of the accelerator.

    Raises ToolError when there is none.
    """
    found = re.findall(rf"^module \\?hwgen_accelerator(\S*?) ?\(|^\s+(?:wire|output) (?:\[\d+:0\] )?({wire})[;,]", verilog, re.MULTILINE)
    scopes: list[str] = [place for (place, _), (_, here) in itertools.pairwise(found) if here]
    if not scopes:
        raise ToolError(f"Verilog of the accelerator: must hold the wire {wire}, which shows the simulation what happens inside; build again")
    return "dut" + min(scopes, key=len)


def bench_sources(bus: Bus) -> tuple[Path, ...]:
    """The Verilog of the bench: the accelerator's memory speaks its bus."""
    return tuple(template_root() / "rtl" / name for name in ("bench.v", "bench_axi.v" if bus is Bus.AXI4 else "bench_wishbone.v"))


def _hash(texts: Sequence[str], tools: Sequence[ToolStatus]) -> str:
    """Of texts and the versions of tools."""
    return hashlib.sha256("\0".join([*texts, *(f"{s.tool.name} {s.version}" for s in tools)]).encode()).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time compiles one simulation; the others wait and find it done."""
    with path.open("w") as file:
        if sys.platform != "win32":  # there both compile, and the last one's result stays
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: tuple[str, ...], folder: Path) -> None:
    try:
        with started(command, folder, subprocess.PIPE, env=environment(), text=True) as process:
            printed, _ = process.communicate(timeout=_BUILD_LIMIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{command[0]}: must compile the simulation in {_BUILD_LIMIT_SECONDS} s; stopped; try a smaller array") from error
    if process.returncode:
        text = printed.strip().splitlines()
        errors = [line for line in text if "rror" in line] or text
        listing = "\n".join(f"  {line}" for line in errors[:20])
        raise ToolError(f"{command[0]}: failed with exit code {process.returncode} while compiling the simulation:\n{listing}")


def _runtime(obj: Path, tools: Sequence[ToolStatus]) -> Path:
    """Where the objects of Verilator's own C++ are kept: they are the same for all designs, and take as long as a small design.

    They follow from the makefiles in `obj`, but for the lists of the design's files, and from the tools.
    """
    flags, classes = ((obj / name).read_text(encoding="utf-8") for name in ("Vbench.mk", "Vbench_classes.mk"))
    return cache_root() / "verilated" / _hash([flags, *_SWITCH.findall(classes), *_MAKE], tools)


def _make(folder: Path, options: tuple[str, ...], tools: Sequence[ToolStatus]) -> None:
    """Compile what Verilator wrote into `folder`/obj, with the objects of its own C++ from the cache or into it."""
    obj = folder / "obj"
    runtime = _runtime(obj, tools)
    known = sorted(runtime.glob("*.o"))
    for path in known:
        shutil.copyfile(path, obj / path.name)  # newer than the makefile, so make leaves it as it is
    _run((*_MAKE, *options), folder)
    if not known:
        runtime.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=runtime.parent, prefix="build-"))
        for path in obj.glob("verilated*.o"):
            shutil.copyfile(path, made / path.name)
        try:
            made.replace(runtime)
        except OSError:  # another process was faster
            shutil.rmtree(made)


def _build(verilog: str, sources: tuple[Path, ...], flags: tuple[str, ...], options: tuple[str, ...], tools: Sequence[ToolStatus], target: Path) -> None:
    """Compile in a folder beside `target`, then move the program there in one step."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as name:
        folder = Path(name)
        (folder / "accelerator.v").write_text(verilog, encoding="utf-8")
        for source in sources:
            shutil.copyfile(source, folder / source.name)
        _run(("verilator", *_VERILATE, *flags, "accelerator.v", *(source.name for source in sources)), folder)
        _make(folder, options, tools)
        (folder / "obj" / "sim").replace(target)


def compile_simulator(verilog: str, config: HardwareConfig, *, needed_bytes: int = 0, optimized: bool = True) -> Simulator:
    """The simulation of `verilog` (module hwgen_accelerator) under the bench, with at least `needed_bytes` of memory.

    Not `optimized` it compiles in less than half the time and simulates 4 to 5 times slower.
    Raises ToolError when a tool is missing or refuses the Verilog, OutputError when the cache cannot be written.
    """
    memory_bytes = memory_size(needed_bytes)
    sources = (*bench_sources(config.bus), template_root() / "rtl" / _MAIN)
    scopes = (f"-DTRACE_SCOPE={trace_scope(verilog)}", f"-DCAUSE_SCOPE={trace_scope(verilog, 'trace_accepted')}")
    program, seconds = compile_cached(verilog, sources, ("--top-module", "bench", *_parameters(config, memory_bytes), *scopes), optimized=optimized)
    return Simulator(program=program, memory_bytes=memory_bytes, build_seconds=seconds)


def compile_cached(verilog: str, sources: tuple[Path, ...], flags: tuple[str, ...], *, optimized: bool = True) -> tuple[Path, float]:
    """The program that Verilator makes of `verilog` and `sources`, and the seconds that this took: 0.0 when it was in the cache.

    Raises ToolError when a tool is missing or refuses the Verilog, OutputError when the cache cannot be written.
    """
    root = cache_root() / "simulations"
    try:
        root.mkdir(parents=True, exist_ok=True)
        tools, options = require(), _MAKE_FAST_PROGRAM if optimized else _MAKE_SOON
        known = _hash([verilog, *(source.read_text(encoding="utf-8") for source in sources), *_VERILATE, *flags, *_MAKE, *options], tools)
        target = root / known
        if target.is_file():
            return target, 0.0
        with _locked(root / f"{known}.lock"):
            if target.is_file():
                return target, 0.0
            start = time.perf_counter()
            _build(verilog, sources, flags, options, tools, target)
            return target, time.perf_counter() - start
    except OSError as error:
        raise OutputError(f"cache folder {root}: must be writable, {error.strerror}; set HWGEN_CACHE to another folder") from error
