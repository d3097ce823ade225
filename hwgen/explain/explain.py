"""`explain`: where a quantized network loses accuracy, why, and what would help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hwgen.arrays import AnyArray
from hwgen.errors import DataError
from hwgen.explain.energy import OutputsAgainst
from hwgen.explain.measure import StageMeasure, inputs_to_measure, measure
from hwgen.explain.partial import Block, float_blocks, with_real_weights
from hwgen.explain.remedies import Case, Remedy, remedies
from hwgen.explain.weights import WeightStatistics, weight_statistics
from hwgen.ir.evaluate import evaluate
from hwgen.ir.graph import Graph, Node
from hwgen.network import Labels, QuantizedNetwork
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden
from hwgen.progress import Progress, Silent
from hwgen.quantize.report import QuantizationReport
from hwgen.score import OutputScore, real_outputs, score

FIRST = 3  # layers to look at first
LEAST_GAIN_DB = 1.0  # of a remedy that is worth naming


@dataclass(frozen=True, kw_only=True, eq=False)
class Advice:
    """A layer to look at first: what speaks against it, the remedy that helps most (None: none does) and its SQNR alone with it."""

    measure: StageMeasure
    remedy: Remedy | None
    remedied_db: float | None
    sentence: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """`scores` on `scored` inputs, `stages` on the first `count` of them; `weights` by layer name; `graph` is quantized."""

    graph: Graph
    report: QuantizationReport
    scores: tuple[OutputScore, ...]
    scored: int
    count: int
    stages: tuple[StageMeasure, ...]
    weights: Mapping[str, WeightStatistics]
    first: tuple[Advice, ...]


def require_explainable(network: QuantizedNetwork) -> None:
    """Raises DataError for a network that came quantized, or without calibration data."""
    if network.float_graph is None:
        raise DataError(f"network {network.graph.name!r}: must be float to be explained, came quantized; give the float model and calibration data")
    if network.calibration is None:
        raise DataError(f"network {network.graph.name!r}: needs calibration data to be explained by; pass --calibration X.npz")


def explain(
    network: QuantizedNetwork,
    arrays: Mapping[str, AnyArray] | None = None,
    labels: Labels | None = None,
    *,
    count: int | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Measure every layer of `network` on `arrays` (default: its calibration data), layers on the first `count` inputs.

    Raises DataError for a network without a float form, or arrays that do not fit.
    """
    progress = progress or Silent()
    require_explainable(network)
    assert network.float_graph is not None and network.report is not None and network.calibration is not None
    real, quantized = network.float_graph, network.graph
    arrays = network.calibration if arrays is None else arrays
    total = len(next(iter(arrays.values())))
    progress.stage("float network and golden model")
    reference = evaluate(real, arrays, softmax=False)
    outputs = real_outputs(quantized, golden(quantized, arrays))
    chosen = min(total, count) if count else inputs_to_measure(real, total)
    part = {name: array[:chosen] for name, array in arrays.items()}
    found = measure(real, quantized, part, progress)
    weights = _weights(real, quantized)
    return Explanation(
        graph=quantized,
        report=network.report,
        scores=tuple(score(name, array, reference[name], labels) for name, array in outputs.items()),
        scored=total,
        count=chosen,
        stages=found,
        weights=weights,
        first=_first(network, found, weights, part, progress),
    )


def _by_output(graph: Graph) -> dict[str, Node]:
    return {node.output: node for node in graph.nodes}


def _weights(real: Graph, quantized: Graph) -> dict[str, WeightStatistics]:
    coded = _by_output(quantized)
    found = {}
    for node in real.nodes:
        op = coded[node.output].op
        if isinstance(node.op, Conv) and isinstance(op, Conv):
            found[node.name] = weight_statistics(node.op, op)
    return found


