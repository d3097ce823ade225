"""An explanation for the terminal."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from hwgen.explain.html import decibels

Json = dict[str, Any]
NAME_LIMIT = 44
COLUMNS = {  # of the terminal's table: heading, key
    "alone": "alone_db",
    "weights": "weights_db",
    "values": "values_db",
    "up to here": "up_to_here_db",
    "own": "here_db",
}


def short_name(name: str, limit: int = NAME_LIMIT) -> str:
    """A layer's name as markup that fits a table; of long ones the end, which tells them apart."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return escape(printable if len(printable) <= limit else "…" + printable[1 - limit :])


def layer_table(content: Json) -> Table:
    """One line per layer of `explanation_json`; those to look at first are numbered in the first column."""
    places = {entry["layer"]: str(place) for place, entry in enumerate(content["first"], 1)}
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("layer", no_wrap=True)
    for heading in (*COLUMNS, "saturated", "spread"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in content["layers"]:
        weights = layer["weights"]
        cells = ["" if key == "weights_db" and weights is None else decibels(layer[key]) for key in COLUMNS.values()]
        saturated = f"{100 * layer['saturated']:.2g} %" if layer["saturated"] else ""
        spread = f"{weights['spread']:.3g}" if weights else ""
        table.add_row(places.get(layer["name"], ""), short_name(layer["name"]), *cells, saturated, spread)
    return table


def first_lines(content: Json) -> list[str]:
    """The layers to look at first, as markup."""
    return [f"{place}. {short_name(entry['layer'])}: {escape(entry['sentence'])}" for place, entry in enumerate(content["first"], 1)]
