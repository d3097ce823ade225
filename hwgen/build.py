"""The stages in order: read this file to understand the product.

model -> graph -> quantized graph -> program -> Verilog, firmware, ONNX, report -> one folder
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np

from hwgen.cache import cached_text, source_hash
from hwgen.config import DEFAULT_PRESET, PRESETS, HardwareConfig
from hwgen.emit.firmware import FirmwareInput, emit_firmware
from hwgen.emit.firmware_answers import KnownAnswer
from hwgen.emit.onnx import to_qdq, to_qoperator
from hwgen.emit.render import template_root
from hwgen.errors import UnsupportedError
from hwgen.explain import explain, explanation_json, render_explanation, require_explainable
from hwgen.explain.report import summary
from hwgen.explore.budget import Budget
from hwgen.explore.choices import Choices, chooser, render_mixture
from hwgen.frontend.onnx import load_model
from hwgen.frontend.qdq import load_quantized_graph
from hwgen.inputs import random_codes
from hwgen.ir.evaluate import evaluate, to_canonical
from hwgen.ir.graph import Graph
from hwgen.isa.program import disassemble
from hwgen.network import QuantizedNetwork, for_hardware, has_foreign_scales, load_network, options_for, widened
from hwgen.ops.golden import golden, golden_codes
from hwgen.output import (
    MANIFEST,
    REPORT_FOLDER,
    REPORT_HTML,
    REPORT_JSON,
    Manifest,
    check_replaceable,
    model_sha256,
    sha256,
    write_file,
    write_folder,
)
from hwgen.progress import Progress, Silent
from hwgen.quantize import QuantizeOptions
from hwgen.quantize.metrics import sqnr_db
from hwgen.report.collect import BuildFacts, Json, build_report, to_json
from hwgen.report.html import render_html
from hwgen.schedule.compile import CompiledNetwork, compile_network

QUANTIZED_MODEL = "onnx/quantized.onnx"
QOPERATOR_MODEL = "onnx/quantized_qoperator.onnx"
FLOAT_MODEL = "onnx/float.onnx"
EXPLANATION_HTML, EXPLANATION_JSON = f"{REPORT_FOLDER}explain.html", f"{REPORT_FOLDER}explain.json"
VERILOG = "rtl/accelerator.v"
_SQNR_BYTES = 1 << 27  # of float activations kept for the SQNR of every layer
_SQNR_INPUTS = 32
_CYCLE_MARGIN = 20  # times the predicted cycles
_CYCLE_FLOOR = 200_000


@dataclass(frozen=True, kw_only=True)
class QuantizeRequest:
    """What `quantize_model` works on; `out` is a file. `qoperator`: integer operators instead of QDQ. `choices`: start from
    `options` and take what does best on calibration inputs that are held out; `page`: where to show what a search for bits found."""

    model: Path
    out: Path
    calibration: Path | None
    options: QuantizeOptions = field(default_factory=QuantizeOptions)
    qoperator: bool = False
    choices: Choices | None = None
    page: Path | None = None


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What `build` works on. `force`: replace OUT even if hwgen did not make it. `auto`: choose how to quantize; `budget`: choose the bits of
    each layer's weights, both on calibration inputs that are held out. `explain`: measure where accuracy goes, for the report and a page of its
    own. `widen`: where the scales are another tool's, the hardware gets multipliers that hold a float32 ratio exactly."""

    model: Path
    out: Path
    calibration: Path | None = None
    hardware: HardwareConfig = PRESETS[DEFAULT_PRESET]
    options: QuantizeOptions = field(default_factory=QuantizeOptions)
    force: bool = False
    auto: bool = False
    budget: Budget | None = None
    explain: bool = False
    widen: bool = False


