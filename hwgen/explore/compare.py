"""The verb `compare`: the accuracy-loss table over methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwgen import __version__
from hwgen.arrays import read_network_arrays
from hwgen.config import DEFAULT_PRESET, PRESETS, HardwareConfig
from hwgen.errors import ConfigError
from hwgen.explore.methods import METHODS
from hwgen.explore.table import Json, attempt_json, markdown, picture, render_comparison
from hwgen.explore.workbench import Attempt, Workbench
from hwgen.frontend.onnx import load_float_graph
from hwgen.output import places, write_file
from hwgen.progress import Progress, Silent
from hwgen.report.collect import to_json
from hwgen.report.svg import standalone

FORMAT = 1  # raised when a key changes its meaning


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """`inputs` are measured on, labels beside them as `y`. `methods`: names of METHODS, none for all. `out`: a file that ends in .html, .md,
    .json or .svg, a folder for all of them, or None."""

    model: Path
    calibration: Path
    inputs: Path
    out: Path | None = None
    methods: Sequence[str] = ()
    hardware: HardwareConfig = PRESETS[DEFAULT_PRESET]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`content` is the same for the same network and data; how long each attempt took stands in the attempts only."""

    content: Json
    attempts: tuple[Attempt, ...]


def compare(request: CompareRequest, *, progress: Progress | None = None) -> Comparison:
    """Quantize a float model in every way, measure each, write what was asked for.

    Raises ModelError, UnsupportedError, DataError, ConfigError or OutputError; nothing is written then. A method that is impossible is a row
    that says why.
    """
    progress = progress or Silent()
    names = _names(request.methods)
    files = places(request.out, "compare", (".html", ".md", ".json", ".svg"))
    progress.stage("read the model")
    graph = load_float_graph(request.model)
    calibration, _ = read_network_arrays(request.calibration, graph.inputs)
    inputs, labels = read_network_arrays(request.inputs, graph.inputs)
    progress.stage("float network")
    bench = Workbench(graph, calibration, inputs, labels, request.hardware)
    progress.stage("quantize in every way", total=len(names))
    attempts = []
    for index, name in enumerate(names, 1):
        attempts.append(bench.attempt(name, METHODS[name]))
        progress.step(index)
    content = {
        "format": FORMAT,
        "hwgen": __version__,
        "network": graph.name,
        "hardware": request.hardware.name,
        "inputs": len(next(iter(inputs.values()))),
        "methods": [attempt_json(attempt) for attempt in attempts],
    }
    for path, data in {path: _rendered(path.suffix, content) for path in files}.items():
        write_file(path, data)
    return Comparison(content=content, attempts=tuple(attempts))


def _names(chosen: Sequence[str]) -> list[str]:
    """Raises ConfigError for a method that there is not."""
    for name in chosen:
        if name not in METHODS:
            raise ConfigError(f"method {name!r}: must be one of {'; '.join(METHODS)}")
    return list(dict.fromkeys(chosen)) or list(METHODS)


def _rendered(suffix: str, content: Json) -> bytes:
    if suffix == ".html":
        return render_comparison(content)
    if suffix == ".md":
        return markdown(content["methods"]).encode()
    return to_json(content) if suffix == ".json" else standalone(picture(content["methods"]))
