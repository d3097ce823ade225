"""Arguments that several verbs share, and the requests' parts that are made of them. What was given and would have no effect is an error."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hwgen.config import DEFAULT_PRESET, PRESETS, HardwareConfig, load_hardware
from hwgen.errors import ConfigError
from hwgen.frontend.onnx_file import is_quantized_model, load_model
from hwgen.network import options_for
from hwgen.packing import WeightFormat
from hwgen.quantize import Effort, Granularity, QuantizeOptions, RangeMethod, Scheme
from hwgen.quantize.few_bits import INT3, WeightCodes

if TYPE_CHECKING:
    from hwgen.explore.budget import Budget

BITS: dict[str, WeightCodes] = {
    "8": WeightFormat.INT8,
    "4": WeightFormat.INT4,
    "3": INT3,
    "2": WeightFormat.INT2,
    "ternary": WeightFormat.TERNARY,
    "binary": WeightFormat.BINARY,
}
DEFAULTS = {"scheme": Scheme.ASYMMETRIC, "granularity": Granularity.CHANNEL, "range": RangeMethod.MINMAX, "repair": Effort.FAST}
CHOSEN_BY_AUTO = ("--scheme", "--granularity", "--range")
EXACT = "built with 24-bit multipliers for a model that another tool quantized, so that its integers are met exactly"


def _interval(text: str) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -1e30 < low < high < 1e30:
        raise argparse.ArgumentTypeError(f"must be two numbers LOW,HIGH, the lower one first, not {text!r}")
    return low, high


def _layer_bits(text: str) -> tuple[str, WeightCodes]:
    layer, equals, bits = text.rpartition("=")
    if not (layer and equals and bits in BITS):
        raise argparse.ArgumentTypeError(f"must be LAYER=BITS with bits {', '.join(BITS)}, not {text!r}")
    return layer, BITS[bits]


def model_arguments(parser: argparse.ArgumentParser, *, kind: str | None = None, without: str | None = None) -> None:
    """The model, and data to calibrate it by. `without`: what is done without data; None: they are needed."""
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help=kind)
    meaning = "typical inputs: arrays by input name; a single one may have any name" + (f" (default: {without})" if without else "")
    parser.add_argument("--calibration", type=Path, required=without is None, metavar="X.npz", help=meaning)


def quantization_arguments(parser: argparse.ArgumentParser, *, auto: bool = False) -> None:
    """`auto`: hwgen may be asked to choose the way to quantize and the bits of weights. Nothing has a default here: see `options_of`."""
    group = parser.add_argument_group("quantization of a float model")
    for name, choices, meaning in (
        ("scheme", Scheme, "scales and zero points"),
        ("granularity", Granularity, "weight scales per channel or per tensor"),
        ("range", RangeMethod, "how activation ranges follow from calibration"),
    ):
        group.add_argument(f"--{name}", choices=[choice.value for choice in choices], help=f"{meaning} (default: {DEFAULTS[name].value})")
    with_auto = "; auto: each layer what a budget asks for" if auto else ""
    group.add_argument("--bits", choices=[*BITS, *(["auto"] if auto else [])], help=f"of each weight{with_auto} (default: 8)")
    group.add_argument("--layer-bits", action="append", type=_layer_bits, metavar="LAYER=BITS", help="of one layer's weights; may be repeated")
    if auto:
        meaning = "for --bits auto: weights=40KiB, cycles=50000, sqnr=30dB or agreement=99%%"
        group.add_argument("--budget", metavar="KIND=VALUE", help=meaning)
    group = parser.add_argument_group("what is done to keep accuracy")
    meaning = "none; fast: each repair on some inputs; best: on all, with every range method. Each is kept only where it gains on held-out inputs"
    default = f"{DEFAULTS['repair'].value}{'; with --auto best' if auto else ''}"
    group.add_argument("--repair", choices=[effort.value for effort in Effort], help=f"{meaning} (default: {default})")
    group.add_argument("--input-range", type=_interval, metavar="LOW,HIGH", help="of the elements of the network's inputs, for quantization without data")
    if auto:
        meaning = "try schemes, granularities and ranges that the hardware can compute; take what is best on calibration inputs that are held out"
        parser.add_argument("--auto", action="store_true", help=meaning)


def hardware_arguments(parser: argparse.ArgumentParser) -> None:
    """A preset or a file, the shape of the array, and single parameters."""
    meaning = f"{', '.join(PRESETS)}, or a file of parameters (default: {DEFAULT_PRESET}; {EXACT})"
    parser.add_argument("--hardware", metavar="PRESET|FILE.toml", help=meaning)
    parser.add_argument("--array", metavar="OUTxIN", help="another array shape: output lanes x input lanes")
    meaning = "another parameter of the hardware, as in a file of them: weight_decoder=true; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=meaning)


def hardware_of(arguments: argparse.Namespace) -> HardwareConfig:
    """Of `--hardware`, `--array` and `--set`."""
    return load_hardware(arguments.hardware, arguments.array, arguments.set)


def may_widen(arguments: argparse.Namespace) -> bool:
    """Nobody said what multipliers the hardware has."""
    return arguments.hardware is None and not any(setting.partition("=")[0].strip() == "multiplier_bits" for setting in arguments.set)


def options_of(arguments: argparse.Namespace) -> QuantizeOptions:
    """How to quantize. Raises ConfigError for options that would have no effect: all of them where the model is quantized already, those that
    `--auto` chooses, ranges of data without data, a range of the inputs beside data. Raises ModelError for no model."""
    names = ("scheme", "granularity", "range", "bits", "layer_bits", "repair", "input_range")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name) is not None]
    auto = getattr(arguments, "auto", False)
    quantized = is_quantized_model(load_model(arguments.model))
    if quantized and given and arguments.bits != "auto":
        text = "model {!r} is quantized already and keeps its integers; leave them out, or give the float model"
        raise ConfigError(f"{', '.join(given)}: must be given with a float model only, but {text.format(arguments.model.name)}")
    chosen = [name for name in given if name in CHOSEN_BY_AUTO]
    if auto and chosen:
        raise ConfigError(f"{', '.join(chosen)}: must not be given with --auto, which tries all and chooses; leave one of them out")
    ranges = RangeMethod(_choice(arguments, "range"))
    if arguments.range and arguments.calibration is None and ranges is not RangeMethod.DATA_FREE:
        raise ConfigError(f"--range {ranges.value}: needs data to take ranges from; pass --calibration X.npz")
    if arguments.input_range and arguments.calibration is not None and ranges is not RangeMethod.DATA_FREE:
        raise ConfigError("--input-range: must be given without --calibration, or with --range data-free: data have ranges of their own")
    effort = Effort.BEST if auto and not arguments.repair else Effort(_choice(arguments, "repair"))
    return QuantizeOptions(
        scheme=Scheme(_choice(arguments, "scheme")),
        granularity=Granularity(_choice(arguments, "granularity")),
        ranges=ranges,
        weights=BITS.get(arguments.bits, WeightFormat.INT8),
        layer_weights=_layer_bits_of(arguments),
        effort=Effort.NONE if quantized else effort,
        input_range=arguments.input_range,
    )


def _choice(arguments: argparse.Namespace, name: str) -> str:
    return str(getattr(arguments, name) or DEFAULTS[name].value)


def options_on(hardware: HardwareConfig, arguments: argparse.Namespace) -> QuantizeOptions:
    """How to quantize for that hardware. Raises ConfigError as `options_of`, and for a scheme that the hardware cannot compute."""
    options = options_of(arguments)
    found = options_for(hardware, options)
    if arguments.scheme and found.scheme is not options.scheme:
        raise ConfigError(f"--scheme {options.scheme.value}: needs a multiplier, which hardware {hardware.name!r} has not; take power-of-two")
    return found


def budget_of(arguments: argparse.Namespace) -> Budget | None:
    """Of `--bits auto --budget ...`. Raises ConfigError when one comes without the other."""
    from hwgen.explore.budget import parse_budget

    if (arguments.bits == "auto") != (arguments.budget is not None):
        raise ConfigError("--bits auto: needs a --budget, and --budget needs --bits auto; for example --bits auto --budget weights=40KiB")
    return parse_budget(arguments.budget) if arguments.budget is not None else None


def _layer_bits_of(arguments: argparse.Namespace) -> tuple[tuple[str, WeightCodes], ...]:
    """Of `--layer-bits`. Raises ConfigError for a layer that is named twice, or next to `--bits auto`."""
    given = tuple(arguments.layer_bits or ())
    twice = [layer for index, (layer, _) in enumerate(given) if layer in dict(given[:index])]
    if twice:
        raise ConfigError(f"--layer-bits: must name a layer once, names {twice[0]!r} twice")
    if given and arguments.bits == "auto":
        raise ConfigError("--layer-bits: goes with --bits 8, 4, 3, 2, ternary or binary, not with --bits auto, which chooses for all layers")
    return given
