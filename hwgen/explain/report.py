"""An explanation as plain data; every key is described in docs/report.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen import __version__
from hwgen.explain.explain import Advice, Explanation
from hwgen.explain.measure import StageMeasure
from hwgen.explain.weights import WeightStatistics
from hwgen.report.collect import finite
from hwgen.report.pictures import BOX

FORMAT = 1  # raised when a key changes its meaning
BINS = 80  # of the histograms shown

Json = dict[str, Any]


def explanation_json(found: Explanation) -> Json:
    """Everything that the page shows."""
    options = found.report.options
    return {
        "format": FORMAT,
        "hwgen": __version__,
        "network": found.graph.name,
        "scheme": options.scheme.value,
        "granularity": options.granularity.value,
        "range": options.ranges.value,
        "inputs": found.scored,
        "layer_inputs": found.count,
        "outputs": [
            {
                "name": each.name,
                "float_accuracy": each.float_accuracy,
                "accuracy": each.accuracy,
                "agreement": each.agreement,
                "sqnr_db": finite(each.sqnr_db),
            }
            for each in found.scores
        ],
        "first": [_advice(advice) for advice in found.first],
        "layers": [_layer(each, found) for each in found.stages],
    }


def summary(content: Json) -> Json:
    """What report.json holds of `explanation_json`."""
    keys = ("name", "alone_db", "up_to_here_db")
    layers = [{key: layer[key] for key in keys} for layer in content["layers"]]
    return {"layer_inputs": content["layer_inputs"], "first": content["first"], "layers": layers}


def _advice(advice: Advice) -> Json:
    return {
        "layer": advice.measure.stage.name,
        "cause": advice.remedy.name if advice.remedy else None,
        "alone_db": finite(advice.measure.alone_db),
        "remedied_db": finite(advice.remedied_db),
        "sentence": advice.sentence,
    }


def _layer(each: StageMeasure, found: Explanation) -> Json:
    q, node = found.graph.values[each.stage.value].quantized, each.stage.node
    statistics = found.weights.get(each.stage.name)
    decibels = ("alone_db", "weights_db", "values_db", "up_to_here_db", "own_db", "here_db")
    return {
        "name": each.stage.name,
        "op": type(node.op).__name__ if node else "input",
        "shape": list(found.graph.values[each.stage.value].type.shape),
        **{key: finite(getattr(each, key)) for key in decibels},
        "agreement": each.agreement,
        "saturated": _short(each.saturated),
        "observed": [_short(float(each.low.min())), _short(float(each.high.max()))],
        "range": [_short(float(q.scale) * (end - q.zero_point)) for end in (-128, 127)],
        "histogram": histogram(each),
        "widened_channels": found.report.widened.get(each.stage.name, 0),
        "weights": _weights(statistics) if statistics else None,
    }


def _weights(found: WeightStatistics) -> Json:
    return {
        "channels": len(found.boxes),
        "sqnr_db": finite(found.sqnr_db),
        "spread": _short(found.spread),
        "peak": _short(found.peak),
        "codes": found.codes,
        "format": found.kind.name.lower(),
        "limits": _all_short(found.limits),
        **{name: _all_short(column) for name, column in zip(BOX, found.boxes.T, strict=True)},
    }


def histogram(each: StageMeasure) -> Json:
    """Counts of the float values in equal bins from `low` to `high`, which are the extremes (0 where these are closer to zero)."""
    low, high = min(float(each.low.min()), 0.0), max(float(each.high.max()), 0.0)
    assert each.observer.counts is not None
    if not high > low:
        return {"low": 0.0, "high": 0.0, "counts": []}
    counts, _ = np.histogram(np.clip(each.observer.centers, low, high), BINS, (low, high), weights=each.observer.counts)
    return {"low": _short(low), "high": _short(high), "counts": [int(count) for count in counts]}


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _all_short(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [_short(value) for value in values.tolist()]
