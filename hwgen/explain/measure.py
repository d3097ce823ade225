"""What each layer's rounding does to its own value and to the network's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.explain.energy import Against, OutputsAgainst
from hwgen.explain.partial import Block, float_blocks, rounded, with_real_weights
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import FloatArray, Quantization
from hwgen.layout import Int8Array
from hwgen.ops.check import COPYING
from hwgen.ops.golden import golden
from hwgen.progress import Progress
from hwgen.quantize.ranges import Observer

WORK = 20e9  # multiply-accumulates that measuring may take, about: seconds
LEAST_INPUTS, MOST_INPUTS = 8, 128
MOST_BYTES = 1 << 28  # of codes of all values
EVALUATIONS = 4  # of the rest of the network, per layer


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A place at which something is rounded: a node that does not only copy codes, or (`node` None) a network input."""

    name: str
    value: str
    node: Node | None


@dataclass(frozen=True, kw_only=True, eq=False)
class StageMeasure:
    """SQNR in dB. At the network's outputs: with this stage alone quantized (`alone`), with its weights alone, its values alone, and with
    everything up to here (`up_to_here`). At its own value: with it alone quantized (`own`) and with everything up to here (`here`).
    `saturated`: share of the float values beyond the greatest codes. `low`, `high` (C,): extremes of the float values by channel."""

    stage: Stage
    alone_db: float
    weights_db: float
    values_db: float
    up_to_here_db: float
    own_db: float
    here_db: float
    agreement: float
    saturated: float
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    observer: Observer


def stages(graph: Graph) -> tuple[Stage, ...]:
    """Where a graph rounds, in order. Operators that copy codes add no error and have none."""
    inputs = [Stage(name=entry.name, value=entry.value, node=None) for entry in graph.inputs]
    return (*inputs, *(Stage(name=node.name, value=node.output, node=node) for node in graph.nodes if not isinstance(node.op, COPYING)))


def inputs_to_measure(graph: Graph, count: int) -> int:
    """How many of `count` inputs are enough, and not too many for the time and memory that measuring may take."""
    macs = sum(node.op.work(*graph.input_types(node)) for node in graph.nodes)
    elements = sum(value.type.elements for value in graph.values.values())
    affordable = WORK / max(1.0, EVALUATIONS * len(stages(graph)) / 2 * max(macs, elements))
    return max(1, min(count, MOST_INPUTS, max(LEAST_INPUTS, int(affordable)), MOST_BYTES // elements))


class _Gathered:
    """What is summed up over the blocks for one stage."""

    def __init__(self, stage: Stage, channels: int) -> None:
        self.stage = stage
        self.alone, self.weights, self.values, self.up_to_here = (OutputsAgainst() for _ in range(EVALUATIONS))
        self.own, self.here = Against(), Against()
        self.beyond = self.elements = 0
        self.low, self.high = np.full(channels, np.inf, np.float32), np.full(channels, -np.inf, np.float32)
        self.observer = Observer(stage.value)

    def add(self, block: Block, graph: Graph, done: Mapping[str, FloatArray]) -> None:
        """`done`: every quantized value up to here, this one included."""
        name = self.stage.value
        real, quantization = block.values[name], graph.values[name].quantized
        self._add_values(real, quantization)
        replaced, reference = self._replaced(block, graph), block.outputs({})
        for gathered, value in zip((self.weights, self.alone), replaced, strict=True):
            gathered.add(reference, block.outputs({name: value}) if value is not real else reference)
        self.values.add(reference, block.outputs({name: rounded(quantization, real)}))
        self.up_to_here.add(reference, block.outputs(done))
        self.own.add(real, replaced[1])
        self.here.add(real, done[name])

    def _replaced(self, block: Block, graph: Graph) -> tuple[FloatArray, FloatArray]:
        """This stage's value with its weights rounded, and with its values rounded as well."""
        real = block.values[self.stage.value]
        if self.stage.node is not None:
            node = next(node for node in graph.nodes if node.output == self.stage.value)
            op = with_real_weights(node, graph)
            if op is not node.op:
                real = block.with_operator(self.stage.node, op)
        return real, rounded(graph.values[self.stage.value].quantized, real)

    def _add_values(self, real: FloatArray, quantization: Quantization) -> None:
        ends = (np.array([-128.5, 127.5]) - quantization.zero_point) * float(quantization.scale)
        self.beyond += int((real < ends[0]).sum()) + int((real > ends[1]).sum())
        self.elements += real.size
        self.low = np.minimum(self.low, real.min(axis=(0, 1, 2)))
        self.high = np.maximum(self.high, real.max(axis=(0, 1, 2)))
        self.observer.add(real)

    def result(self) -> StageMeasure:
        return StageMeasure(
            stage=self.stage,
            alone_db=self.alone.sqnr_db,
            weights_db=self.weights.sqnr_db,
            values_db=self.values.sqnr_db,
            up_to_here_db=self.up_to_here.sqnr_db,
            own_db=self.own.sqnr_db,
            here_db=self.here.sqnr_db,
            agreement=self.alone.agreement,
            saturated=self.beyond / self.elements,
            low=self.low,
            high=self.high,
            observer=self.observer,
        )


def measure(real: Graph, quantized: Graph, arrays: Mapping[str, FloatArray], progress: Progress) -> tuple[StageMeasure, ...]:
    """Every stage of the network, on all of `arrays`. Both graphs have the same nodes; `real` is float.

    Raises DataError when the arrays do not fit the inputs, QuantizationError for values that are not finite.
    """
    gathered = [_Gathered(stage, real.values[stage.value].type.channels) for stage in stages(real)]
    by_value = {each.stage.value: each for each in gathered}
    codes = golden(quantized, arrays, keep=quantized.values)
    total = len(next(iter(codes.values())))
    progress.stage("measure layers", total=total * len(gathered))
    order = [entry.value for entry in real.inputs] + [node.output for node in real.nodes]
    steps = 0
    for block in float_blocks(real, arrays):
        done: dict[str, FloatArray] = {}
        for name in order:
            done[name] = _meaning(quantized, codes, name, block.part)
            if name in by_value:
                by_value[name].add(block, quantized, done)
                steps += block.count
                progress.step(steps)
    return tuple(each.result() for each in gathered)


def _meaning(graph: Graph, codes: Mapping[str, Int8Array], name: str, part: slice) -> FloatArray:
    return graph.values[name].quantized.dequantize(codes[name][part])
