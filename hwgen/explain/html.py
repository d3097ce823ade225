"""The page of an explanation, without anything from outside. Every text out of a model is escaped by the template engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwgen.emit.render import render
from hwgen.report.html import Fact
from hwgen.report.losses import First, first_views
from hwgen.report.numbers import number, percent
from hwgen.report.pictures import histogram_picture, shown_channels, spread_picture, sqnr_picture, weights_picture

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LayerView:
    """One line of the table, and the pictures below it; `cells` are the numbers. An empty picture: there is none."""

    name: str
    op: str
    shape: str
    summary: str
    place: int  # among the layers to look at first; 0: none of them
    cells: tuple[str, ...]
    weights: str
    weights_note: str
    histogram: str
    histogram_note: str


@dataclass(frozen=True, kw_only=True)
class ExplanationPage:
    """The template's variables."""

    network: str
    version: str
    settings: str
    inputs: str
    layer_inputs: str
    headline: str
    facts: tuple[Fact, ...]
    first: tuple[First, ...]
    chart: str
    spread: str
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    layers: tuple[LayerView, ...]


GROUPS = {  # of the table's columns: heading, key
    "outputs, dB": {"alone": "alone_db", "weights": "weights_db", "values": "values_db", "up to here": "up_to_here_db"},
    "own values, dB": {"alone": "own_db", "up to here": "here_db"},
}


def decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def render_explanation(content: Json) -> bytes:
    """The page of `explanation_json`."""
    layers = content["layers"]
    places = {entry["layer"]: place for place, entry in enumerate(content["first"], 1)}
    page = ExplanationPage(
        network=content["network"],
        version=content["hwgen"],
        settings=f"{content['scheme']}, scales per {content['granularity']}, range {content['range']}",
        inputs=number(content["inputs"]),
        layer_inputs=number(content["layer_inputs"]),
        headline=headline(content["outputs"]),
        facts=_facts(content["outputs"]),
        first=first_views(content),
        chart=sqnr_picture(layers),
        spread=spread_picture(layers),
        groups=tuple((group, len(columns)) for group, columns in GROUPS.items()),
        columns=tuple(heading for columns in GROUPS.values() for heading in columns),
        layers=tuple(_layer(layer, places.get(layer["name"], 0)) for layer in layers),
    )
    return render("report/explain.html", page).encode()


def headline(outputs: Sequence[Json]) -> str:
    """The network's loss in one line."""
    worst = min(outputs, key=lambda output: float("inf") if output["sqnr_db"] is None else output["sqnr_db"])
    text = f"{decibels(worst['sqnr_db'])} dB at the outputs, the same greatest output as the float network for {percent(worst['agreement'])} of the inputs"
    if worst["accuracy"] is not None:
        text += f"; accuracy {percent(worst['float_accuracy'])} as float, {percent(worst['accuracy'])} as integers"
    return text


def _facts(outputs: Sequence[Json]) -> tuple[Fact, ...]:
    facts = []
    for output in outputs:
        note = output["name"] if len(outputs) > 1 else "before a final Softmax"
        facts += [
            Fact(label="SQNR at the output", value=f"{decibels(output['sqnr_db'])} dB", note=note),
            Fact(label="agreement", value=percent(output["agreement"]), note="same greatest output as float"),
        ]
        if output["accuracy"] is not None:
            facts += [
                Fact(label="accuracy as float", value=percent(output["float_accuracy"])),
                Fact(label="accuracy as integers", value=percent(output["accuracy"])),
            ]
    return tuple(facts)


def _layer(layer: Json, place: int) -> LayerView:
    weights = layer["weights"]
    low, high = layer["range"]
    least, most = layer["observed"]
    keys = [key for columns in GROUPS.values() for key in columns.values()]
    cells = ["" if key == "weights_db" and weights is None else decibels(layer[key]) for key in keys]
    return LayerView(
        name=layer["name"],
        op=layer["op"],
        shape="×".join(map(str, layer["shape"])),
        summary="alone without effect" if layer["alone_db"] is None else f"alone {decibels(layer['alone_db'])} dB",
        place=place,
        cells=(
            *cells,
            percent(layer["agreement"]),
            f"{100 * layer['saturated']:.2g} %" if layer["saturated"] else "",
            f"{weights['spread']:.3g}" if weights else "",
        ),
        weights=weights_picture(weights) if weights else "",
        weights_note=_weights_note(weights) if weights else "",
        histogram=histogram_picture(layer) if layer["histogram"]["counts"] else "",
        histogram_note=f"values {least:.4g} … {most:.4g}, codes reach {low:.4g} … {high:.4g}",
    )


def _weights_note(weights: Json) -> str:
    shown = shown_channels(weights)
    which = f"{weights['channels']} channels" if len(shown) == weights["channels"] else f"{len(shown)} of {weights['channels']} channels, by magnitude"
    shared = "; dashed: one scale for all channels" if len(set(weights["limits"])) == 1 and len(shown) > 1 else ""
    return f"{which}; SQNR of the weights {decibels(weights['sqnr_db'])} dB{shared}"
