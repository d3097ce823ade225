"""report.json: what was built and what was measured, as plain data. Every key is described in docs/report.md."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hwgen import __version__
from hwgen.cosim.compare import LayerComparison
from hwgen.cosim.job import SimulationResult
from hwgen.isa.fields import Region
from hwgen.isa.registers import COUNTERS
from hwgen.ops.processor import processor_error
from hwgen.quantize import QuantizationReport, Record, Trial
from hwgen.schedule.compile import CompiledNetwork, Layer
from hwgen.schedule.crossing import Kernel
from hwgen.schedule.stored import WeightMemory, weight_memory

FORMAT = 3  # raised when a key changes its meaning, or one that is always there comes or goes
_FLAT_ARRAY = re.compile(r"\[\n(?:\s*(?:-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|true|false|null),?\n)+\s*\]")

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BuildFacts:
    """What `build` knows. `sqnr_db` by value name (empty: not computed). `tried`: ways to quantize of which `chosen` was best. `mixed`: what a
    search for the bits of each layer's weights found. `assumed_inputs`: greatest magnitudes that nobody told."""

    network: CompiledNetwork
    model_sha256: str
    records: tuple[Record, ...]
    quantization: QuantizationReport | None
    sqnr_db: Mapping[str, float]
    calibration_inputs: int
    tried: Sequence[Json] = ()
    chosen: str | None = None
    mixed: Json | None = None
    assumed_inputs: Mapping[str, float] = field(default_factory=dict)


def finite(value: float | None) -> float | None:
    """JSON has no infinity: an exact layer's SQNR is null."""
    return round(value, 3) if value is not None and math.isfinite(value) else None


def utilization(macs: int, cycles: int, multipliers: int) -> float | None:
    """MACs / (cycles x multipliers); None for a layer that ends before those in front of it."""
    return round(macs / (cycles * multipliers), 4) if cycles else None


def cycles_between(ends: Sequence[int]) -> tuple[int, ...]:
    """What each of several ends adds to those before it, 0 for one that is earlier."""
    cycles, before = [], 0
    for end in ends:
        cycles.append(max(0, end - before))
        before = max(before, end)
    return tuple(cycles)


def cycles_of_layers(layers: Sequence[Layer], ends: Sequence[int]) -> tuple[int, ...]:
    """The cycles between the ends of two CONV commands belong to the later one's layer; commands of two layers may alternate.

    `ends`: of every command of the program; 0 for one of which the end is not known, its cycles are then the next one's.
    """
    owner = {index: number for number, layer in enumerate(layers) for index in layer.commands}
    cycles, order = [0] * len(layers), sorted(owner)
    for index, added in zip(order, cycles_between([ends[index] for index in order]), strict=True):
        cycles[owner[index]] += added
    return tuple(cycles)


def predicted_cycles(network: CompiledNetwork) -> tuple[int, ...]:
    """Cycles of each layer by the cycle model."""
    cycles: tuple[int, ...] = ()
    for phase in (network.steady, *network.later):
        cycles += cycles_of_layers(phase.layers, [span.end for span in phase.prediction.spans])
    return cycles


def _processor_layer(kernel: Kernel, facts: BuildFacts) -> Json:
    """A layer that the processor computes."""
    node = kernel.node
    kind = facts.network.graph.values[node.output].type
    return {
        "name": node.name,
        "op": type(node.op).__name__,
        "onnx_nodes": list(node.source),
        "shape": list(kind.shape),
        "elements": kind.elements,
        "sqnr_db": finite(facts.sqnr_db.get(node.output)),
        "error_codes": float(f"{processor_error(node, facts.network.graph):.3g}"),
    }


def _weights(memory: WeightMemory) -> Json:
    return {
        "formats": [kind.name.lower() for kind in memory.formats],
        "stored_bytes": memory.stored_bytes,
        "packed_bytes": memory.packed_bytes,
        "int8_bytes": memory.int8_bytes,
    }


def _layer(layer: Layer, facts: BuildFacts, cycles: int) -> Json:
    kind = facts.network.graph.values[layer.value].type
    return {
        "name": layer.name,
        "op": layer.op,
        "onnx_nodes": list(layer.sources),
        "shape": list(kind.shape),
        "elements": layer.elements,
        "macs": layer.macs,
        "weights": _weights(weight_memory(layer.weights, facts.network.config)) if layer.weights else None,
        "predicted_cycles": cycles,
        "predicted_utilization": utilization(layer.macs, cycles, facts.network.config.multipliers),
        "sqnr_db": finite(facts.sqnr_db.get(layer.value)),
        "measured_cycles": None,
        "compared": None,
        "mismatches": None,
    }


_CERTIFICATE_KEYS = {  # key of the report: field of Record
    **{name: name for name in ("channel", "multiplier", "shift", "certified")},
    **{"accumulator_low": "low", "accumulator_high": "high", "differing_share": "differing"},
}


def _certificates(records: Sequence[Record]) -> list[Json]:
    """One entry per layer, one array element per rounding."""
    layers: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        layers.setdefault((record.layer, record.operator), []).append(record)
    return [
        {"layer": layer, "operator": operator} | {key: [getattr(record, field) for record in found] for key, field in _CERTIFICATE_KEYS.items()}
        for (layer, operator), found in layers.items()
    ]


