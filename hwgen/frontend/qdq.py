"""Quantized ONNX models, in QDQ form (DequantizeLinear, float operator, QuantizeLinear) or QOperator form (QLinearConv, ...)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx

from hwgen.arith import MULTIPLIER_BITS, Rounding
from hwgen.errors import ModelError
from hwgen.frontend.onnx import import_model, load_model
from hwgen.frontend.onnx_file import is_qonnx_model, network_name
from hwgen.frontend.qdq_attach import attach
from hwgen.frontend.qdq_operators import HANDLERS
from hwgen.frontend.qdq_strip import strip
from hwgen.frontend.qonnx import QONNX_HANDLERS
from hwgen.frontend.qonnx_attach import Calibrate, attach_qonnx
from hwgen.ir.graph import Arithmetic, Graph
from hwgen.ops.check import check_quantized
from hwgen.optimize import optimize

# Keys of the file's metadata in which hwgen notes what ONNX has no words for.
NOTE_MULTIPLIER_BITS, NOTE_ROUNDING, NOTE_RENAMED = "hwgen.multiplier_bits", "hwgen.rounding", "hwgen.renamed"


def load_quantized_graph(path: Path) -> Graph:
    """Read a quantized model: what hwgen wrote gives the same integers again, other tools' models theirs.

    Raises ModelError for a damaged file, UnsupportedError listing what is quantized in a way that hwgen does not implement, and
    QuantizationError for illegal scales and zero points.
    """
    return import_quantized_model(load_model(path), network_name(path))


def import_quantized_model(
    model: onnx.ModelProto, name: str, *, calibrate: Calibrate | None = None, assumed: dict[str, float] | None = None, arithmetic: Arithmetic | None = None
) -> Graph:
    """As `load_quantized_graph`, from a checked model in memory. Outputs that the model gives as codes are given as real values.

    `calibrate` gives typical values of the inputs, for QONNX models that do not quantize them. Else these raise DataError, or, where `assumed`
    is given, a range is assumed and noted there: the greatest magnitude, by input name. `arithmetic`
    is that of models in which hwgen noted none: other tools' integers are met the better, the more bits multipliers have.
    """
    qonnx = is_qonnx_model(model)
    stripped = strip(model, QONNX_HANDLERS if qonnx else HANDLERS)
    raw = import_model(stripped.model, name, stripped.activations)
    marked = {key: replace(value, quantization=stripped.activations.get(key, value.quantization)) for key, value in raw.values.items()}
    dtypes = {entry.name: str(onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)) for entry in model.graph.input}
    inputs = tuple(replace(entry, dtype=dtypes[entry.name]) for entry in raw.inputs)
    graph = replace(raw, values=marked, inputs=inputs, arithmetic=_arithmetic(model, arithmetic or Arithmetic()))
    # the passes of `optimize` keep what is rounded in between
    quantized = attach_qonnx(graph, stripped, calibrate, assumed) if qonnx else attach(optimize(graph), stripped)
    check_quantized(quantized)
    return _with_own_names(quantized, model)


def _with_own_names(graph: Graph, model: onnx.ModelProto) -> Graph:
    """Values and nodes get back the names that they could not have in the file, where hwgen noted them there."""
    noted = next((entry.value for entry in model.metadata_props if entry.key == NOTE_RENAMED), "{}")
    try:
        pairs = json.loads(noted)
    except ValueError as error:
        raise ModelError(f"metadata {NOTE_RENAMED}: must be JSON, not {noted[:40]!r}") from error
    names = {name: name for name in graph.values}
    for old, new in pairs.items() if isinstance(pairs, dict) else ():
        if old in names and isinstance(new, str) and new not in names.values():
            names[old] = new
    values = {names[name]: replace(value, name=names[name]) for name, value in graph.values.items()}
    nodes = []
    for node in graph.nodes:
        operands = tuple(names[name] for name in node.inputs)
        nodes.append(replace(node, name=names.get(node.name, node.name), inputs=operands, output=names[node.output]))
    outputs = tuple(replace(output, value=names[output.value]) for output in graph.outputs)
    inputs = tuple(replace(entry, value=names[entry.value]) for entry in graph.inputs)
    return replace(graph, values=values, nodes=tuple(nodes), outputs=outputs, inputs=inputs)


def _arithmetic(model: onnx.ModelProto, default: Arithmetic) -> Arithmetic:
    """What hwgen noted in the file, or the default."""
    notes = {entry.key: entry.value for entry in model.metadata_props}
    if NOTE_MULTIPLIER_BITS not in notes and NOTE_ROUNDING not in notes:
        return default
    bits = notes.get(NOTE_MULTIPLIER_BITS, "16")
    legal = [str(number) for number in MULTIPLIER_BITS]
    if bits not in legal:
        raise ModelError(f"metadata {NOTE_MULTIPLIER_BITS}: must be one of {', '.join(legal)}, not {bits[:40]!r}")
    rounding = notes.get(NOTE_ROUNDING, Rounding.HALF_EVEN.value)
    if rounding not in [rule.value for rule in Rounding]:
        raise ModelError(f"metadata {NOTE_ROUNDING}: must be half_even or half_up, not {rounding[:40]!r}")
    return Arithmetic(multiplier_bits=int(bits), rounding=Rounding(rounding))
