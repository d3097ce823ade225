"""Mixed precision: which layers get weights of how many bits, under a budget, found on calibration data alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hwgen.arrays import AnyArray
from hwgen.config import HardwareConfig, way_to_pack
from hwgen.errors import QuantizationError
from hwgen.explain.energy import OutputsAgainst
from hwgen.explain.measure import WORK
from hwgen.explain.partial import float_blocks, with_real_weights
from hwgen.explore.auto import split
from hwgen.explore.budget import Budget, Limit, Point
from hwgen.explore.search import Assignment, Found, Search, Sensitivities, pareto
from hwgen.explore.table import Json
from hwgen.explore.workbench import Workbench
from hwgen.ir.graph import Graph, Node
from hwgen.ops.conv import Conv
from hwgen.packing import WeightFormat
from hwgen.progress import Progress
from hwgen.quantize import Effort, QuantizeOptions, quantize_with_report
from hwgen.report.collect import finite

FORMATS = (WeightFormat.INT8, WeightFormat.INT4, WeightFormat.INT2, WeightFormat.TERNARY, WeightFormat.BINARY)  # the widest first
LEAST_INPUTS = 8  # that sensitivities are measured on, however long that takes


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """What the search found. `layers`: the convolutions, in the order of assignments; `formats`: what their numbers mean."""

    budget: Budget
    layers: tuple[str, ...]
    formats: tuple[WeightFormat, ...]
    sensitivities: Sensitivities
    found: Found
    held_out: int

    @property
    def best(self) -> Point:
        return self.found.evaluated[self.found.best]

    def layer_weights(self, assignment: Assignment) -> tuple[tuple[str, WeightFormat], ...]:
        """As QuantizeOptions take them."""
        return tuple((layer, self.formats[chosen]) for layer, chosen in zip(self.layers, assignment, strict=True))


def convolutions(graph: Graph) -> list[Node]:
    """The layers that have weights."""
    return [node for node in graph.nodes if isinstance(node.op, Conv)]


def mix(
    graph: Graph, arrays: Mapping[str, AnyArray], hardware: HardwareConfig, base: QuantizeOptions, budget: Budget, progress: Progress
) -> Mixture:
    """Measure what each format does to each layer alone, then search. Everything is fitted to a part of the calibration inputs and judged
    on the rest.

    Raises DataError for too few inputs, QuantizationError when the budget cannot be met or the network not be quantized.
    """
    fit, held, _ = split(arrays)
    bench = Workbench(graph, fit, held, labels=None, hardware=hardware)
    layers = tuple(node.name for node in convolutions(graph))
    if not layers:
        raise QuantizationError(f"network {graph.name!r}: mixed precision needs layers with weights, there are none")
    options = replace(bench.options(base), layer_weights=())
    plain = replace(options, effort=Effort.NONE)  # repairs move scales between layers, so that none could be looked at alone
    sensitivities = Sensitivities(noise=_noise(graph, fit, plain, progress), cost=_costs(bench, plain, budget, progress))
    progress.stage("search")

    def evaluate(assignment: Assignment) -> Point:
        point = _evaluated(bench, replace(options, layer_weights=tuple(zip(layers, (FORMATS[chosen] for chosen in assignment), strict=True))))
        progress.step(len(search.evaluated) + 1)
        return point

    way = way_to_pack(hardware)
    unsaved = f"weights of fewer bits save nothing on this hardware{f', which stores them as int8 without {way}' if way else ''}"
    search = Search(sensitivities, evaluate, budget, unsaved)
    found = search.run()
    return Mixture(budget=budget, layers=layers, formats=FORMATS, sensitivities=sensitivities, found=found, held_out=len(next(iter(held.values()))))


def _evaluated(bench: Workbench, options: QuantizeOptions) -> Point:
    attempt = bench.attempt("mixed", options)
    if attempt.refused or attempt.cost is None or attempt.score is None:
        raise QuantizationError(f"mixed precision: {attempt.refused or attempt.unfit}")
    return Point(
        weight_bytes=attempt.cost.weight_bytes, cycles=attempt.cost.cycles, sqnr_db=attempt.sqnr_db, agreement=attempt.score.agreement or 0.0
    )


def _noise(graph: Graph, arrays: Mapping[str, AnyArray], options: QuantizeOptions, progress: Progress) -> list[list[float]]:
    """Relative energy of the outputs' error, by layer and format, with the weights of this layer alone in this format and all else float."""
    nodes = convolutions(graph)
    progress.stage("quantize in each format", total=len(FORMATS))
    operators = []
    for done, kind in enumerate(FORMATS, 1):
        quantized, _ = quantize_with_report(graph, arrays, replace(options, weights=kind))
        operators.append([with_real_weights(node, quantized) for node in convolutions(quantized)])
        progress.step(done)
    count = _inputs_to_measure(graph, len(next(iter(arrays.values()))), len(nodes))
    gathered = [[OutputsAgainst() for _ in FORMATS] for _ in nodes]
    progress.stage("measure sensitivities", total=count)
    for block in float_blocks(graph, {name: array[:count] for name, array in arrays.items()}):
        reference = block.outputs({})
        for layer, node in enumerate(nodes):
            for of_kind, against in zip(operators, gathered[layer], strict=True):
                against.add(reference, block.outputs({node.output: block.with_operator(node, of_kind[layer])}))
        progress.step(block.part.stop)
    return [[float(10 ** (-against.sqnr_db / 10)) for against in row] for row in gathered]


