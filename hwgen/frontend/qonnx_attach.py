"""From the graph of a QONNX model, whose weights are codes, to the quantized graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hwgen.errors import DataError, ModelError, Unsupported, UnsupportedError
from hwgen.frontend.fine_conv import fine_conv
from hwgen.frontend.qdq_attach import PRODUCTS, Parameters, not_quantized, original, quantization_by_value, with_equal_scales
from hwgen.frontend.qdq_strip import Stripped
from hwgen.frontend.qonnx_fold import Scaled, averages_as_products, fold_scales
from hwgen.frontend.qonnx_ranges import input_quantization, output_quantization, sensible_reach
from hwgen.ir import host
from hwgen.ir.evaluate import to_canonical
from hwgen.ir.graph import Graph, GraphInput, Node, Value
from hwgen.ir.types import Quantization
from hwgen.ops.check import GREATEST_WEIGHT
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import Conv
from hwgen.optimize import optimize

Calibrate = Callable[[Sequence[GraphInput]], Mapping[str, npt.NDArray[np.generic]]]

STEEP = 4  # codes per product of a bipolar activation: its steps of 4 from an odd code never meet 0
INPUT_STEEPNESS = 2.0**40  # by which an input that is quantized to -1 and +1 is multiplied on the processor


def attach_qonnx(raw: Graph, stripped: Stripped, calibrate: Calibrate | None, assumed: dict[str, float] | None) -> Graph:
    """The quantized graph. `raw`: as imported, values that a quantizer makes are marked.

    Inputs that have no quantizer take their range from `calibrate`; without it the first layer tells how large they sensibly are, which is
    noted in `assumed`, where that is given. Outputs that have none take it from the weights. Raises UnsupportedError naming what is not
    quantized in a supported way, DataError where calibration data are needed.
    """
    reader = Parameters(stripped)
    raw, averages = averages_as_products(raw)
    products = {proto.name for proto in stripped.model.graph.node if proto.op_type in PRODUCTS} | set(averages)
    weight_scales, problems = {}, []
    for node in raw.nodes:
        if isinstance(node.op, Conv) and node.source[0] in products:
            if node.source[0] in averages:
                weight_scales[node.source[0]] = averages[node.source[0]]
                continue
            try:
                weight_scales[node.source[0]] = reader.weight_scale(node.op, reader.protos(node)).astype(np.float64)
            except ModelError as error:
                problems.append(Unsupported(node=original(stripped, node.source[0]), operator="Conv", reason=str(error)))
    if problems:
        raise UnsupportedError(problems)
    graph, scaled = fold_scales(raw, products, weight_scales)
    graph = _with_steep_inputs(optimize(graph), stripped)
    graph = _with_ranges(graph, stripped, _Scales(scaled, weight_scales), calibrate, assumed)
    nodes = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Conv):
            try:
                op = _quantized(node, op, graph, stripped, _Scales(scaled, weight_scales))
            except ModelError as error:
                problems.append(Unsupported(node=node.name, operator="Conv", reason=str(error)))
        elif node.output in stripped.bipolar and not _follows(node, graph, stripped):
            problems.append(Unsupported(node=node.name, operator=type(op).__name__, reason="must be quantized to -1 and +1 by a layer with weights"))
        elif node.output in stripped.rounding:
            reason = f"must round to nearest, not {stripped.rounding[node.output]}: only layers with weights can round otherwise"
            problems.append(Unsupported(node=node.name, operator=type(op).__name__, reason=reason))
        nodes.append(replace(node, op=op, source=tuple(original(stripped, number) for number in node.source)))
    if problems:
        raise UnsupportedError(problems)
    return with_equal_scales(graph.with_nodes(tuple(nodes)))


class _Scales:
    """What products are multiplied by, and what is added, by node."""

    def __init__(self, scaled: Mapping[str, Scaled], weight_scales: Mapping[str, npt.NDArray[np.float64]]) -> None:
        self.scaled, self.weight_scales = scaled, weight_scales

    def of(self, node: Node) -> Scaled | None:
        """Of a product, with its weights' scale; None for other convolutions, whose real weights are scales themselves."""
        number = next((number for number in node.source if number in self.scaled), None)
        if number is None:
            return None
        return Scaled(scale=self.scaled[number].scale * self.weight_scales[number], offset=self.scaled[number].offset)


def _follows(node: Node, graph: Graph, stripped: Stripped) -> bool:
    """A clamp of codes that are -1 and +1 already, or of an input that the processor has made steep."""
    return isinstance(node.op, Clamp) and (node.inputs[0] in stripped.bipolar or graph.producer(node.inputs[0]) is None)


def _with_steep_inputs(graph: Graph, stripped: Stripped) -> Graph:
    """An input that is quantized to -1 and +1: the processor multiplies it until no value but 0 rounds to 0, and moves 0 to +1."""
    inputs = list(graph.inputs)
    for index, entry in enumerate(inputs):
        readers = graph.consumers(entry.value)
        if any(isinstance(node.op, Clamp) and node.output in stripped.bipolar for node in readers):
            if len(readers) > 1:
                raise ModelError(f"input {entry.name!r}: is quantized to -1 and +1 and must be read by that quantizer only, has {len(readers)} readers")
            scale = np.float32(stripped.activations[readers[0].output].scale)
            steep = host.Affine(scale=np.array(scale * np.float32(INPUT_STEEPNESS), np.float32), offset=np.array(scale * np.float32(0.75), np.float32))
            inputs[index] = replace(entry, steps=(*entry.steps, steep))
    return replace(graph, inputs=tuple(inputs))


