"""Measure networks from file to co-simulated Verilog and print one table.

    python tools/measure.py [NAME ...]            all networks of the open set where it is there, else the example; or those named
    python tools/measure.py --markdown [NAME ...] the same as Markdown
    python tools/measure.py --readme              the whole table into README.md, between its marks

A row: MACs and cycles of one inference at 16x16 (DMA included, one cycle of memory latency), values of all layers that were compared
and how many differ, score and SQNR on the evaluation data, certified channels, speeds of the tools on this machine (golden model and simulation use one core).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.measure_table import markdown, measured, text

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- results: written by tools/measure.py --readme -->", "<!-- end of results -->"


def readme_with(table: str, readme: str) -> str:
    """README.md with a new table between its marks."""
    before, rest = readme.split(START)
    return f"{before}{START}\n{table}{END}{rest.split(END)[1]}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure networks from file to co-simulated Verilog.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks of the open set, or `example`")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args(argv)
    rows = measured(arguments.names)
    print(markdown(rows) if arguments.markdown or arguments.readme else text(rows))
    if arguments.readme:
        README.write_text(readme_with(markdown(rows), README.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if any(row.mismatches for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
