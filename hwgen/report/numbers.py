"""Numbers as pages show them."""

from __future__ import annotations


def number(value: float | int | None, digits: int = 0) -> str:
    """1,234,567 or 12.3; a dash for what is not known."""
    return "–" if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