def quantize_model(request: QuantizeRequest, *, progress: Progress | None = None) -> QuantizedNetwork:
    """Quantize a float model and write it as QDQ (or QOperator) ONNX to the file `request.out`.

    Raises ModelError, UnsupportedError, DataError, QuantizationError or OutputError; nothing is written then.
    """
    progress = progress or Silent()
    network = load_network(request.model, request.calibration, request.options, progress, request.choices)
    progress.stage("write ONNX")
    form = to_qoperator(network.graph) if request.qoperator else to_qdq(network.graph)
    page = render_mixture(request.choices) if request.page is not None and request.choices is not None and request.choices.mixture else None
    write_file(request.out, form.SerializeToString(deterministic=True))
    if page is not None and request.page is not None:
        write_file(request.page, page)
    return network


def build(request: BuildRequest, *, progress: Progress | None = None) -> Json:
    """Everything from a model: program, Verilog, firmware, quantized ONNX and report, as the folder `request.out`. Returns the report.

    A float model is quantized with `request.calibration`. Raises a HwgenError that names what is wrong; the folder is then left as it was.
    """
    progress = progress or Silent()
    check_replaceable(request.out, force=request.force)
    digest, proto = model_sha256(request.model), load_model(request.model)
    hardware = widened(request.hardware) if request.widen and has_foreign_scales(proto) else request.hardware
    choices = chooser(hardware, auto=request.auto, budget=request.budget)
    network = load_network(request.model, request.calibration, options_for(hardware, request.options), progress, choices, proto)
    if request.explain:
        require_explainable(network)
    progress.stage("write and read the quantized model")
    models = _onnx_files(network)
    graph = for_hardware(_as_written(models[QUANTIZED_MODEL], network.graph.name), hardware)
    progress.stage("compile the program", total=100)
    compiled = compile_network(graph, hardware, progress=progress.step)
    progress.stage("write Verilog")
    files = {VERILOG: verilog(hardware).encode(), "rtl/files.f": b"accelerator.v\n"}
    progress.stage("write firmware and ONNX")
    files |= models | _program_files(compiled) | emit_firmware(_firmware_input(compiled, network))
    explanation = explanation_json(explain(network, progress=progress)) if request.explain else None
    progress.stage("write the report")
    report = build_report(_facts(digest, network, compiled, choices))
    if explanation is not None:
        report["explanation"] = summary(explanation)
        files |= {EXPLANATION_HTML: render_explanation(explanation), EXPLANATION_JSON: to_json(explanation)}
    manifest = Manifest(
        network=network.graph.name,
        model_sha256=digest,
        hardware=hardware,
        files={name: sha256(content) for name, content in files.items() if not name.startswith(REPORT_FOLDER)},
    )
    files |= {REPORT_JSON: to_json(report), REPORT_HTML: render_html(report), MANIFEST: manifest.to_json().encode()}
    write_folder(request.out, files)
    return report


def verilog(config: HardwareConfig) -> str:
    """The accelerator's Verilog. It follows from the configuration and this version of hwgen alone, and takes seconds: it is cached."""

    def rendered() -> str:
        from hwgen.emit.verilog import render_verilog  # with Amaranth, whose import takes longer than many a verb

        return render_verilog(config)

    key = "\0".join([source_hash(template_root() / "rtl"), metadata.version("amaranth"), config.hash()])
    return cached_text("verilog", key, rendered)


def _firmware_input(compiled: CompiledNetwork, network: QuantizedNetwork) -> FirmwareInput:
    """With a watchdog that only a hang reaches: far beyond the predicted cycles, whatever the memory's latency."""
    most = (1 << compiled.config.watchdog_bits) - 1
    return replace(FirmwareInput.of(compiled, known_answers(compiled, network)), watchdog_cycles=min(cycle_limit(compiled), most))


def cycle_limit(compiled: CompiledNetwork) -> int:
    """A program that takes more cycles than this hangs."""
    return _CYCLE_FLOOR + _CYCLE_MARGIN * max(phase.prediction.total_cycles for phase in compiled.phases)


