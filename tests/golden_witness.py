"""A second, slow golden model for tests: exact rationals and plain loops, sharing nothing with hwgen but the graph's data."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np

from hwgen.arith import Rounding
from hwgen.ir.graph import Arithmetic, Graph, Node
from hwgen.ir.types import Quantization


def multiplier(ratio: float, bits: int) -> Fraction:
    """The nearest m / 2**s with 2**(bits-1) <= m < 2**bits, ties to even; with 0 bits the ratio itself."""
    exact = Fraction(float(ratio))
    if not bits:
        return exact
    s = 0
    while exact * Fraction(2) ** s < 2 ** (bits - 1):
        s += 1
    while exact * Fraction(2) ** s >= 2**bits:
        s -= 1
    return Fraction(round(exact * Fraction(2) ** s)) / Fraction(2) ** s


def rounded(x: Fraction, rule: Rounding) -> int:
    return round(x) if rule is Rounding.HALF_EVEN else floor(x + Fraction(1, 2))


def code(real: float, q: Quantization) -> int:
    if np.isinf(real):
        return 127 if real > 0 else -128
    return int(np.clip(np.rint(np.float32(real) / q.scale) + q.zero_point, -128, 127))


class Cells:
    """Windows over an int8 image whose outside is `fill`."""

    def __init__(self, x: np.ndarray, window, fill: int) -> None:
        self.x, self.window, self.fill = x.astype(np.int64), window, fill

    def __call__(self, n: int, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """(kernel rows, kernel columns, C) cells, and which lie inside the image."""
        w = self.window
        cells = np.full((*w.kernel, self.x.shape[3]), self.fill, np.int64)
        inside = np.zeros(w.kernel, bool)
        for r in range(w.kernel[0]):
            for c in range(w.kernel[1]):
                row, column = i * w.strides[0] - w.pads[0] + r * w.dilations[0], j * w.strides[1] - w.pads[1] + c * w.dilations[1]
                if 0 <= row < self.x.shape[1] and 0 <= column < self.x.shape[2]:
                    cells[r, c], inside[r, c] = self.x[n, row, column], True
        return cells, inside


def requantize(acc: int, factor: Fraction, y: Quantization, clamp: tuple[float, float], arithmetic: Arithmetic) -> int:
    return min(max(rounded(acc * factor, arithmetic.rounding) + y.zero_point, code(clamp[0], y)), code(clamp[1], y))


def run(graph: Graph, codes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """int8 arrays of every value."""
    values = dict(codes)
    for node in graph.nodes:
        values[node.output] = RULES[type(node.op).__name__](node, graph, *(values[name] for name in node.inputs))
    return values


def empty(node: Node, graph: Graph, count: int) -> np.ndarray:
    return np.zeros((count, *graph.values[node.output].type.shape), np.int8)


def transposed(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    """Every input pixel adds the kernel to its place in the output."""
    op, a, y = node.op, graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized
    result, (top, left) = empty(node, graph, len(x)), op.window.pads[:2]
    factors = [multiplier(np.float32(np.float32(a.scale * s) / y.scale), graph.arithmetic.multiplier_bits) for s in op.weight_scale]
    sums = np.broadcast_to(op.bias.astype(np.int64), result.shape).copy()
    for i, j, r, k in np.ndindex(*x.shape[1:3], *op.window.kernel):
        row, column = i * op.spread[0] + top - r * op.window.dilations[0], j * op.spread[1] + left - k * op.window.dilations[1]
        if 0 <= row < result.shape[1] and 0 <= column < result.shape[2]:
            sums[:, row, column] += (x[:, i, j].astype(np.int64) - a.zero_point) @ op.weight[:, r, k].astype(np.int64).T
    for place in np.ndindex(result.shape):
        result[place] = requantize(int(sums[place]), factors[place[3]], y, op.clamp, graph.arithmetic)
    return result


def conv(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    if node.op.is_transposed:
        return transposed(node, graph, x)
    op, a, y = node.op, graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized
    result, cells = empty(node, graph, len(x)), Cells(x, op.window, a.zero_point)
    factors = [multiplier(np.float32(np.float32(a.scale * s) / y.scale), graph.arithmetic.multiplier_bits) for s in op.weight_scale]
    per_group, inputs = len(op.weight) // op.group, op.weight.shape[3]
    for n, i, j in np.ndindex(result.shape[:3]):
        patch = cells(n, i, j)[0] - a.zero_point
        for c in range(len(op.weight)):
            g = c // per_group
            acc = int((patch[:, :, g * inputs : (g + 1) * inputs] * op.weight[c].astype(np.int64)).sum()) + int(op.bias[c])
            result[n, i, j, c] = requantize(acc, factors[c], y, op.clamp, graph.arithmetic)
    return result


def average_pool(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    op, a, y = node.op, graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized
    result, cells = empty(node, graph, len(x)), Cells(x, op.window, a.zero_point)
    top, left, bottom, right = op.counted_pads
    for n, i, j in np.ndindex(result.shape[:3]):
        total = (cells(n, i, j)[0] - a.zero_point).sum((0, 1))
        rows = [i * op.window.strides[0] - op.window.pads[0] + r * op.window.dilations[0] for r in range(op.window.kernel[0])]
        columns = [j * op.window.strides[1] - op.window.pads[1] + c * op.window.dilations[1] for c in range(op.window.kernel[1])]
        count = sum(-top <= r < x.shape[1] + bottom for r in rows) * sum(-left <= c < x.shape[2] + right for c in columns)
        factor = multiplier(np.float32(a.scale / np.float32(y.scale * np.float32(count))), graph.arithmetic.multiplier_bits)
        result[n, i, j] = [requantize(int(acc), factor, y, op.clamp, graph.arithmetic) for acc in total]
    return result


def max_pool(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    op, y = node.op, graph.values[node.output].quantized
    result, cells = empty(node, graph, len(x)), Cells(x, op.window, -128)
    for n, i, j in np.ndindex(result.shape[:3]):
        result[n, i, j] = np.minimum(np.maximum(cells(n, i, j)[0].max((0, 1)), code(op.clamp[0], y)), code(op.clamp[1], y))
    return result


def add(node: Node, graph: Graph, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One shift for both inputs: the larger ratio decides it."""
    op, y = node.op, graph.values[node.output].quantized
    quantizations = [graph.values[name].quantized for name in node.inputs]
    ratios = [Fraction(float(np.float32(q.scale / y.scale))) for q in quantizations]
    factors = list(ratios)
    if bits := graph.arithmetic.multiplier_bits:
        unit = Fraction(1)
        while max(ratios) / unit < 2 ** (bits - 1):
            unit /= 2
        while max(ratios) / unit >= 2**bits or round(max(ratios) / unit) == 2**bits:
            unit *= 2
        factors = [round(ratio / unit) * unit for ratio in ratios]
    flat = []
    for p, q in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True):
        exact = (p - quantizations[0].zero_point) * factors[0] + (q - quantizations[1].zero_point) * factors[1] + y.zero_point
        flat.append(min(max(rounded(exact, graph.arithmetic.rounding), code(op.clamp[0], y)), code(op.clamp[1], y)))
    return np.array(flat, np.int8).reshape(a.shape)


