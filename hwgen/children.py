"""Programs that a command runs: they end with it, and so does what they started in turn, however the command ends (but by SIGKILL)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

_POSIX = sys.platform != "win32"  # elsewhere there are no groups of processes, and no signals to end one


@contextlib.contextmanager
def started(
    command: Sequence[str], folder: Path, output: int | IO[bytes], *, text: bool = False, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[Any]]:
    """The program while it runs, with its standard output and its errors in `output`, which is read as `text`. Whoever leaves early ends it.

    Raises OSError where it cannot start.
    """
    with subprocess.Popen(
        list(command),
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=text,
        errors="replace" if text else None,
        start_new_session=_POSIX,
    ) as process:
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Ends a program of `started` that still runs, and what it has started."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session's number is its own


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the main thread, a request to end (SIGTERM, or the terminal's end) that nobody handles leaves as SystemExit with the shell's code, so that
    all contexts are left on the way; a second one does nothing more."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGHUP]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def leave(number: int, _: FrameType | None) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in ours:
        signal.signal(each, leave)
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)
