"""`evaluate`: the float network against the integer golden model on whole data sets."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen.arrays import LABELS, AnyArray, labels_of, read_network_arrays, read_npz
from hwgen.build import FLOAT_MODEL, QUANTIZED_MODEL
from hwgen.errors import DataError, ModelError
from hwgen.frontend.onnx import load_float_graph, load_model
from hwgen.frontend.onnx_file import is_quantized_model, network_name
from hwgen.frontend.qdq import import_quantized_model, load_quantized_graph
from hwgen.ir.evaluate import evaluate as evaluate_float
from hwgen.ir.graph import Graph, GraphOutput
from hwgen.ir.host import Reshape, Transpose
from hwgen.layout import Int8Array
from hwgen.ops.golden import golden
from hwgen.output import check_files, read_manifest, write_file
from hwgen.progress import Progress, Silent
from hwgen.score import OutputScore, real_outputs, score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of `count` inputs; `integers` and `reals` by output name, as the ONNX model shapes them, before a final Softmax."""

    count: int
    images_per_second: float
    scores: tuple[OutputScore, ...]
    integers: Mapping[str, npt.NDArray[Any]]
    reals: Mapping[str, npt.NDArray[np.float32]]


def outside_codes(graph: Graph, output: GraphOutput, codes: Int8Array) -> npt.NDArray[Any]:
    """The integers of an output, shaped as the ONNX model's output, uint8 or int8 as the quantized ONNX model has them."""
    array: npt.NDArray[Any] = graph.values[output.value].quantized.outside(codes)
    for step in output.steps:
        if isinstance(step, Reshape | Transpose):
            array = step.apply(array)
    return array


def _labels(path: Path | None, found: npt.NDArray[np.int64] | None, count: int) -> npt.NDArray[np.int64] | None:
    if path is None:
        return found
    arrays = read_npz(path)
    if LABELS not in arrays and len(arrays) == 1:
        arrays = {LABELS: next(iter(arrays.values()))}
    labels = labels_of(arrays, count, path.name)
    if labels is None:
        raise DataError(f"data {path.name!r}: must hold the labels as array {LABELS!r}, found {', '.join(map(repr, arrays)) or 'none'}")
    return labels


def _networks(out: Path, float_model: Path | None) -> tuple[Graph, Path | None]:
    """The quantized network of a built folder or of a quantized ONNX file, and where the float one lies."""
    if os.path.isfile(out):  # where Path.is_file raises, for a name too long, this is False, and the manifest's message comes
        model = load_model(out)
        if not is_quantized_model(model):
            raise ModelError(f"model {out.name!r}: must be quantized to be evaluated, is float; run hwgen quantize or hwgen build first")
        return import_quantized_model(model, network_name(out)), float_model
    manifest = read_manifest(out)
    check_files(out, manifest)
    inside = out / FLOAT_MODEL if FLOAT_MODEL in manifest.files else None
    return load_quantized_graph(out / QUANTIZED_MODEL), float_model or inside


def evaluate(out: Path, inputs: Path, *, labels: Path | None = None, float_model: Path | None = None, progress: Progress | None = None) -> Evaluation:
    """Run every input of the file `inputs` through the quantized network of `out` (a built folder, or a quantized ONNX file) and through
    the float one (that of the folder, or `float_model`). Labels: `y` of `labels`, else of `inputs`.

    Raises DataError where arrays do not fit, OutputError when `out` was not built by hwgen, MismatchError when it was changed.
    """
    progress = progress or Silent()
    progress.stage("read the networks")
    graph, reference_model = _networks(out, float_model)
    arrays, found = read_network_arrays(inputs, graph.inputs)
    count = len(next(iter(arrays.values())))
    wanted = _labels(labels, found, count)
    progress.stage("golden model")
    start = time.perf_counter()
    codes = golden(graph, arrays)
    seconds = time.perf_counter() - start
    progress.stage("float network")
    reference: Mapping[str, AnyArray] = {}
    if reference_model is not None:
        reference = evaluate_float(load_float_graph(reference_model), arrays, softmax=False)
    reals = real_outputs(graph, codes)
    return Evaluation(
        count=count,
        images_per_second=count / max(seconds, 1e-9),
        scores=tuple(score(name, real, reference.get(name), wanted) for name, real in reals.items()),
        integers={o.name: outside_codes(graph, o, codes[o.value]) for o in graph.outputs},
        reals=reals,
    )


def save(evaluation: Evaluation, path: Path) -> None:
    """`q` and `y` of the only output as .npz; with several outputs `q:NAME` and `y:NAME`."""
    single = len(evaluation.reals) == 1
    arrays: dict[str, Any] = {("q" if single else f"q:{name}"): array for name, array in evaluation.integers.items()}
    arrays |= {("y" if single else f"y:{name}"): array for name, array in evaluation.reals.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_file(path, buffer.getvalue())