def _with_ranges(graph: Graph, stripped: Stripped, scales: _Scales, calibrate: Calibrate | None, assumed: dict[str, float] | None) -> Graph:
    """Every value quantized: as the model says, else inputs by data and outputs by what their layers can give."""
    known = quantization_by_value(graph, stripped)
    open_inputs = [entry for entry in graph.inputs if entry.value not in known]
    arrays = calibrate(graph.inputs) if open_inputs and calibrate is not None else {}
    for entry in open_inputs:
        if calibrate is not None:
            known[entry.value] = input_quantization(to_canonical(entry, np.asarray(arrays[entry.name], np.float32)))
            continue
        reach = _sensible_reach(entry, graph, scales, known) if assumed is not None else None
        if assumed is None or reach is None:
            raise DataError(f"model {graph.name!r}: its input {entry.name!r} has no quantizer and needs calibration data; pass --calibration X.npz")
        assumed[entry.name] = reach
        known[entry.value] = input_quantization(np.array([-reach, reach], np.float32))
    known = quantization_by_value(graph, stripped, known)
    values = {name: replace(value, quantization=known.get(name)) for name, value in graph.values.items()}
    graph = replace(graph, values=values)
    for node in graph.nodes:
        if graph.values[node.output].quantization is None and graph.is_output(node.output):
            found = output_quantization(node, graph, scales.of(node))
            if found is not None:
                graph = replace(graph, values={**graph.values, node.output: replace(graph.values[node.output], quantization=found)})
    problems = [not_quantized(value, graph, stripped) for value in _open_values(graph)]
    if problems:
        raise UnsupportedError(problems)
    return graph


def _sensible_reach(entry: GraphInput, graph: Graph, scales: _Scales, known: Mapping[str, Quantization]) -> float | None:
    """The largest of what the layers that read an input call sensible; None where another operator reads it, or a layer that does not round."""
    reaches = []
    for node in graph.consumers(entry.value):
        scaled = scales.of(node)
        if scaled is None or node.output not in known:
            return None
        reaches.append(sensible_reach(node, scaled, known[node.output]))
    return max(reaches, default=None)


def _open_values(graph: Graph) -> Iterator[Value]:
    return (value for value in graph.values.values() if value.quantization is None)


def _quantized(node: Node, op: Conv, graph: Graph, stripped: Stripped, scales: _Scales) -> Conv:
    x, y = graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized
    scaled, where = scales.of(node), f"Conv {node.name!r}"
    if scaled is None:  # real factors of a quantized value
        codes = np.ones(op.weight.shape, np.int64)
        scaled = Scaled(scale=op.weight.reshape(-1).astype(np.float64), offset=op.bias.astype(np.float64))
    else:
        real = np.asarray(op.weight, np.float64)
        if (real != np.rint(real)).any() or np.abs(real).max(initial=0) > GREATEST_WEIGHT:
            raise ModelError("its weights must be codes of at most 8 bits, and not be scaled by other factors in each input channel")
        codes = real.astype(np.int64)
    if node.output in stripped.bipolar:
        return _bipolar(op, codes, scaled, x, y)
    shift = _rounding_shift(stripped.rounding.get(node.output, "ROUND"), scaled, x, y)
    return fine_conv(op, codes, scaled.scale, scaled.offset + shift, x, y, where)


def _rounding_shift(rounding: str, scaled: Scaled, x: Quantization, y: Quantization) -> npt.NDArray[np.float64]:
    """What makes rounding to nearest of it: half a step, less a small part of one product, so that whole numbers stay."""
    little = np.ldexp(np.abs(scaled.scale) * float(x.scale), -13)
    half = float(y.scale) / 2
    return {"FLOOR": little - half, "CEIL": half - little}.get(rounding, np.zeros_like(little))


def _bipolar(op: Conv, codes: npt.NDArray[np.int64], scaled: Scaled, x: Quantization, y: Quantization) -> Conv:
    """+1 from the least sum of products on whose real value is at least 0: 4 * (sum - least) + 1 is never 0, and its sign is the result."""
    product = scaled.scale * float(x.scale)
    sign = np.where(product < 0, -1, np.where(product > 0, 1, 0))
    with np.errstate(all="ignore"):
        least = np.ceil(-scaled.offset / np.abs(product))
    least = np.where(sign == 0, np.where(scaled.offset >= 0, 0, 2), least)
    bound = 1 << 26  # beyond every sum
    weight = codes * sign.reshape(-1, 1, 1, 1)
    bias = 1 - STEEP * np.clip(least, -bound, bound).astype(np.int64)
    ratio = np.full(op.channels, STEEP * float(y.scale) / float(x.scale)).astype(np.float32)
    narrow = np.abs(weight + 0.5).max(initial=0) < 128
    kept = weight.astype(np.int8) if narrow else weight.astype(np.int16)
    return replace(op, weight=kept, bias=bias.astype(np.int32), weight_scale=ratio, bias_fraction=2)
