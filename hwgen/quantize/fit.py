"""One quantization of a network: layer after layer, each fitted to what the quantized layers before it really give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from hwgen.blas import single_threaded
from hwgen.ir.graph import Graph, Node
from hwgen.layout import Int8Array
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden_node
from hwgen.ops.integer import ACCUMULATOR
from hwgen.packing import WeightFormat
from hwgen.quantize.activations import quantize_activations
from hwgen.quantize.clip import choose_clipping
from hwgen.quantize.few_bits import encode
from hwgen.quantize.least_squares import Problem, solve
from hwgen.quantize.options import Granularity, QuantizeOptions, Repair, Scheme
from hwgen.quantize.ranges import Range
from hwgen.quantize.rounding import round_adaptively, second_moments
from hwgen.quantize.samples import Samples, choose_places, matrix, patches_at
from hwgen.quantize.weights import LEAST_RATIO, Layer, Scales, expressible, finished, initial_scales, without_overflow

MOST_PLACES = 4096  # output pixels that a layer is fitted to: seven for each weight of the longest sum of ResNet-8
PLACES_PER_WEIGHT = 16  # of a sum, where weights are solved for
FITTED = frozenset({Repair.CLIP, Repair.ROUND, Repair.SOLVE, Repair.BIAS})  # repairs that need samples of a layer's operands
Patches = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """`widened`: by layer, how many channels got a wider weight scale. `clipped`: by layer, the rule that chose its weight scales.
    `outputs`: by value, what the quantized network gives for the inputs held out."""

    graph: Graph
    widened: dict[str, int]
    clipped: dict[str, str]
    outputs: dict[str, Int8Array] = field(default_factory=dict)


def fit(
    graph: Graph,
    samples: Samples,
    ranges: Mapping[str, Range],
    repairs: frozenset[Repair],
    options: QuantizeOptions,
    held_out: Samples | None = None,
) -> Fitted:
    """The integer form of a float graph with the given ranges. `repairs`: of those in FITTED. `held_out`: inputs that nothing is fitted
    to, run along with the samples."""
    quantized = quantize_activations(graph, ranges, options)
    run = _Run(quantized, samples, held_out, repairs & FITTED, options)
    for index, node in enumerate(quantized.nodes):
        if isinstance(node.op, Conv):
            quantized = run.replace(quantized, index, node)
        run.advance(quantized, index)
    return Fitted(graph=quantized, widened=run.widened, clipped=run.clipped, outputs=run.outputs())


class _Run:
    """The samples, and behind them the inputs held out, on their way through the quantized network."""

    def __init__(self, graph: Graph, samples: Samples, held_out: Samples | None, repairs: frozenset[Repair], options: QuantizeOptions) -> None:
        self.samples, self.repairs, self.options = samples, repairs, options
        self.widened: dict[str, int] = {}
        self.clipped: dict[str, str] = {}
        self.follows = bool(repairs) and not samples.made_up
        self.codes: dict[str, Int8Array] = {}
        self.last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
        self.wanted = frozenset() if held_out is None else frozenset(output.value for output in graph.outputs)
        parts = ([samples] if self.follows else []) + ([held_out] if held_out is not None else [])
        if parts:
            inputs = {entry.value: np.concatenate([part.values[entry.value] for part in parts]) for entry in graph.inputs}
            self.codes = {name: graph.values[name].quantized.quantize(x) for name, x in inputs.items()}

    def advance(self, graph: Graph, index: int) -> None:
        """Run one node on the codes, where something reads its result."""
        node = graph.nodes[index]
        if self.codes and (node.output in self.wanted or self.last_use.get(node.output, -1) > index):
            self.codes[node.output] = golden_node(node, graph, *(self.codes[name] for name in node.inputs))
            self.codes = {name: array for name, array in self.codes.items() if self.last_use.get(name, -1) > index or name in self.wanted}

    def outputs(self) -> dict[str, Int8Array]:
        """Of the inputs held out."""
        return {name: self.codes[name][self.samples.count if self.follows else 0 :] for name in self.wanted}

    def replace(self, graph: Graph, index: int, node: Node) -> Graph:
        """The graph with one convolution quantized."""
        layer = Layer.of(node, graph, self.options)
        scale = initial_scales(layer, self.options)
        if self.repairs:
            with single_threaded():
                layer, scale, count = self._repaired(graph, node, layer, scale)
        else:
            scale, count = without_overflow(layer, scale, self.options)
        if count:
            self.widened[node.name] = count
        done = replace(node, op=finished(node, layer, scale, self.options))
        return graph.with_nodes((*graph.nodes[:index], done, *graph.nodes[index + 1 :]))

    def _repaired(self, graph: Graph, node: Node, layer: Layer, scale: Scales) -> tuple[Layer, Scales, int]:
        op, name = node.op, node.inputs[0]
        assert isinstance(op, Conv)
        solved = Repair.SOLVE in self.repairs and self.follows and layer.kind is not WeightFormat.INT8
        most = max(MOST_PLACES, PLACES_PER_WEIGHT * op.weight[0].size) if solved else MOST_PLACES
        places = choose_places(node, graph, self.samples.count, most)
        real = patches_at(op, self.samples.values[name], 0.0, places)
        met = real
        if self.follows:
            codes = self.codes[name][: self.samples.count]
            met = (patches_at(op, codes, layer.x.zero_point, places) - np.float32(layer.x.zero_point)) * np.float32(layer.x.scale)
        if Repair.CLIP in self.repairs:
            scale = self._clipped(node, op, layer, scale, met)
        scale, count = without_overflow(layer, scale, self.options)
        plain = layer, scale, count
        if solved:
            layer, scale = self._solved(op, layer, scale, real, met)
        elif Repair.ROUND in self.repairs and self.follows:
            unit = matrix(op, np.broadcast_to(scale.reshape(-1, 1, 1, 1), op.weight.shape))
            rounded = round_adaptively(matrix(op, op.weight) / unit, second_moments(met), lambda units: encode(units, layer.kind))
            layer = replace(layer, codes=rounded.reshape(op.weight.shape).astype(np.int8))
        if Repair.BIAS in self.repairs or solved:
            layer = replace(layer, bias=layer.bias + _mean_error(op, layer, scale, real, met))
        return (layer, scale, count) if _fits(layer, scale) else plain

    def _solved(self, op: Conv, layer: Layer, scale: Scales, real: Patches, met: Patches) -> tuple[Layer, Scales]:
        """Codes and scales with the least squared error at the output; as they were where a ratio would leave what the arithmetic expresses."""
        together, fixed = self.options.granularity is Granularity.TENSOR, self.options.scheme is Scheme.POWER_OF_TWO
        problem, first = Problem.of(matrix(op, op.weight), real, met), scale.astype(np.float64).reshape(op.group, -1)
        codes, found = solve(problem, first, lambda units: encode(units, layer.kind), together=together, fixed=fixed)
        scale = found.reshape(-1).astype(np.float32)
        solution = replace(layer, codes=codes.reshape(op.weight.shape).astype(np.int8)), scale
        return solution if expressible(layer, scale, self.options) else (layer, first.reshape(-1).astype(np.float32))

    def _clipped(self, node: Node, op: Conv, layer: Layer, scale: Scales, met: Patches) -> Scales:
        squares = np.repeat(np.einsum("grk,grk->gk", met, met, dtype=np.float64) / max(1, met.shape[1]), op.channels // op.group, axis=0)
        shifts = self.options.scheme is Scheme.POWER_OF_TWO
        together = self.options.granularity is Granularity.TENSOR
        weights = op.weight.astype(np.float64).reshape(op.channels, -1)
        found = choose_clipping(weights, squares, scale.astype(np.float64), layer.kind, together=together, shifts_only=shifts)
        least = LEAST_RATIO * float(layer.y.scale) / float(layer.x.scale)
        self.clipped[node.name] = found.rule
        clipped = (scale * found.factor).astype(np.float32)
        return np.where(clipped >= least, clipped, scale)


def _mean_error(op: Conv, layer: Layer, scale: Scales, real: Patches, met: Patches) -> npt.NDArray[np.float64]:
    """(C,) what the integer weights on the operands `met` lack to the float ones on the `real` ones, on average, clamps left out."""
    integers = layer.encode(scale)[0].astype(np.float64) * scale.reshape(-1, 1, 1, 1)
    wanted, found = (
        np.einsum("gok,gk->go", matrix(op, weights), patches.mean(1, dtype=np.float64)) for weights, patches in ((op.weight, real), (integers, met))
    )
    error: npt.NDArray[np.float64] = (wanted - found).reshape(-1)
    return error


def _fits(layer: Layer, scale: Scales) -> bool:
    """Bias and accumulator, which repairs have changed, still fit int32."""
    weight, bias = layer.encode(scale)
    low, high = layer.bounds(weight, bias)
    least, greatest = min(int(low.min()), int(bias.min())), max(int(high.max()), int(bias.max()))
    return ACCUMULATOR.holds(least, greatest)