def _as_written(model: bytes, name: str) -> Graph:
    """The network as the quantized ONNX file describes it, so that what is compiled is what the file says, on every later run."""
    with tempfile.TemporaryDirectory(prefix="hwgen-") as folder:
        path = Path(folder) / "quantized.onnx"
        path.write_bytes(model)
        return replace(load_quantized_graph(path), name=name)


def known_answers(compiled: CompiledNetwork, network: QuantizedNetwork) -> tuple[KnownAnswer, ...]:
    """Golden results of one calibration input (where there is one) and one of random codes."""
    graph = compiled.graph
    codes = random_codes(graph, 1)
    if network.calibration is not None:
        real = {entry.value: to_canonical(entry, network.calibration[entry.name][:1]) for entry in graph.inputs}
        codes = {name: np.concatenate([graph.values[name].quantized.quantize(real[name]), codes[name]]) for name in codes}
    values = golden_codes(graph, codes, keep=graph.values)
    return tuple(KnownAnswer.from_batch(values, index) for index in range(len(next(iter(codes.values())))))


def _program_files(compiled: CompiledNetwork) -> dict[str, bytes]:
    return {
        "program/program.bin": compiled.program,
        "program/weights.bin": compiled.weights,
        "program/program.txt": _listing(compiled).encode(),
    }


def _listing(compiled: CompiledNetwork) -> str:
    """All programs: that of each phase, or the one that loads the weights and the one that finds them."""
    if compiled.later:
        pairs = zip(compiled.entries, compiled.phases, strict=True)
        return "\n".join(f"entry {entry}, phase {k}:\n{disassemble(phase.commands)}" for k, (entry, phase) in enumerate(pairs))
    if compiled.resident is None:
        return disassemble(compiled.commands)
    titles = "entry 0, loads the weights:\n", f"\nentry {compiled.resident_entry}, finds them in the buffers:\n"
    return "".join(title + disassemble(routine.commands) for title, routine in zip(titles, compiled.routines, strict=True))


def _onnx_files(network: QuantizedNetwork) -> dict[str, bytes]:
    files = {QUANTIZED_MODEL: to_qdq(network.graph).SerializeToString(deterministic=True)}
    with contextlib.suppress(UnsupportedError):  # an operator without an integer form in ONNX; the QDQ form exists
        files[QOPERATOR_MODEL] = to_qoperator(network.graph).SerializeToString(deterministic=True)
    if network.float_model is not None:
        files[FLOAT_MODEL] = network.float_model.SerializeToString(deterministic=True)
    return files


def layer_sqnr(network: QuantizedNetwork) -> dict[str, float]:
    """SQNR in dB of every value of the quantized network against the float one, on some calibration inputs. Empty without a float network."""
    if network.float_graph is None or network.calibration is None:
        return {}
    per_input = 4 * sum(value.type.elements for value in network.float_graph.values.values())
    count = max(1, min(_SQNR_INPUTS, _SQNR_BYTES // per_input))
    arrays = {name: array[:count] for name, array in network.calibration.items()}
    real = evaluate(network.float_graph, arrays, outside=False)
    graph = network.graph
    codes = golden(graph, arrays, keep=graph.values)
    return {name: sqnr_db(real[name], graph.values[name].quantized.dequantize(codes[name])) for name in codes if name in real}


def _facts(digest: str, network: QuantizedNetwork, compiled: CompiledNetwork, choices: Choices | None) -> BuildFacts:
    return BuildFacts(
        network=compiled,
        model_sha256=digest,
        records=network.records,
        quantization=network.report,
        sqnr_db=layer_sqnr(network),
        calibration_inputs=len(next(iter(network.calibration.values()))) if network.calibration else 0,
        tried=choices.choice.tried() if choices and choices.choice else (),
        chosen=choices.choice.best.name if choices and choices.choice else None,
        mixed=choices.mixture if choices else None,
        assumed_inputs=network.assumed_inputs,
    )
