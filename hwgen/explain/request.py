"""The verb `explain`: from files to files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hwgen.arrays import read_network_arrays
from hwgen.explain.explain import explain
from hwgen.explain.html import render_explanation
from hwgen.explain.report import Json, explanation_json
from hwgen.network import load_network
from hwgen.output import places, write_file
from hwgen.progress import Progress, Silent
from hwgen.quantize import QuantizeOptions
from hwgen.report.collect import to_json


@dataclass(frozen=True, kw_only=True)
class ExplainRequest:
    """`inputs`: what to measure on (None: the calibration data), labels beside them as `y`. `out`: a folder for explain.html and
    explain.json, or one file of either kind; None: write nothing. `count`: inputs that layers are measured on (None: as time allows)."""

    model: Path
    calibration: Path
    inputs: Path | None = None
    out: Path | None = None
    count: int | None = None
    options: QuantizeOptions = field(default_factory=QuantizeOptions)


def explain_model(request: ExplainRequest, *, progress: Progress | None = None) -> Json:
    """Quantize a float model, explain it, write what was asked for; returns `explanation_json`.

    Raises ModelError, UnsupportedError, DataError, QuantizationError or OutputError; nothing is written then.
    """
    progress = progress or Silent()
    files = places(request.out, "explain", (".html", ".json"))
    network = load_network(request.model, request.calibration, request.options, progress)
    arrays, labels = None, None
    if request.inputs is not None:
        arrays, labels = read_network_arrays(request.inputs, network.graph.inputs)
    content = explanation_json(explain(network, arrays, labels, count=request.count, progress=progress))
    pages = {path: render_explanation(content) if path.suffix == ".html" else to_json(content) for path in files}
    for path, data in pages.items():
        write_file(path, data)
    return content
