"""Scales of activations: one per group of values, moved slightly where additions and poolings then become provably exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from hwgen.errors import QuantizationError
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import Quantization
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.integer import average_ratio, is_global
from hwgen.ops.pad import Pad
from hwgen.quantize.certify import certify
from hwgen.quantize.groups import groups
from hwgen.quantize.options import QuantizeOptions, Scheme
from hwgen.quantize.ranges import Range
from hwgen.quantize.schemes import activation

GREATEST_CHANGE = 2.0**-8  # of a scale, relative; more where multipliers are short
POOL_REACH = 32  # multipliers tried on either side of the nearest
SIGNIFICAND_BITS = 12  # of every scale at first: multiplier * scale is then exact in float32 for one multiplier in 16 or more
SUM_BITS = 24 - 9  # of a float32 significand beside a code less its zero point


def quantize_activations(graph: Graph, ranges: Mapping[str, Range], options: QuantizeOptions) -> Graph:
    """The graph with a quantization on every value: ranges are joined over groups that share one."""
    group = groups(graph)
    limits: dict[str, Range] = {}
    for name, (low, high) in ranges.items():
        so_far = limits.get(group[name], (0.0, 0.0))
        limits[group[name]] = (min(low, so_far[0]), max(high, so_far[1]))
    for node in graph.nodes:
        if isinstance(node.op, Pad) and np.isfinite(node.op.value):
            low, high = limits[group[node.output]]
            limits[group[node.output]] = (min(low, node.op.value), max(high, node.op.value))
    certify_scales = options.certify and options.scheme is not Scheme.POWER_OF_TWO
    scales = {name: activation(limit, options.scheme) for name, limit in limits.items()}
    if certify_scales:
        scales = {name: replace(q, scale=_short(q.scale, SIGNIFICAND_BITS)) for name, q in scales.items()}
    values = {name: replace(value, quantization=scales[group[name]]) for name, value in graph.values.items()}
    graph = replace(graph, arithmetic=options.arithmetic, values=values)
    if options.arithmetic.multiplier_bits == 0:
        return _divide_by_shifts(graph, group)
    if not certify_scales:
        return graph
    fixed: set[str] = set()  # groups that something proven depends on
    for node in reversed(graph.nodes):
        if isinstance(node.op, Add | AveragePool):
            candidates = _add_candidates if isinstance(node.op, Add) else _average_candidates
            graph = _first_certified(node, graph, candidates(node, graph, group, fixed))
            fixed |= {group[name] for name in (*node.inputs, node.output)}
    return graph


def _divide_by_shifts(graph: Graph, group: Mapping[str, str]) -> Graph:
    """Without a multiplier, the result of an average over a count that is no power of two gets the scale x_scale * 2**k / count. The
    weight scales of the convolutions that read it make up for it; other readers cannot. No result is finer than its sum: shifts only
    make smaller."""
    for _ in range(2):  # a group that joins several poolings may be made coarser behind the first of them
        for node in graph.nodes:
            if isinstance(node.op, AveragePool):
                x, y = graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized
                counts = np.unique(node.op.divisors(graph.values[node.inputs[0]].type)).tolist()
                scale = _shifting_scale(x, y, counts)
                if scale != y.scale:
                    graph = _changed(graph, group, node.output, replace(y, scale=scale))
    return graph


def _shifting_scale(x: Quantization, y: Quantization, counts: list[int]) -> np.float32:
    """The scale for y, not below its present one, with which shifts divide by `counts`; its present one where none does."""
    if all(count & (count - 1) == 0 for count in counts):
        return max(y.scale, np.float32(float(x.scale) / counts[0]))
    if len(counts) == 1:
        exponent = max(np.ceil(np.log2(float(y.scale) * counts[0] / float(x.scale))), 0.0)
        for scale in _neighbours(float(x.scale) * 2.0**exponent / counts[0]):
            if float(average_ratio(x, replace(y, scale=scale), counts[0])) == 2.0**-exponent:
                return scale
    return y.scale


def _first_certified(node: Node, graph: Graph, candidates: Iterator[Graph]) -> Graph:
    """The first candidate in which `node` is proven; `graph` itself where there is none."""
    for candidate in candidates:
        try:
            if all(record.certified for record in certify(node, candidate)):
                return candidate
        except QuantizationError:
            continue  # a ratio that the arithmetic cannot express: the final check names it
    return graph


def _changed(graph: Graph, group: Mapping[str, str], name: str, quantization: Quantization) -> Graph:
    members = {member for member in graph.values if group[member] == group[name]}
    values = {key: replace(value, quantization=quantization) if key in members else value for key, value in graph.values.items()}
    return replace(graph, values=values)


def _add_candidates(node: Node, graph: Graph, group: Mapping[str, str], fixed: set[str]) -> Iterator[Graph]:
    """Input scales whose ratios lie on a grid coarse enough that ONNX Runtime's float32 sum is exact, then on finer grids, which move
    the scales less."""
    y = graph.values[node.output].quantized
    ratios = [float(graph.values[name].quantized.scale) / float(y.scale) for name in node.inputs]
    exponent = int(np.frexp(max(*ratios, 1.0))[1])
    finest = graph.arithmetic.multiplier_bits - int(np.frexp(max(ratios))[1])
    free = [name for name in dict.fromkeys(node.inputs) if group[name] not in fixed and group[name] != group[node.output]]
    for grid in range(min(14 - exponent, finest), finest + 1):
        candidate: Graph | None = graph
        for name in free:
            q = graph.values[name].quantized
            scale = _on_grid(q.scale, y.scale, grid, max(GREATEST_CHANGE, 2.0 ** (2 - graph.arithmetic.multiplier_bits)))
            candidate = None if candidate is None or scale is None else _changed(candidate, group, name, replace(q, scale=scale))
        if candidate is not None:
            yield candidate
    yield graph


def _average_candidates(node: Node, graph: Graph, group: Mapping[str, str], fixed: set[str]) -> Iterator[Graph]:
    """The present scales; then nearby scales and zero points of the output, or where it may not move, of the input. For a window
    smaller than the image the input's scale first gets a short significand, so that a float32 sum of real values is exact."""
    op, (x_name,) = node.op, node.inputs
    assert isinstance(op, AveragePool)
    if not is_global(node, graph) and group[x_name] not in fixed:
        bits = SUM_BITS - (op.window.area - 1).bit_length()
        if bits > 4:
            x = graph.values[x_name].quantized
            graph = _changed(graph, group, x_name, replace(x, scale=_short(x.scale, bits)))
    yield graph
    count = int(op.divisors(graph.values[x_name].type).max())
    for name in (node.output, x_name) if is_global(node, graph) else (node.output,):
        if group[name] in fixed:
            continue
        q = graph.values[name].quantized
        zero_points = (q.zero_point, q.zero_point ^ 1) if q.unsigned else (q.zero_point,)  # an even one where it lies inside the rounding
        for scale in _exact_average_scales(graph, (x_name, node.output), name, count):
            for zero_point in zero_points:
                yield _changed(graph, group, name, replace(q, scale=scale, zero_point=zero_point))