def pad(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    top, left, bottom, right = node.op.pads
    assert min(node.op.pads) >= 0
    fill = code(node.op.value, graph.values[node.output].quantized)
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)


def clamp(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    y = graph.values[node.output].quantized
    return np.clip(x, code(node.op.clamp[0], y), code(node.op.clamp[1], y))


def lookup(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    """Each code on its own, in float32."""
    q, y = graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized
    reals = {int(c): node.op.reference(np.array([np.float32(int(c) - q.zero_point) * q.scale], np.float32))[0] for c in np.unique(x)}
    return np.vectorize(lambda c: code(0.0 if np.isnan(reals[c]) else reals[c], y), otypes=[np.int8])(x)


def part(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    for axis, (start, count, step) in enumerate(zip(node.op.starts, node.op.counts, node.op.steps, strict=True), 1):
        x = x.take([start + k * step for k in range(count)], axis=axis)
    return x


def resize(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    result = empty(node, graph, len(x))
    for i, j in np.ndindex(result.shape[1:3]):
        result[:, i, j] = x[:, i // node.op.factors[0], j // node.op.factors[1]]
    return result


def depth_to_space(node: Node, graph: Graph, x: np.ndarray) -> np.ndarray:
    result, block = empty(node, graph, len(x)), node.op.block
    for i, j, c in np.ndindex(result.shape[1:]):
        at = i % block * block + j % block
        channel = c * block * block + at if node.op.together else at * result.shape[3] + c
        result[:, i, j, c] = x[:, i // block, j // block, channel]
    return result


RULES = {
    "DepthToSpace": depth_to_space,
    "Resize": resize,
    "Slice": part,
    "Lookup": lookup,
    "Conv": conv,
    "AveragePool": average_pool,
    "MaxPool": max_pool,
    "Add": add,
    "Pad": pad,
    "Clamp": clamp,
    "Concat": lambda node, graph, *arrays: np.concatenate(arrays, axis=node.op.axis + 1),
}
