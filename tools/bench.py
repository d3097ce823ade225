"""Measure how much of the array's time does useful work, on every network and array shape, and print the tables.

    python tools/bench.py [ROW ...]          all rows, or those named (see --list)
    python tools/bench.py --small            without the networks of more than 100 million multiply-accumulates
    python tools/bench.py --markdown         as Markdown
    python tools/bench.py --readme           the tables into README.md, between their marks

Networks come from the open set beside the repository where it is there, else seeded weights of the same shape (marked *). Cycles are those
of one inference, DMA included, in co-simulation with a memory of one cycle of latency; `first`: those of the inference that loads the
weights, where they then stay on the chip. Ends with 1 if a value differs from the golden model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import bare_loop, tables
from tools.bench_cases import CASES, LARGE
from tools.bench_run import SLOW_LATENCY, Found, run
from tools.seeded_networks import SHAPES

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- speed: written by tools/bench.py --readme -->", "<!-- end of speed -->"
COLUMNS = (
    "network", "array", "buffers", "cycles", "first", "predicted", "at least", "utilization", "goal", "better goal", f"latency {SLOW_LATENCY}", "predicted",
    "differing / values",
)  # fmt: skip
SPEED_COLUMNS = ("network", "array", "build s", "verify s", "of it simulation", "simulated cycles/s", "cycle model s")
GROUPS = {  # column of the table of uses: uses that it adds up
    "work": ("useful",),
    "input lanes": ("input_lanes",),
    "output lanes": ("output_lanes",),
    "depthwise": ("depthwise",),
    "again": ("recomputed",),
    "without MACs": ("without_macs",),
    "short passes": ("short_pass",),
    "output": ("output",),
    "window": ("window",),
    "setup, drain": ("setup", "drain"),
    "weights": ("weight_wait",),
    "inputs": ("input_wait",),
    "stores": ("store_wait",),
    "program": ("program",),
}


def title(found: Found) -> str:
    return SHAPES[found.case.network].title + ("" if found.trained else " *")


def array(found: Found) -> str:
    return f"{found.case.hardware.out_lanes}x{found.case.hardware.in_lanes}"


def buffers(found: Found) -> str:
    """KiB of activations and of weights."""
    c = found.case.hardware
    return f"{c.activation_words * c.in_lanes // 1024} + {c.weight_words * c.weight_word_bytes // 1024} KiB"


def goal(cycles: int | None, measured: int) -> str:
    """The goal in cycles, and whether it is met."""
    if cycles is None:
        return ""
    return f"{cycles:,} {'✓' if 0 < measured <= cycles else '✗'}"


def cells(found: Found) -> list[str]:
    case = found.case
    head, goals = [title(found), array(found), buffers(found)], [goal(cycles, found.measured) for cycles in (case.most_cycles, case.stretch_cycles)]
    if found.problem:
        return [*head, "–", "–", "–", f"{case.at_least_cycles:,}", "–", *goals, "–", "–", "–"]
    return [
        *head,
        f"{found.measured:,}",
        "" if found.cold_measured is None else f"{found.cold_measured:,}",
        "equal" if found.predicted == found.measured else f"{found.predicted:,}",
        f"{case.at_least_cycles:,}",
        f"{found.utilization:.1%}",
        *goals,
        f"{found.slow_measured / found.measured - 1:+.1%}",
        "equal" if found.slow_predicted == found.slow_measured else f"{found.slow_predicted / found.slow_measured - 1:+.2%}",
        f"{found.differing} / {found.compared:,}",
    ]


def use_cells(found: Found) -> list[str]:
    """Percent of the cycles of each group of uses."""
    total = sum(found.uses.values())
    shares = [sum(found.uses[use] for use in group) / total for group in GROUPS.values()]
    return [title(found), array(found), *(f"{share:.1%}" if share else "" for share in shares)]


def speed_cells(found: Found) -> list[str]:
    return [
        title(found),
        array(found),
        f"{found.build_seconds:.1f}",
        f"{found.verify_seconds:.1f}",
        f"{found.simulation_seconds:.2f}",
        f"{found.simulated_per_second:,.0f}",
        f"{found.model_seconds:.3f}",
    ]


def rendered(rows: Sequence[Found], *, markdown: bool) -> str:
    """Three tables: cycles, what the array did in them, speed of the tools; behind the first the rows that could not be measured."""
    form = tables.markdown if markdown else tables.text
    measured = [found for found in rows if not found.problem]
    problems = "".join(f"- {title(found)}, {array(found)}: {found.problem}\n" for found in rows if found.problem)
    parts = [form(COLUMNS, [cells(found) for found in rows]), problems]
    parts += [form(("network", "array", *GROUPS), [use_cells(found) for found in measured]), form(SPEED_COLUMNS, [speed_cells(found) for found in measured])]
    return "\n".join(part for part in parts if part)


def readme_with(content: str, readme: str) -> str:
    """README.md with new tables between their marks."""
    before, rest = readme.split(START)
    return f"{before}{START}\n{content}{END}{rest.split(END)[1]}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure cycles, utilization and where the other cycles go.")
    parser.add_argument("names", nargs="*", metavar="ROW")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--small", action="store_true", help="without the networks of more than 100 million multiply-accumulates")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in CASES]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(CASES)}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    if arguments.list:
        print("\n".join(CASES))
        return 0
    rows = []
    for name in arguments.names or [name for name in CASES if not (arguments.small and name in LARGE)]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows.append(run(CASES[name]))
    content = rendered(rows, markdown=arguments.markdown or arguments.readme)
    if not arguments.names:
        content += f"\n{bare_loop.line(CASES['resnet8'], bare_loop.compare(CASES['resnet8']))}\n"
    print(content)
    if arguments.readme:
        README.write_text(readme_with(content, README.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if any(found.differing for found in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
