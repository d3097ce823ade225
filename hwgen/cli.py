"""The command line: the only place that prints or exits. Exit codes: 0 ok, 1 mismatch or target missed, 2 user error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.markup import escape
from rich.table import Table

from hwgen import __version__
from hwgen.children import ended_by_signals
from hwgen.cli_explore import print_choices, print_few_bits, print_mixture, print_weights, run_compare, run_explain
from hwgen.cli_options import budget_of, hardware_arguments, hardware_of, may_widen, model_arguments, options_of, options_on, quantization_arguments
from hwgen.console import MISMATCH, OK, USER_ERROR
from hwgen.console import err as _err
from hwgen.console import out as _out
from hwgen.console import shown as _shown
from hwgen.cosim.job import MemoryModel
from hwgen.cosim.toolchain import doctor
from hwgen.errors import ConfigError, HwgenError, MismatchError
from hwgen.output import REPORT_HTML, check_file_place
from hwgen.progress import bars
from hwgen.synth.devices import DEVICES, NAMES

WITHOUT_DATA = "none, ranges follow from weights and --input-range"
_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # argparse has no public name for it


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to below 1, not {text!r}")
    return value


def _quantize(arguments: argparse.Namespace) -> int:
    from hwgen.build import QuantizeRequest, quantize_model
    from hwgen.explore.choices import chooser

    for place in (arguments.output, *([arguments.page] if arguments.page else [])):
        check_file_place(place)
    hardware = hardware_of(arguments)
    choices = chooser(hardware, auto=arguments.auto, budget=budget_of(arguments))
    if choices is None and arguments.array:
        raise ConfigError("--array: must be given with --auto or --bits auto only; a quantized model runs on any array")
    if arguments.page and arguments.bits != "auto":
        raise ConfigError("--page: must be given with --bits auto only, whose search it shows")
    request = QuantizeRequest(
        model=arguments.model,
        out=arguments.output,
        calibration=arguments.calibration,
        options=options_on(hardware, arguments) if arguments.hardware or arguments.set else options_of(arguments),
        qoperator=arguments.form == "qoperator",
        choices=choices,
        page=arguments.page,
    )
    with bars(_err) as progress:
        network = quantize_model(request, progress=progress)
    if choices is not None:
        print_choices(choices)
    certified = sum(record.certified for record in network.records)
    _out.print(f"{_shown(arguments.output)}: {certified} of {len(network.records)} channels certified to equal the golden model in ONNX Runtime")
    for trial in network.report.trials if network.report else ():
        verdict = f"{'kept' if trial.kept else f'left ({trial.reason})'}, {trial.gain_db:+.2f} dB on {trial.inputs} inputs, {trial.seconds:.2f} s"
        _out.print(f"  {trial.repair.value} ({trial.detail}): {verdict}")
    print_few_bits(network.graph, hardware)
    return OK


def _build(arguments: argparse.Namespace) -> int:
    from hwgen.build import BuildRequest, build
    from hwgen.report.html import on_processor

    hardware = hardware_of(arguments)
    request = BuildRequest(
        model=arguments.model,
        out=arguments.output,
        calibration=arguments.calibration,
        hardware=hardware,
        options=options_on(hardware, arguments),
        force=arguments.force,
        auto=arguments.auto,
        budget=budget_of(arguments),
        explain=arguments.explain,
        widen=may_widen(arguments),
    )
    with bars(_err) as progress:
        report = build(request, progress=progress)
    quantization = report["quantization"]
    if quantization["chosen"]:
        _out.print(f"{len(quantization['tried'])} ways to quantize tried, chosen: {escape(quantization['chosen'])}")
    if quantization["mixed"]:
        print_mixture(quantization["mixed"])
    for name, reach in quantization["assumed_inputs"].items():
        _out.print(f"input {escape(repr(name))} has no quantizer: assumed within -{reach:.4g}..{reach:.4g}; pass --calibration X.npz for its real range")
    _out.print(f"{len(report['layers'])} layers, {report['macs']:,} MACs on {report['multipliers']} multipliers")
    _out.print(f"{report['predicted_cycles']:,} cycles predicted, utilization {100 * (report['predicted_utilization'] or 0):.1f} %")
    if report["processor_layers"]:
        _out.print(f"{on_processor(report)}: {', '.join(sorted({layer['op'] for layer in report['processor_layers']}))}")
    if report["weights_resident"]:
        _out.print(f"the first inference, which loads the weights: {report['cold_predicted_cycles']:,} cycles")
    print_weights(report)
    _out.print(f"{quantization['certified_channels']} of {quantization['channels']} channels certified to equal the golden model in ONNX Runtime")
    _out.print(f"written: {_shown(arguments.output)}; report: {_shown(arguments.output / REPORT_HTML)}")
    return OK


def _verify(arguments: argparse.Namespace) -> int:
    from hwgen.verify import VerifyRequest, verify

    memory = MemoryModel(latency_cycles=arguments.latency, stall_probability=arguments.stalls, seed=arguments.seed)
    with bars(_err) as progress:
        verification = verify(VerifyRequest(out=arguments.out, inputs=arguments.inputs, count=arguments.count, memory=memory), progress=progress)
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    for column in ("values", "mismatches", "cycles", "predicted"):
        table.add_column(column, justify="right")
    for entry in verification.report["layers"]:
        numbers = [f"{entry[key]:,}" if entry[key] is not None else "-" for key in ("compared", "mismatches", "measured_cycles", "predicted_cycles")]
        table.add_row(escape(entry["name"]), *numbers)
    _out.print(table)
    report, result = verification.report, verification.result
    for text in report["verification"]["first_mismatches"]:
        _err.print(escape(text), style="red")
    cycles = f"{report['measured_cycles']:,} cycles measured, {report['predicted_cycles']:,} predicted; utilization {100 * (report['utilization'] or 0):.1f} %"
    _out.print(f"{report['verification']['mismatches']} mismatches in {len(result.inferences)} inferences; {cycles}")
    if report["weights_resident"]:
        _out.print(f"the first inference, which loads the weights: {report['cold_measured_cycles']:,} measured, {report['cold_predicted_cycles']:,} predicted")
    built = f"compiled in {result.build_seconds:.0f} s" if result.build_seconds else "from the cache"
    _out.print(f"simulation {built}; {result.total_cycles:,} cycles in {result.wall_seconds:.2f} s, {result.cycles_per_second:,.0f} cycles/s")
    return OK if verification.equal else MISMATCH


def _evaluate(arguments: argparse.Namespace) -> int:
    from hwgen.evaluate import evaluate, save

    with bars(_err) as progress:
        evaluation = evaluate(arguments.out, arguments.inputs, labels=arguments.labels, float_model=arguments.float, progress=progress)
    if arguments.save:
        save(evaluation, arguments.save)
    for score in evaluation.scores:
        _out.print(f"output {escape(score.name)}, {evaluation.count} inputs")
        for label, value, form in (
            ("float accuracy", score.float_accuracy, "{:.4f}"),
            ("integer accuracy", score.accuracy, "{:.4f}"),
            ("agreement of arg max", score.agreement, "{:.4f}"),
            ("SQNR", score.sqnr_db, "{:.2f} dB"),
        ):
            _out.print(f"  {label:22s}{form.format(value) if value is not None else 'unknown'}")
    _out.print(f"golden model: {evaluation.images_per_second:,.0f} inputs/s")
    return OK


def _doctor(arguments: argparse.Namespace) -> int:
    del arguments
    table = Table(box=None, pad_edge=False)
    for column in ("tool", "state", "version", "needed for"):
        table.add_column(column)
    found = doctor()
    for status in found:
        state = "ok" if status.usable else status.problem if status.tool.required else f"{status.problem} (optional)"
        table.add_row(status.tool.name, escape(state), escape(status.version), status.tool.purpose)
    _out.print(table)
    missing = [status.tool for status in found if not status.usable]
    for tool in missing:
        _out.print(f"{tool.name}: {escape(tool.remedy)}")
    return USER_ERROR if any(tool.required for tool in missing) else OK


def _synth(arguments: argparse.Namespace) -> int:
    from hwgen.report.synthesis import synthesis_rows
    from hwgen.synthesize import SynthRequest, synth

    where = {"out": arguments.out, "device": arguments.device, "grade": arguments.grade, "clock_pin": arguments.clock_pin}
    how = {"frequency_mhz": arguments.freq, "seed": arguments.seed, "tries": arguments.tries, "blocks": arguments.blocks}
    with bars(_err) as progress:
        report, found = synth(SynthRequest(**where, **how), progress=progress)
    entry = report["synthesis"][found.device.name_in_report]
    (row,) = synthesis_rows({"synthesis": {arguments.device: entry}})
    _out.print(row.device)
    for label, value in (*((label, getattr(row, name)) for name, label in NAMES.items()), ("MHz", row.mhz), ("inferences/s", row.inferences)):
        _out.print(f"  {label:22s}{value}")
    if found.mhz is not None and found.critical_path:
        begin, end, length = map(escape, found.critical_path)
        _out.print(f"slowest path: {length}, from {begin} to {end}")
    for path, used in found.blocks:
        _out.print(f"  {escape(path or 'accelerator'):50s}" + "".join(f"{value:>10,} {name}" for name, value in used.values().items()))
    if control := entry["control"]:
        _out.print(f"control logic: {control['lut']:,} LUTs, {', '.join(f'{count:,} {cell}' for cell, count in control['cells'].items())}")
    _out.print(f"by {', '.join(f'{name} {escape(version)}' for name, version in found.tools.items())}; report: {_shown(arguments.out / REPORT_HTML)}")
    return OK


def _verb(verbs: _Verbs, name: str, run: Callable[[argparse.Namespace], int], summary: str, example: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary, epilog=f"example:\n  {example}", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(run=run)
    return parser


def _add_quantize(verbs: _Verbs) -> None:
    example = "hwgen quantize model.onnx --calibration calibration.npz -o quantized.onnx"
    parser = _verb(verbs, "quantize", _quantize, "Quantize a float ONNX model to a quantized ONNX model.", example)
    model_arguments(parser, without=WITHOUT_DATA)
    quantization_arguments(parser, auto=True)
    hardware_arguments(parser)
    parser.add_argument("--page", type=Path, metavar="P.html", help="with --bits auto: write what was tried, and its Pareto front, as a page")
    parser.add_argument("--form", choices=["qdq", "qoperator"], default="qdq", help="how the quantized model is written (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="Q.onnx")


def _add_build(verbs: _Verbs) -> None:
    summary = "Build everything from a model: program, Verilog, firmware, quantized ONNX, report."
    parser = _verb(verbs, "build", _build, summary, "hwgen build model.onnx --calibration calibration.npz --array 8x8 -o out")
    model_arguments(parser, kind="a float model, or a quantized one", without=WITHOUT_DATA)
    hardware_arguments(parser)
    quantization_arguments(parser, auto=True)
    parser.add_argument("--explain", action="store_true", help="measure where accuracy goes, as `hwgen explain` does, for the report")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--force", action="store_true", help="replace OUT even if hwgen did not make it")


def _add_verify(verbs: _Verbs) -> None:
    summary = "Co-simulate the emitted Verilog; compare every word of every layer's output with the golden model."
    parser = _verb(verbs, "verify", _verify, summary, "hwgen verify out --inputs test.npz --count 5")
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder made by hwgen build")
    parser.add_argument("--inputs", type=Path, metavar="X.npz", help="inputs to run (default: random codes)")
    parser.add_argument("--count", type=_positive, metavar="N", help="how many inferences (default: 2)")
    parser.add_argument("--latency", type=_positive, default=1, metavar="CYCLES", help="read latency of the memory (default: %(default)s)")
    parser.add_argument("--stalls", type=_probability, default=0.0, metavar="P", help="probability that a bus handshake is held back (default: %(default)s)")
    parser.add_argument("--seed", type=_positive, default=1, help="of the stalls (default: %(default)s)")


def _add_synth(verbs: _Verbs) -> None:
    summary = "Synthesize the emitted Verilog for a device; LUTs, DSP blocks, RAM and MHz as measured, into the report."
    parser = _verb(verbs, "synth", _synth, summary, "hwgen synth out --device ecp5-85k")
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder made by hwgen build")
    parser.add_argument("--device", choices=list(DEVICES), required=True, help="; ".join(f"{name}: {device.title}" for name, device in DEVICES.items()))
    parser.add_argument("--grade", type=int, metavar="N", help="speed grade of an ECP5: 6, 7 or 8, which is the fastest (default: 6)")
    parser.add_argument("--freq", type=float, default=100.0, metavar="MHZ", help="what place and route work towards (default: %(default)s)")
    parser.add_argument("--seed", type=_positive, metavar="N", help="of the placer: another one gives another frequency, and other chances for the router")
    parser.add_argument("--tries", type=_positive, default=1, metavar="N", help="place with N seeds, from --seed on; route the best that can be routed")
    parser.add_argument("--clock-pin", metavar="PIN", help="the package's pin to which the board's clock leads (default: any)")
    parser.add_argument("--blocks", action="store_true", help="keep the blocks apart and count each; costs some area and speed")


def _add_evaluate(verbs: _Verbs) -> None:
    summary = "Float network against integer golden model: accuracy, agreement, SQNR, inputs per second."
    parser = _verb(verbs, "evaluate", _evaluate, summary, "hwgen evaluate out --inputs test.npz --save outputs.npz")
    parser.add_argument("out", type=Path, metavar="OUT|Q.onnx", help="a folder made by hwgen build, or a quantized model")
    parser.add_argument("--float", type=Path, metavar="MODEL.onnx", help="the float model to compare with (default: that of the folder)")
    parser.add_argument("--inputs", type=Path, required=True, metavar="X.npz", help="arrays by input name; labels may lie beside them as `y`")
    parser.add_argument("--labels", type=Path, metavar="Y.npz", help="labels as array `y`")
    parser.add_argument("--save", type=Path, metavar="Z.npz", help="write golden's integer outputs (`q`) and their real values (`y`), before a final Softmax")


def _add_explain(verbs: _Verbs) -> None:
    summary = "Why did accuracy drop? Measures what each layer's rounding does, and names the three layers to look at first."
    example = "hwgen explain model.onnx --calibration calibration.npz -o explanation"
    parser = _verb(verbs, "explain", run_explain, summary, example)
    model_arguments(parser)
    parser.add_argument("--inputs", type=Path, metavar="T.npz", help="measure on these inputs, labels beside them as `y` (default: the calibration inputs)")
    parser.add_argument("--count", type=_positive, metavar="N", help="measure layers on so many inputs (default: as many as seconds allow)")
    quantization_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="a folder for explain.html and explain.json, or one file that ends so")


def _add_compare(verbs: _Verbs) -> None:
    summary = "Quantize a model in every way: accuracy, agreement, SQNR, certified share, weight bytes, cycles of each."
    parser = _verb(verbs, "compare", run_compare, summary, "hwgen compare model.onnx --calibration calibration.npz --inputs test.npz -o comparison")
    model_arguments(parser)
    parser.add_argument("--inputs", type=Path, required=True, metavar="T.npz", help="inputs to measure on, labels beside them as `y`")
    parser.add_argument("--method", action="append", metavar="NAME", help="only this method, as the table names it; may be repeated")
    hardware_arguments(parser)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="a file that ends in .html, .md, .json or .svg, or a folder for all of them")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    result = argparse.ArgumentParser(prog="hwgen", description="From a trained ONNX network to a verified integer accelerator.")
    result.add_argument("--version", action="version", version=f"hwgen {__version__}")
    verbs = result.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_quantize, _add_build, _add_verify, _add_synth, _add_evaluate, _add_explain, _add_compare):
        add(verbs)
    _verb(verbs, "doctor", _doctor, "Which tools were found, their versions, what is missing and how to get it.", "hwgen doctor")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        with ended_by_signals():
            return int(arguments.run(arguments))
    except HwgenError as error:
        _err.print(f"hwgen: {escape(str(error))}", style="red" if _err.is_terminal else "")
        return MISMATCH if isinstance(error, MismatchError) else USER_ERROR
    except MemoryError:
        _err.print("hwgen: out of memory; give fewer inputs at once, or a smaller network")
        return USER_ERROR
    except KeyboardInterrupt:
        _err.print("hwgen: interrupted")
        return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
