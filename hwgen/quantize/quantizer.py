"""Float graph, with calibration data or without, -> quantized graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hwgen.errors import ConfigError
from hwgen.ir.evaluate import array_of, evaluate, require_one_batch
from hwgen.ir.graph import Graph
from hwgen.ir.types import FloatArray
from hwgen.ops.check import check_quantized
from hwgen.ops.conv import Conv
from hwgen.quantize.certify import certificates
from hwgen.quantize.fit import fit
from hwgen.quantize.options import Effort, QuantizeOptions, RangeMethod, Scheme
from hwgen.quantize.output_ranges import output_ranges
from hwgen.quantize.ranges import Observer, Range, choose_range
from hwgen.quantize.report import QuantizationReport
from hwgen.quantize.room import reachable, with_room
from hwgen.quantize.samples import Samples, collect
from hwgen.quantize.search import Candidate, most_inputs, search
from hwgen.quantize.sensitivity import Sensitivity, measure
from hwgen.quantize.synthetic import make_up
from hwgen.quantize.trial import Trial
from hwgen.quantize.weights import require_float

BATCH_ELEMENTS = 1 << 22  # activations of a calibration batch, all values together
HISTOGRAM_ELEMENTS = 1 << 18  # of a value that are counted while repairs are tried
OUTPUT_REACH, INNER_REACH = 2.0, 1.5  # of ranges beyond what made-up inputs give, which show no class clearly: clipped logits would tie
WITHOUT_HISTOGRAM = (RangeMethod.MINMAX, RangeMethod.OUTPUT, RangeMethod.AVERAGE, RangeMethod.TAIL, RangeMethod.DATA_FREE)


def quantize(graph: Graph, calibration: Mapping[str, FloatArray] | None, options: QuantizeOptions | None = None) -> Graph:
    """The integer form of a float graph; see `quantize_with_report`."""
    return quantize_with_report(graph, calibration, options)[0]


def quantize_with_report(
    graph: Graph, calibration: Mapping[str, FloatArray] | None, options: QuantizeOptions | None = None
) -> tuple[Graph, QuantizationReport]:
    """Quantize by calibration: arrays (any number of inputs, ...) by input name, as the model takes them. None: without data, as with
    RangeMethod.DATA_FREE. `options.effort` says which repairs are tried.

    Raises DataError for missing, empty or unequally long calibration arrays, or where without data the range of an input is not known;
    ConfigError for options that would have no effect; QuantizationError where no legal integer form exists.
    """
    options = options or QuantizeOptions()
    require_float(graph)
    _require_layers(graph, options)
    _require_effect(options, calibration is not None)
    if calibration is None or options.ranges is RangeMethod.DATA_FREE:
        calibration, options = None, replace(options, ranges=RangeMethod.DATA_FREE)
    trials: tuple[Trial, ...] = ()
    if calibration is not None and options.effort is Effort.NONE and options.ranges is not RangeMethod.OUTPUT:
        ranges = limited_ranges(graph, observe(graph, calibration, histogram=options.ranges not in WITHOUT_HISTOGRAM), options)
        best = Candidate(graph=graph, samples=Samples(arrays={}, values={}), options=options)
    else:
        samples = make_up(graph, options) if calibration is None else collect(graph, calibration)
        best, finder = Candidate(graph=graph, samples=samples, options=options), _RangeFinder()
        if options.ranges is RangeMethod.OUTPUT or (options.effort is not Effort.NONE and not samples.made_up):
            best = replace(best, sensitivity=measure(graph, samples, finder.seen_of(best), most_inputs(best)))
        if options.effort is not Effort.NONE:
            best, trials = search(best, finder.ranges_of)
        ranges = dict(finder.ranges_of(best, (slice(None),)))
    fitted = fit(best.graph, best.samples, ranges, best.fitted, best.options)
    check_quantized(fitted.graph)
    report = QuantizationReport(
        options=options,
        ranges=ranges,
        graph=best.graph,
        chosen_range=best.options.ranges,
        widened=fitted.widened,
        clipped=fitted.clipped,
        records=certificates(fitted.graph),
        trials=trials,
    )
    return fitted.graph, report


def _require_layers(graph: Graph, options: QuantizeOptions) -> None:
    """Raises ConfigError when options name a layer that has no weights."""
    layers = [node.name for node in graph.nodes if isinstance(node.op, Conv)]
    for name, _ in options.layer_weights:
        if name not in layers:
            raise ConfigError(f"weights of layer {name!r}: there must be such a convolution; layers with weights are {', '.join(map(repr, layers))}")


def _require_effect(options: QuantizeOptions, data: bool) -> None:
    """Raises ConfigError for a range method that needs data where there are none, and for a range of the inputs where data give it."""
    if not data and options.ranges not in (RangeMethod.MINMAX, RangeMethod.DATA_FREE):
        raise ConfigError(f"ranges: {options.ranges.value} needs calibration data; give them, or take {RangeMethod.DATA_FREE.value}")
    if data and options.input_range is not None and options.ranges is not RangeMethod.DATA_FREE:
        raise ConfigError(f"input_range: must be given without calibration data, or with ranges {RangeMethod.DATA_FREE.value}; leave one of them out")


def observe(graph: Graph, calibration: Mapping[str, FloatArray], *, histogram: bool) -> dict[str, Observer]:
    """What each value of the graph took over the calibration inputs."""
    observers = {name: Observer(name, histogram=histogram) for name in graph.values}
    for batch in _batches(graph, calibration):
        results = evaluate(graph, batch, outside=False)
        for name, observer in observers.items():
            observer.add(results[name])
    return observers


class _RangeFinder:
    """Ranges from values that are known already. What was observed of an array serves all candidates that share it."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, str, bool], tuple[FloatArray, Observer]] = {}  # arrays are kept, so that no other gets their number
        self.by_outputs: dict[tuple[int, Scheme], tuple[Sensitivity, Mapping[str, Range]]] = {}

    def ranges_of(self, candidate: Candidate, parts: Sequence[slice]) -> Mapping[str, Range]:
        """Of outputs from those parts of the samples, of others from all. Histograms are of some elements only."""
        graph, options = candidate.graph, candidate.options
        observers = self.seen_of(candidate, parts)
        ranges = limited_ranges(graph, observers, options)
        if options.ranges is RangeMethod.OUTPUT and candidate.sensitivity is not None:
            ranges |= self._by_outputs(candidate, candidate.sensitivity, observers)
        if candidate.wide_outputs:
            outputs = {output.value: observers[output.value] for output in graph.outputs}
            ranges |= limited_ranges(graph, outputs, replace(options, ranges=RangeMethod.TAIL))
        return with_room(graph, ranges, candidate.room)

    def seen_of(self, candidate: Candidate, parts: Sequence[slice] = (slice(None),)) -> dict[str, Observer]:
        """What was observed of each value: of outputs in those parts of the samples, of others in all."""
        graph, histogram, observers = candidate.graph, candidate.options.ranges not in WITHOUT_HISTOGRAM, {}
        for name in graph.values:
            chosen = parts if graph.is_output(name) else (slice(None),)
            observers[name] = self._observed(name, candidate.samples.values[name], chosen, histogram=histogram)
        return observers

    def _by_outputs(self, candidate: Candidate, sensitivity: Sensitivity, seen: Mapping[str, Observer]) -> Mapping[str, Range]:
        """The same for all candidates of the same values."""
        key = id(sensitivity), candidate.options.scheme
        if key not in self.by_outputs:
            self.by_outputs[key] = sensitivity, output_ranges(candidate.graph, candidate.samples, sensitivity, seen, candidate.options.scheme)
        return self.by_outputs[key][1]

    def _observed(self, name: str, value: FloatArray, parts: Sequence[slice], *, histogram: bool) -> Observer:
        key = id(value), str(parts), histogram
        if key not in self.seen:
            observer = Observer(name, histogram=False)
            for part in parts:
                observer.add(value[part])
                if histogram:
                    odd_step = value[part].size // HISTOGRAM_ELEMENTS | 1  # meets all channels
                    observer.count(value[part].reshape(-1)[::odd_step])
            self.seen[key] = value, observer
        return self.seen[key][1]


