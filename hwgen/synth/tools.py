"""Yosys and nextpnr: from pip (YoWASP) where installed, else from PATH; how they are run, and what their failures say."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from hwgen.children import started
from hwgen.errors import ToolError

PATIENCE_SECONDS = 1.0  # between looks at what a tool prints
INSTALL = "python3 -m pip install 'hwgen[synth]'"
_OLDEST = {"yosys": (0, 40), "nextpnr-ecp5": (0, 7), "nextpnr-ice40": (0, 6)}  # on PATH; before, the JSON lacks parts, or there is no placer static
_PRESENT = "import sys, {module}; sys.exit({module}.run_{name}(sys.argv[1:]))"
_VERSION = re.compile(r"(\d+)\.(\d+)\S*")
_ERROR = re.compile(r"^(?:.*: )?ERROR: *(.+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class SynthesisTool:
    """A program that can be run: `command` is what precedes its arguments."""

    name: str
    version: str
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run left behind: its exit code and everything that it printed. `stopped`: by us, before its end."""

    code: int
    log: str
    stopped: bool = False

    @property
    def error(self) -> str:
        """The last error that the tool named, else its last line."""
        found = _ERROR.findall(self.log)
        lines = self.log.strip().splitlines() or ["no output"]
        return (found[-1] if found else lines[-1]).strip()[:300]


def _from_pip(name: str) -> SynthesisTool | None:
    module = "yowasp_" + name.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        return None
    program = _PRESENT.format(module=module, name=name.replace("-", "_"))
    return SynthesisTool(name=name, version=f"{metadata.version(module.replace('_', '-'))} (YoWASP)", command=(sys.executable, "-c", program))


def _from_path(name: str) -> SynthesisTool | None:
    path = shutil.which(name)
    if path is None:
        return None
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stdout + done.stderr)
    if done.returncode or found is None or (int(found[1]), int(found[2])) < _OLDEST[name]:
        return None
    return SynthesisTool(name=name, version=found[0].rstrip(")"), command=(path,))


def find(names: tuple[str, ...]) -> tuple[SynthesisTool, ...]:
    """The programs of these names. Raises ToolError, one line that names what is missing and the pip extra that brings it."""
    found = {name: _from_pip(name) or _from_path(name) for name in names}
    missing = [name for name, tool in found.items() if tool is None]
    if missing:
        oldest = ", ".join(f"{name} {'.'.join(map(str, _OLDEST[name]))}" for name in missing)
        raise ToolError(f"synthesis: needs {' and '.join(missing)}, not found from pip nor on PATH (at least {oldest}); {INSTALL}")
    return tuple(tool for tool in found.values() if tool is not None)


def run(tool: SynthesisTool, arguments: tuple[str, ...], folder: Path, hopeless: Callable[[str], bool] = lambda log: False) -> Finished:
    """Run in `folder`; files are named relative to it (YoWASP sees no other /tmp than its own). Raises ToolError when it cannot start.

    `hopeless` reads what was printed so far, now and then; where it says so, the tool is stopped.
    """
    log = folder / f"{tool.name}.log"
    stopped = False
    try:
        with log.open("wb") as stream, started([*tool.command, *arguments], folder, stream) as process:
            while not stopped and not _ended(process):
                stopped = hopeless(_text(log))
    except OSError as error:
        raise ToolError(f"{tool.name}: must start, does not ({error.strerror}); {INSTALL}") from error
    return Finished(code=process.returncode, log=_text(log), stopped=stopped)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Wait a little for its end."""
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")