def _first(
    network: QuantizedNetwork, found: tuple[StageMeasure, ...], weights: Mapping[str, WeightStatistics], arrays: Mapping[str, AnyArray], progress: Progress
) -> tuple[Advice, ...]:
    """The stages that alone harm the outputs most, each with the remedy that helps most."""
    assert network.float_graph is not None and network.report is not None
    worst = sorted(found, key=lambda each: each.alone_db)[:FIRST]
    worst = [each for each in worst if each.alone_db < float("inf")]
    cases = []
    for each in worst:
        node = each.stage.node
        op = node.op if node is not None and isinstance(node.op, Conv) else None
        cases.append(Case(measure=each, graph=network.graph, report=network.report, op=op, weights=weights.get(each.stage.name)))
    tried = [list(remedies(case)) for case in cases]
    gathered = [[OutputsAgainst() for _ in each] for each in tried]
    progress.stage("try remedies", total=len(next(iter(arrays.values()))))
    for block in float_blocks(network.float_graph, arrays):
        reference = block.outputs({})
        for case, candidates, against in zip(cases, tried, gathered, strict=True):
            for candidate, one in zip(candidates, against, strict=True):
                one.add(reference, block.outputs({case.measure.stage.value: _remedied(case, candidate, block)}))
        progress.step(block.part.stop)
    return tuple(
        _advice(case, [(one.sqnr_db, candidate) for one, candidate in zip(against, candidates, strict=True)])
        for case, candidates, against in zip(cases, tried, gathered, strict=True)
    )


def _remedied(case: Case, remedy: Remedy, block: Block) -> AnyArray:
    """The stage's value with it alone quantized, but for what the remedy does better."""
    name, node = case.measure.stage.value, case.measure.stage.node
    real: AnyArray = block.values[name]
    if node is not None and case.op is not None:
        op = with_real_weights(_by_output(case.graph)[name], case.graph)
        assert isinstance(op, Conv)
        real = block.with_operator(node, op if remedy.weights is None else replace(op, weight=remedy.weights))
    quantization = case.graph.values[name].quantized
    return remedy.values(real) if remedy.values is not None else quantization.dequantize(quantization.quantize(real))


def _advice(case: Case, tried: list[tuple[float, Remedy]]) -> Advice:
    """The simplest of the remedies that gain nearly most; the order of `tried` is by simplicity."""
    before = case.measure.alone_db
    most = max((db for db, _ in tried), default=before)
    best = next(((db, remedy) for db, remedy in tried if db >= most - LEAST_GAIN_DB), None) if most >= before + LEAST_GAIN_DB else None
    remedy, after = (best[1], best[0]) if best else (None, None)
    return Advice(measure=case.measure, remedy=remedy, remedied_db=after, sentence=_sentence(case, remedy, after))


def _sentence(case: Case, remedy: Remedy | None, after: float | None) -> str:
    m = case.measure
    head = f"Alone it leaves {m.alone_db:.1f} dB at the outputs{_origin(case)}"
    if remedy is not None and after is not None:
        then = f"{remedy.then} it would leave {after:.1f} dB" if after < float("inf") else f"{remedy.then} it would leave no error"
        return f"{head}: {remedy.why}; {then}: {remedy.advice}."
    least, most = case.observed
    low, high = case.range
    details = f"its values lie in {least:.3g} … {most:.3g}, the codes reach {low:.3g} … {high:.3g}"
    if case.weights is not None:
        details += f", its weights have an SQNR of {case.weights.sqnr_db:.1f} dB"
    return f"{head}: nothing about it stands out ({details}); what is rounded here simply reaches the outputs, and more bits would help."


def _origin(case: Case) -> str:
    """Whether weights or values are at fault, for layers with both."""
    m = case.measure
    if case.op is None:
        return ""
    weights, values = 10 ** (-m.weights_db / 10), 10 ** (-m.values_db / 10)
    share = weights / (weights + values) if weights + values else 0.5
    return f", {100 * max(share, 1 - share):.0f} % of the error from its {'weights' if share >= 0.5 else 'values'}"
