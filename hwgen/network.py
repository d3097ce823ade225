"""From a model file to a quantized network: a float model is quantized here, a quantized one is taken as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from hwgen.arrays import AnyArray, read_network_arrays
from hwgen.config import HardwareConfig
from hwgen.errors import ConfigError, DataError
from hwgen.frontend.onnx import import_model, load_model
from hwgen.frontend.onnx_file import is_quantized_model, network_name
from hwgen.frontend.qdq import NOTE_MULTIPLIER_BITS, import_quantized_model
from hwgen.ir.graph import Graph
from hwgen.optimize import optimize
from hwgen.progress import Progress
from hwgen.quantize import QuantizationReport, QuantizeOptions, Record, Scheme, certificates, quantize_with_report

Labels: TypeAlias = npt.NDArray[np.int64]
Chooser: TypeAlias = Callable[[Graph, Mapping[str, AnyArray], Labels | None, QuantizeOptions, Progress], QuantizeOptions]


RATIO_BITS = 24  # of a float32 significand


@dataclass(frozen=True, kw_only=True)
class QuantizedNetwork:
    """`graph` is quantized. For a network that came as float: the float graph and model, and what was chosen. `calibration`: data that were
    given, of which known answers take one.

    `assumed_inputs`: greatest magnitude of inputs whose range neither the model nor data told, by name.
    """

    graph: Graph
    records: tuple[Record, ...]
    float_graph: Graph | None = None
    float_model: onnx.ModelProto | None = None
    calibration: Mapping[str, AnyArray] | None = None
    report: QuantizationReport | None = None
    assumed_inputs: Mapping[str, float] = field(default_factory=dict)


def options_for(config: HardwareConfig, options: QuantizeOptions) -> QuantizeOptions:
    """`options` with the arithmetic of the hardware: multiplier bits and rounding, and power-of-two scales where it has no multiplier.

    Raises ConfigError where another scheme than the default was asked for that the hardware cannot compute.
    """
    scheme = options.scheme if config.multiplier_bits else Scheme.POWER_OF_TWO
    if options.scheme is Scheme.SYMMETRIC and scheme is not options.scheme:
        raise ConfigError(f"scheme {options.scheme.value}: needs a multiplier, which hardware {config.name!r} has not; take {scheme.value}")
    return replace(options, scheme=scheme, multiplier_bits=config.multiplier_bits, rounding=config.rounding)


def has_foreign_scales(proto: onnx.ModelProto) -> bool:
    """Another tool quantized the model: its scales were not chosen for multipliers of a few bits."""
    return is_quantized_model(proto) and not any(entry.key == NOTE_MULTIPLIER_BITS for entry in proto.metadata_props)


def widened(config: HardwareConfig) -> HardwareConfig:
    """`config` with multipliers as wide as the significand of a float32 ratio."""
    if config.multiplier_bits == RATIO_BITS:
        return config
    return replace(config, name=f"{config.name} with {RATIO_BITS}-bit multipliers", multiplier_bits=RATIO_BITS)


def for_hardware(graph: Graph, config: HardwareConfig) -> Graph:
    """A network with power-of-two scales runs on hardware with multipliers too, as the very same integers: 2**s is a multiplier."""
    needs, has = graph.arithmetic, config.multiplier_bits
    if needs.multiplier_bits == 0 and has and needs.rounding is config.rounding:
        return replace(graph, arithmetic=replace(needs, multiplier_bits=has))
    return graph


def load_network(
    model: Path,
    calibration: Path | None,
    options: QuantizeOptions,
    progress: Progress,
    choose: Chooser | None = None,
    proto: onnx.ModelProto | None = None,
) -> QuantizedNetwork:
    """Read `model`, unless its content is given as `proto`; quantize it with `calibration`, or without data, when it is float. `choose` makes
    better options of these, from the float graph, the calibration data and their labels.

    Raises ModelError, UnsupportedError, DataError (data that do not fit; without data, unknown ranges of inputs), QuantizationError, or
    ConfigError where options would have no effect, because the model is quantized already.
    """
    progress.stage("read the model")
    proto, name = load_model(model) if proto is None else proto, network_name(model)
    if is_quantized_model(proto):
        if choose is not None:
            raise DataError(f"model {model.name!r}: must be float for a choice of how to quantize it, came quantized; give the float model")
        if options.asked:
            names, text = ", ".join(options.asked), f"model {model.name!r} is quantized already and keeps its integers"
            raise ConfigError(f"options {names}: must be given with a float model only, but {text}; leave them out, or give the float model")
        typical = None if calibration is None else lambda inputs: read_network_arrays(calibration, inputs)[0]
        assumed: dict[str, float] = {}
        graph = import_quantized_model(proto, name, calibrate=typical, assumed=assumed, arithmetic=options.arithmetic)
        progress.stage("certify")
        known = None if calibration is None else read_network_arrays(calibration, graph.inputs)[0]
        return QuantizedNetwork(graph=graph, records=certificates(graph), calibration=known, assumed_inputs=assumed)
    float_graph = optimize(import_model(proto, name))
    arrays, labels = (None, None) if calibration is None else read_network_arrays(calibration, float_graph.inputs)
    if choose is not None:
        if arrays is None:
            raise DataError(f"model {model.name!r}: a choice of how to quantize it needs data to choose by; pass --calibration X.npz")
        options = choose(float_graph, arrays, labels, options, progress)
    progress.stage("quantize")
    graph, report = quantize_with_report(float_graph, arrays, options)
    return QuantizedNetwork(graph=graph, records=report.records, float_graph=report.graph, float_model=proto, calibration=arrays, report=report)
