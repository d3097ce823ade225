"""How long work reports that it advances; the command line draws it, the Python API is silent by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress


class Progress(Protocol):
    """Receives the stages of a job in order."""

    def stage(self, name: str, total: int = 0) -> None:
        """A stage of `total` steps begins (0: unknown), the one before it is done."""

    def step(self, done: int) -> None:
        """`done` steps of the present stage are done."""


class Silent:
    """Reports nothing."""

    def stage(self, name: str, total: int = 0) -> None:
        pass

    def step(self, done: int) -> None:
        pass


class Bars:
    """One line per stage, with a bar where the number of steps is known."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def stage(self, name: str, total: int = 0) -> None:
        self.finish()
        self._task = self._bars.add_task(name, total=total or None)

    def step(self, done: int) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done)

    def finish(self) -> None:
        """Mark the present stage as done."""
        if self._task is not None:
            total = next(task.total for task in self._bars.tasks if task.id == self._task) or 1
            self._bars.update(self._task, total=total, completed=total)


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    """Progress drawn on `console` while the block runs; when it is no terminal, one line per finished stage."""
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with RichProgress(*columns, console=console) as drawn:
        progress = Bars(drawn)
        yield progress
        progress.finish()
