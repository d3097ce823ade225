"""One float network on which quantizations are tried: what they share is computed once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwgen.arrays import AnyArray
from hwgen.config import HardwareConfig
from hwgen.errors import HwgenError
from hwgen.ir.evaluate import evaluate
from hwgen.ir.graph import Graph
from hwgen.isa.fields import Region
from hwgen.network import Labels, for_hardware
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden
from hwgen.quantize import QuantizationReport, QuantizeOptions, Scheme, quantize_with_report
from hwgen.report.collect import predicted_cycles
from hwgen.schedule.compile import compile_network
from hwgen.score import OutputScore, real_outputs, score


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost:
    """What a quantized network takes on the hardware: bytes of weights and parameters, cycles of one inference (not of the first, where
    weights stay on the chip)."""

    weight_bytes: int
    cycles: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Attempt:
    """One way to quantize and what came of it; `refused` says why nothing did, `unfit` why it does not run on the hardware. `score` is that
    of the output with the least SQNR. `seconds` is the time that quantizing took."""

    name: str
    options: QuantizeOptions
    refused: str = ""
    unfit: str = ""
    graph: Graph | None = None
    report: QuantizationReport | None = None
    score: OutputScore | None = None
    cost: Cost | None = None
    seconds: float = 0.0

    @property
    def sqnr_db(self) -> float:
        """Of the outputs; minus infinity for what was refused."""
        found = self.score.sqnr_db if self.score else None
        return float("-inf") if found is None else found

    @property
    def certified(self) -> float | None:
        """Share of the roundings that are proven to equal ONNX Runtime's."""
        if self.report is None:
            return None
        return self.report.certified_channels / max(1, self.report.channels)


class Workbench:
    """A float network, what calibrates it and what it is measured on, for one hardware."""

    def __init__(
        self, graph: Graph, calibration: Mapping[str, AnyArray], inputs: Mapping[str, AnyArray], labels: Labels | None, hardware: HardwareConfig
    ) -> None:
        """Arrays by input name. Raises DataError where they do not fit."""
        self.graph, self.calibration, self.inputs, self.labels, self.hardware = graph, calibration, inputs, labels, hardware
        self.reference: Mapping[str, Any] = evaluate(graph, inputs, softmax=False)
        self._costs: dict[object, Cost] = {}

    def options(self, options: QuantizeOptions) -> QuantizeOptions:
        """With the arithmetic of the hardware; the scheme stays."""
        return replace(options, multiplier_bits=self.hardware.multiplier_bits, rounding=self.hardware.rounding)

    def attempt(self, name: str, options: QuantizeOptions) -> Attempt:
        """Quantize, run the golden model, compile; what is impossible is said in the attempt."""
        if self.hardware.multiplier_bits == 0 and options.scheme is not Scheme.POWER_OF_TWO:
            return Attempt(name=name, options=options, refused=f"hardware {self.hardware.name!r} has no multiplier")
        options = self.options(options)
        try:
            start = time.perf_counter()
            graph, report = quantize_with_report(self.graph, self.calibration, options)
            seconds = time.perf_counter() - start
            found = Attempt(name=name, options=options, graph=graph, report=report, score=self.score(graph), seconds=seconds)
        except HwgenError as error:
            return Attempt(name=name, options=options, refused=str(error))
        try:
            return replace(found, cost=self.cost(graph))
        except HwgenError as error:
            return replace(found, unfit=str(error))

    def score(self, graph: Graph) -> OutputScore:
        """Of the output with the least SQNR, on the inputs."""
        outputs = real_outputs(graph, golden(graph, self.inputs))
        scores = [score(name, real, self.reference[name], self.labels) for name, real in outputs.items()]
        return min(scores, key=lambda each: np.inf if each.sqnr_db is None else each.sqnr_db)

    def cost(self, graph: Graph) -> Cost:
        """Compiled once for all graphs of one structure: neither scales nor values of weights have an influence.

        Raises CapacityError where the network does not fit the hardware.
        """
        key = structure(graph)
        if key not in self._costs:
            compiled = compile_network(for_hardware(graph, self.hardware), self.hardware)
            self._costs[key] = Cost(weight_bytes=compiled.region_bytes()[Region.WEIGHTS], cycles=compiled.steady.prediction.total_cycles)
        return self._costs[key]


    def layer_cycles(self, graph: Graph) -> dict[str, int]:
        """Cycles by the cycle model of the operation that each node is part of, by the node's name."""
        compiled = compile_network(for_hardware(graph, self.hardware), self.hardware)
        layers = list(zip(compiled.steady.layers, predicted_cycles(compiled), strict=True))
        joined = [(f"+{layer.name}+", cycles) for layer, cycles in layers]  # names of nodes that run as one are joined by +
        return {node.name: next((cycles for names, cycles in joined if f"+{node.name}+" in names), 0) for node in graph.nodes}


def structure(graph: Graph) -> object:
    """What cycles and sizes depend on: operators, how they are connected, shapes, formats of weights."""
    formats = {node.output: node.op.weight_format for node in graph.nodes if isinstance(node.op, Conv)}
    return tuple((type(node.op).__name__, node.inputs, node.output, graph.values[node.output].type, formats.get(node.output)) for node in graph.nodes)
