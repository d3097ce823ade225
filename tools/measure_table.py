"""Rows of measurements as one table, for the terminal and for README.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from tools import tables
from tools.measurement import Row, measure
from tools.open_set import FLOAT_MODELS, Network, example, from_open_set, open_set

COLUMNS = (
    "network", "MACs", "cycles", "predicted", "utilization", "differing / values", "inputs", "float", "integer", "SQNR dB", "certified",
    "golden inputs/s", "simulated cycles/s", "build s",
)  # fmt: skip


def networks(names: Sequence[str]) -> Iterator[tuple[str, Network]]:
    """Those named; by default the open set where it is there, else the example. Each is loaded when its turn comes: data are large."""
    module = open_set()
    known = ("example", *(FLOAT_MODELS if module else ()))
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no network {', '.join(unknown)}; there are {', '.join(known)}")
    for name in names or (known[1:] if module else known):
        yield name, from_open_set(module, name) if module and name != "example" else example()


def measured(names: Sequence[str]) -> list[Row]:
    rows = []
    for name, network in networks(names):
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows.append(measure(network))
    return rows


def cells(row: Row) -> list[str]:
    """One text per column."""
    form = "{:.4f} AUC" if row.metric == "auc" else "{:.2%}"
    return [
        row.title,
        f"{row.macs:,}",
        f"{row.measured_cycles:,}",
        f"{row.predicted_cycles:,}",
        f"{row.utilization:.1%}",
        f"{row.mismatches} / {row.compared:,}",
        f"{row.evaluated:,}",
        form.format(row.float_score),
        form.format(row.integer_score),
        f"{row.sqnr_db:.1f}",
        f"{row.certified} / {row.channels}",
        f"{row.golden_per_second:,.0f}" if row.golden_per_second >= 10 else f"{row.golden_per_second:.1f}",
        f"{row.cycles_per_second:,.0f}",
        f"{row.build_seconds:.1f}",
    ]


def markdown(rows: Sequence[Row]) -> str:
    return tables.markdown(COLUMNS, [cells(row) for row in rows])


def text(rows: Sequence[Row]) -> str:
    return tables.text(COLUMNS, [cells(row) for row in rows])