def _quantization(facts: BuildFacts) -> Json:
    uncertified = [{"layer": record.layer, "operator": record.operator, "channel": record.channel} for record in facts.records if not record.certified]
    result: Json = {
        "channels": len(facts.records),
        "certified_channels": len(facts.records) - len(uncertified),
        "uncertified": uncertified,
        "certificates": _certificates(facts.records),
        "multiplier_bits": facts.network.graph.arithmetic.multiplier_bits,
        "rounding": facts.network.graph.arithmetic.rounding.value,
        "scheme": None,
        "granularity": None,
        "range": None,
        "calibration_inputs": facts.calibration_inputs,
        "output_sqnr_db": {output.name: finite(facts.sqnr_db.get(output.value)) for output in facts.network.graph.outputs},
        "widened_channels": {},
        "effort": None,
        "range_kept": None,
        "clipped_weights": {},
        "repairs": [],
        "chosen": facts.chosen,
        "tried": list(facts.tried),
        "assumed_inputs": {name: round(reach, 6) for name, reach in facts.assumed_inputs.items()},
        "mixed": facts.mixed,
    }
    if facts.quantization is not None:
        options = facts.quantization.options
        result |= {"scheme": options.scheme.value, "granularity": options.granularity.value, "range": options.ranges.value}
        result["widened_channels"] = dict(facts.quantization.widened)
        result |= {"effort": options.effort.value, "range_kept": facts.quantization.chosen_range.value}
        result |= {"clipped_weights": dict(facts.quantization.clipped), "repairs": [_trial(trial) for trial in facts.quantization.trials]}
    return result


def _trial(trial: Trial) -> Json:
    """Without its seconds: two builds give the same bytes."""
    scores = {f"{name}_{when}": getattr(score, name) for when, score in (("before", trial.before), ("after", trial.after)) for name in ("sqnr_db", "agreement")}
    numbers = {key: finite(value) for key, value in scores.items()}
    return {"repair": trial.repair.value, "detail": trial.detail, "kept": trial.kept, "reason": trial.reason, "inputs": trial.inputs} | numbers


def build_report(facts: BuildFacts) -> Json:
    """The report before any verification."""
    network = facts.network
    total, later = network.predicted_cycles, sum(phase.prediction.total_cycles for phase in network.later)
    sizes = network.region_bytes()
    return {
        "format": FORMAT,
        "hwgen": __version__,
        "network": network.graph.name,
        "model_sha256": facts.model_sha256,
        "hardware": network.config.values() | {"sha256": network.config.hash()},
        "multipliers": network.config.multipliers,
        "macs": network.macs,
        "predicted_cycles": total,
        "predicted_utilization": utilization(network.macs, total, network.config.multipliers),
        "measured_cycles": None,
        "utilization": None,
        "weights_resident": network.resident is not None,
        "cold_predicted_cycles": network.cold.prediction.total_cycles + later,
        "cold_measured_cycles": None,
        "commands": sum(len(phase.commands) for phase in (network.steady, *network.later)),
        "region_bytes": {region.name.lower(): sizes[region] for region in Region},
        "weights": _weights(network.weight_memory),
        "layers": [_layer(layer, facts, count) for layer, count in zip(network.layers, predicted_cycles(network), strict=True)],
        "phases": len(network.phases),
        "processor_layers": [_processor_layer(kernel, facts) for group in network.kernels for kernel in group],
        "quantization": _quantization(facts),
        "verification": None,
    }


@dataclass(frozen=True, kw_only=True)
class LayerCycles:
    """Measured cycles of each layer, and the first inference that ran the program of which they are: 1 where the first one loads the weights
    that the others find."""

    cycles: Sequence[int]
    first_inference: int


def verification_report(report: Json, result: SimulationResult, layers: Sequence[LayerComparison], measured: LayerCycles) -> Json:
    """`report` with what co-simulation found: cycles of the slowest inference (but the first, where that alone loads the weights),
    mismatches per layer over all inferences."""
    worst = max(result.inferences[measured.first_inference :], key=lambda inference: inference.cycles)
    merged = []
    for entry, found, cycles in zip(report["layers"], layers, measured.cycles, strict=True):
        merged.append(entry | {"measured_cycles": cycles, "compared": found.elements, "mismatches": found.mismatches + found.stray_words})
    seconds = {f"{name}_seconds": round(getattr(result, f"{name}_seconds"), 3) for name in ("wall", "cpu", "load", "build")}
    verification = {
        "inferences": len(result.inferences),
        "mismatches": sum(entry["mismatches"] for entry in merged),
        "bus_violations": len(result.violations),
        "counters": {name: worst.registers[name] for name in COUNTERS},
        "first_mismatches": [str(layer.first) for layer in layers if layer.first is not None],
        "simulated_cycles": result.total_cycles,
        "cycles_per_second": round(result.cycles_per_second),
        **seconds,
    }
    return report | {
        "layers": merged,
        "measured_cycles": worst.cycles,
        "cold_measured_cycles": result.inferences[0].cycles if measured.first_inference else worst.cycles,
        "utilization": utilization(report["macs"], worst.cycles, report["multipliers"]),
        "verification": verification,
    }


def to_json(report: Json) -> bytes:
    """Indented, with arrays of plain values on one line."""
    text = json.dumps(report, indent=2, allow_nan=False)
    return (_FLAT_ARRAY.sub(lambda match: " ".join(match[0].split()), text) + "\n").encode()