def _exact_average_scales(graph: Graph, names: tuple[str, str], moved: str, count: int) -> Iterator[np.float32]:
    """Scales for `moved`, one of `names` (input and output of an average), whose ratio is exactly multiplier / 2**shift."""
    x, y = (graph.values[name].quantized for name in names)
    bits = graph.arithmetic.multiplier_bits
    mantissa, exponent = np.frexp(np.float64(average_ratio(x, y, count)))
    nearest = round(float(np.ldexp(mantissa, bits)))
    for offset in sorted(range(-POOL_REACH, POOL_REACH + 1), key=abs):
        ratio = np.ldexp(nearest + offset, int(exponent) - bits)
        base = ratio * float(y.scale) * count if moved == names[0] else float(x.scale) / (ratio * count)
        for scale in _neighbours(base):
            pair = (replace(x, scale=scale), y) if moved == names[0] else (x, replace(y, scale=scale))
            if float(average_ratio(*pair, count)) == ratio:
                yield scale
                break


def _neighbours(base: float) -> Iterator[np.float32]:
    """The float32 nearest to `base`, then those around it."""
    for step in (0, 1, -1, 2, -2):
        yield (np.array([base], np.float32).view(np.int32) + step).view(np.float32)[0]


def _on_grid(scale: np.float32, unit: np.float32, grid: int, greatest_change: float) -> np.float32 | None:
    """The float32 scale nearest to `scale` with scale / unit an exact multiple of 2**-grid in float32; None if it moves too far."""
    ratio = float(scale) / float(unit)
    for offset in (0, 1, -1, 2, -2, 3, -3, 4, -4):
        wanted = float(np.rint(np.ldexp(ratio, grid)) + offset) / 2.0**grid
        if wanted > 0 and abs(wanted / ratio - 1) <= greatest_change:
            for near in _neighbours(wanted * float(unit)):
                if np.float32(near / unit) == np.float32(wanted):
                    return near
    return None


def _short(scale: np.float32, bits: int) -> np.float32:
    """`scale` rounded up to a significand of `bits` bits."""
    mantissa, exponent = np.frexp(np.float64(scale))
    return np.float32(np.ldexp(np.ceil(np.ldexp(mantissa, bits)), int(exponent) - bits))