def _inputs_to_measure(graph: Graph, count: int, layers: int) -> int:
    macs = sum(node.op.work(*graph.input_types(node)) for node in graph.nodes)
    return min(count, max(LEAST_INPUTS, int(WORK / max(1, macs * layers * len(FORMATS) / 2))))


def _costs(bench: Workbench, options: QuantizeOptions, budget: Budget, progress: Progress) -> list[list[float]]:
    """By layer and format, estimated: bytes of the weights, or the layer's cycles when all layers have this format."""
    nodes = convolutions(bench.graph)
    if budget.cost is Limit.WEIGHTS:
        return [[node.op.weight.size / kind.digits for kind in FORMATS] for node in nodes if isinstance(node.op, Conv)]
    progress.stage("cycles in each format", total=len(FORMATS))
    columns = []
    for done, kind in enumerate(FORMATS, 1):
        cycles = bench.layer_cycles(quantize_with_report(bench.graph, bench.calibration, replace(options, weights=kind))[0])
        columns.append([float(cycles.get(node.name, 0)) for node in nodes])
        progress.step(done)
    return [list(itertools.accumulate(row, min)) for row in zip(*columns, strict=True)]


def mixture_json(mixture: Mixture, graph: Graph) -> Json:
    """As report.json holds it; every key is described in docs/report.md."""
    names = [kind.name.lower() for kind in mixture.formats]
    front = set(pareto(mixture.found.evaluated, mixture.budget))
    sizes = {node.name: int(node.op.weight.size) for node in convolutions(graph) if isinstance(node.op, Conv)}
    budget = mixture.budget
    return {
        "budget": {"limit": budget.limit.value, "value": budget.value, "text": f"{'at most' if budget.limit.is_cost else 'at least'} {budget.text()}"},
        "formats": names,
        "held_out": mixture.held_out,
        "layers": [
            {
                "name": layer,
                "weights": sizes[layer],
                "chosen": names[chosen],
                "alone_db": [finite(-10 * math.log10(noise)) if noise else None for noise in row],
            }
            for layer, chosen, row in zip(mixture.layers, mixture.found.best, mixture.sensitivities.noise, strict=True)
        ],
        "points": [
            {
                "assignment": [names[chosen] for chosen in assignment],
                "weight_bytes": point.weight_bytes,
                "cycles": point.cycles,
                "sqnr_db": finite(point.sqnr_db),
                "agreement": point.agreement,
                "front": assignment in front,
                "chosen": assignment == mixture.found.best,
            }
            for assignment, point in mixture.found.evaluated.items()
        ],
    }
