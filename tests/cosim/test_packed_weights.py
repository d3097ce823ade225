"""Weights of few bits end to end, on hardware that unpacks them: a trained ternary network, and mixed precision under a budget."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from system_support import CONFIGS, check_on_rtl, job_of

from hwgen.build import QUANTIZED_MODEL
from hwgen.cli import main
from hwgen.cosim.job import MemoryModel
from hwgen.cosim.runner import simulate
from hwgen.frontend.onnx import load_model
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.graph import Arithmetic
from hwgen.isa.fields import Region
from hwgen.ops.golden import golden
from hwgen.packing import WeightFormat
from hwgen.schedule.compile import compile_network

EXAMPLES = Path(__file__).parents[2] / "examples"
TERNARY = EXAMPLES / "ternary/model.onnx"
CONFIG = CONFIGS["8x16"]


def ternary_network():
    arithmetic = Arithmetic(multiplier_bits=CONFIG.multiplier_bits, rounding=CONFIG.rounding)
    return import_quantized_model(load_model(TERNARY), "ternary", arithmetic=arithmetic)


def test_the_trained_ternary_network_gives_the_scores_of_onnx_runtime():
    """On all test images, with weights that are INT4 in the file and activations that are UINT4."""
    with np.load(EXAMPLES / "digits/test.npz") as arrays:
        x, y = {"image": arrays["image"].astype(np.float32)}, arrays["y"]
    (theirs,) = onnxruntime.InferenceSession(TERNARY.read_bytes(), providers=["CPUExecutionProvider"]).run(None, x)
    graph = ternary_network()
    (output,) = graph.outputs
    codes = golden(graph, x, keep=graph.values)
    np.testing.assert_array_equal(graph.values[output.value].quantized.dequantize(codes[output.value]).reshape(len(y), 10), theirs)
    assert (theirs.argmax(1) == y).mean() > 0.95
    assert {node.op.weight_format for node in graph.nodes} == {WeightFormat.TERNARY}
    assert [len(np.unique(codes[node.output])) for node in graph.nodes[:-1]] == [16, 16]


def test_the_trained_ternary_network_reads_a_fifth_of_the_words():
    """Beside the same network with its weights stored as int8, on the same hardware: that is its format 0."""
    graph, found = ternary_network(), {}
    for decoder in (True, False):
        network = replace(compile_network(graph, replace(CONFIG, weight_decoder=decoder)), config=CONFIG)
        check_on_rtl(network, MemoryModel())
        found[decoder] = len(network.weights), simulate(job_of(network, 1)[0]).inferences[0].registers
    memory, word = network.weight_memory, CONFIG.bus_bytes
    (packed, fewer), (plain, more) = found[True], found[False]
    assert plain - packed == memory.int8_bytes - memory.packed_bytes
    assert memory.int8_bytes <= 5 * memory.packed_bytes < memory.int8_bytes + 5 * word * len(network.layers)
    assert more["read_beats"] - fewer["read_beats"] == (memory.int8_bytes - memory.packed_bytes) // word
    cycles = memory.int8_bytes // word  # of the load engine; 3 for 5 words that become of one, two at a time
    assert 0.35 * cycles < more["load_busy"] - fewer["load_busy"] < 0.45 * cycles
    assert fewer["cycles"] < more["cycles"]


def test_mixed_precision_under_a_budget_is_what_the_verilog_computes(tmp_path):
    """By the command line alone: the bits of each layer, the program, and every value and every cycle of it."""
    values = {name: value for name, value in CONFIG.values().items() if name != "name"}
    (tmp_path / "packed.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()), encoding="utf-8")
    out, data = tmp_path / "out", str(EXAMPLES / "digits/calibration.npz")
    words = ["--calibration", data, "--repair", "none", "--hardware", str(tmp_path / "packed.toml"), "--bits", "auto", "--budget", "weights=6KiB"]
    assert main(["build", str(EXAMPLES / "digits/model.onnx"), *words, "-o", str(out)]) == 0
    assert main(["verify", str(out), "--inputs", str(EXAMPLES / "digits/test.npz"), "--count", "2"]) == 0
    report = json.loads((out / "report/report.json").read_text(encoding="utf-8"))
    assert report["region_bytes"][Region.WEIGHTS.name.lower()] <= 6144 and {"int4", "ternary", "int8"} <= set(report["weights"]["formats"])
    assert report["verification"]["mismatches"] == 0 and all(layer["compared"] for layer in report["layers"])
    assert report["measured_cycles"] == report["predicted_cycles"] and report["cold_measured_cycles"] == report["cold_predicted_cycles"]
    stored = {tensor.data_type for tensor in onnx.load(out / QUANTIZED_MODEL).graph.initializer if tensor.name.endswith(".weight")}
    assert stored == {onnx.TensorProto.INT8, onnx.TensorProto.INT4}
