"""Where the command line writes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

OK, MISMATCH, USER_ERROR = 0, 1, 2  # exit codes
TABLE_WIDTH = 130
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def shown(path: Path) -> str:
    """A path as text that every terminal takes: bytes that are no UTF-8 become question marks."""
    return escape(str(path).encode("utf-8", "replace").decode())


def print_wide(table: Table) -> None:
    """A table with many columns: in a narrow terminal its lines wrap, and no column is cut."""
    Console(soft_wrap=True, highlight=False, width=max(out.width, TABLE_WIDTH)).print(table)
