"""Float graph and calibration data -> quantized graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from hwgen.errors import ConfigError
from hwgen.ir.evaluate import array_of, evaluate, require_one_batch
from hwgen.ir.graph import Graph
from hwgen.ir.types import FloatArray
from hwgen.ops.check import check_quantized
from hwgen.ops.conv import Conv
from hwgen.quantize.activations import quantize_activations
from hwgen.quantize.certify import certificates
from hwgen.quantize.options import QuantizeOptions, RangeMethod
from hwgen.quantize.ranges import Observer, choose_range
from hwgen.quantize.report import QuantizationReport
from hwgen.quantize.weights import quantize_conv, require_float

BATCH_ELEMENTS = 1 << 22  # activations of a calibration batch, all values together


def quantize(graph: Graph, calibration: Mapping[str, FloatArray], options: QuantizeOptions | None = None) -> Graph:
    """The integer form of a float graph; see `quantize_with_report`."""
    return quantize_with_report(graph, calibration, options)[0]


def quantize_with_report(graph: Graph, calibration: Mapping[str, FloatArray], options: QuantizeOptions | None = None) -> tuple[Graph, QuantizationReport]:
    """Quantize by calibration: arrays (any number of inputs, ...) by input name, as the model takes them.

    Raises DataError for missing, empty or unequally long calibration arrays, QuantizationError where no legal integer form exists.
    """
    options = options or QuantizeOptions()
    require_float(graph)
    _require_layers(graph, options)
    observers = observe(graph, calibration, histogram=options.ranges is not RangeMethod.MINMAX)
    ranges = {name: choose_range(observer, options) for name, observer in observers.items()}
    scaled = quantize_activations(graph, ranges, options)
    nodes, widened = [], {}
    for node in graph.nodes:
        if isinstance(node.op, Conv):
            op, count = quantize_conv(node, scaled, options)
            node = replace(node, op=op)
            if count:
                widened[node.name] = count
        nodes.append(node)
    result = scaled.with_nodes(tuple(nodes))
    check_quantized(result)
    return result, QuantizationReport(options=options, ranges=ranges, widened=widened, records=certificates(result))


def _require_layers(graph: Graph, options: QuantizeOptions) -> None:
    """Raises ConfigError when options name a layer that has no weights."""
    layers = [node.name for node in graph.nodes if isinstance(node.op, Conv)]
    for name, _ in options.layer_weights:
        if name not in layers:
            raise ConfigError(f"weights of layer {name!r}: there must be such a convolution; layers with weights are {', '.join(map(repr, layers))}")


def observe(graph: Graph, calibration: Mapping[str, FloatArray], *, histogram: bool) -> dict[str, Observer]:
    """What each value of the graph took over the calibration inputs."""
    observers = {name: Observer(name, histogram=histogram) for name in graph.values}
    for batch in _batches(graph, calibration):
        results = evaluate(graph, batch, outside=False)
        for name, observer in observers.items():
            observer.add(results[name])
    return observers


def _batches(graph: Graph, calibration: Mapping[str, FloatArray]) -> Iterator[dict[str, FloatArray]]:
    """The calibration arrays in pieces, the last one possibly shorter; checked whole before the first."""
    arrays = {entry.name: array_of(entry, calibration) for entry in graph.inputs}
    total = require_one_batch(arrays)
    block = max(1, BATCH_ELEMENTS // max(1, sum(value.type.elements for value in graph.values.values())))
    for start in range(0, total, block):
        yield {name: array[start : start + block] for name, array in arrays.items()}
