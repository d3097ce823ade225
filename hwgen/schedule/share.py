"""How much of a long computation is done, as a share from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[float], None]


def silent(share: float) -> None:
    """For those who do not want to know."""


def between(report: Report, first: float, end: float) -> Report:
    """What a part of the computation reports to, which goes from `first` to `end` of the whole."""
    return lambda share: report(first + (end - first) * share)