def limited_ranges(graph: Graph, observers: Mapping[str, Observer], options: QuantizeOptions) -> dict[str, Range]:
    """The range of each value, as far as the operator that computes it lets it reach. What the network is given has known ends: it is not
    extended beyond them. Without data it is known how far natural inputs go beyond made-up ones only roughly."""
    given = {entry.value for entry in graph.inputs}
    plain = replace(options, ranges=RangeMethod.MINMAX)
    ranges = {}
    for name, observer in observers.items():
        low, high = choose_range(observer, plain if name in given and options.ranges is RangeMethod.TAIL else options)
        if options.ranges is RangeMethod.DATA_FREE and name not in given:
            reach = OUTPUT_REACH if graph.is_output(name) else INNER_REACH
            low, high = low * reach, high * reach
        ranges[name] = reachable(graph, name, (low, high))
    return ranges


def _batches(graph: Graph, calibration: Mapping[str, FloatArray]) -> Iterator[dict[str, FloatArray]]:
    """The calibration arrays in pieces, the last one possibly shorter; checked whole before the first."""
    arrays = {entry.name: array_of(entry, calibration) for entry in graph.inputs}
    total = require_one_batch(arrays)
    block = max(1, BATCH_ELEMENTS // max(1, sum(value.type.elements for value in graph.values.values())))
    for start in range(0, total, block):
        yield {name: array[start : start + block] for name, array in arrays.items()}
