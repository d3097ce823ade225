"""Programs end with the command that started them, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hwgen.children import end, ended_by_signals, started
from hwgen.cli import main

# Starts a child of its own, writes both numbers, and waits.
PARENT = (
    "import os, subprocess, sys, time;"
    "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(os.getpid(), other.pid, flush=True); time.sleep(600)"
)
COMMAND = f"""
import signal, sys
from pathlib import Path
from hwgen.children import ended_by_signals
from hwgen.synth.tools import SynthesisTool, run
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[2]))  # whatever the tests themselves were started with, nohup for one
tool = SynthesisTool(name="waits", version="1", command=(sys.executable, "-c", {PARENT!r}))
with ended_by_signals():
    run(tool, (), Path(sys.argv[1]))
"""


def numbers(log: Path) -> list[int]:
    """What PARENT has written, once it has."""
    for _ in range(2000):
        if log.exists() and log.read_text().endswith("\n"):
            return [int(number) for number in log.read_text().split()]
        time.sleep(0.01)
    raise AssertionError("it did not start")


def runs(number: int) -> bool:
    """Until nobody has waited for it, a dead process is still known."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{number}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def gone(number: int) -> bool:
    for _ in range(500):
        if not runs(number):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_asked_to_end_takes_its_programs_with_it(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path), "SIG_DFL"]) as command:
        both = numbers(tmp_path / "waits.log")
        command.send_signal(number)
        assert command.wait(60) == 128 + number
    assert all(gone(each) for each in both)


def test_a_hangup_that_the_caller_has_ignored_stays_ignored(tmp_path: Path) -> None:
    """As nohup does; SIGTERM ends the command all the same."""
    with subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path), "SIG_IGN"]) as command:
        both = numbers(tmp_path / "waits.log")
        command.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert command.poll() is None and all(runs(each) for each in both)
        command.send_signal(signal.SIGTERM)
        assert command.wait(60) == 128 + signal.SIGTERM
    assert all(gone(each) for each in both)


def test_leaving_early_ends_the_program_and_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(RuntimeError), log.open("wb") as stream, started([sys.executable, "-c", PARENT], tmp_path, stream):
        both = numbers(log)
        raise RuntimeError
    assert all(gone(each) for each in both)


def test_what_has_ended_is_left_alone(tmp_path: Path) -> None:
    with started([sys.executable, "-c", "print('done')"], tmp_path, subprocess.PIPE, text=True) as process:
        assert process.communicate()[0] == "done\n"
        end(process)
    assert process.returncode == 0


def test_signals_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("hwgen.cli.doctor", lambda: seen.append(signal.getsignal(signal.SIGTERM)) or [])
    before = signal.getsignal(signal.SIGTERM)
    main(["doctor"])
    assert before is signal.SIG_DFL and seen != [] and seen[0] is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_handle_no_signals() -> None:
    seen = []

    def work() -> None:
        with ended_by_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
