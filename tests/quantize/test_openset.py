"""Real networks: certified channels, equality with ONNX Runtime, accuracy, time."""

import time

import numpy as np
import onnxruntime
import pytest
from openset_support import FLOAT_MODELS, model_path, openset

from hwgen.emit.onnx import to_qdq, to_qoperator
from hwgen.frontend.onnx import load_float_graph
from hwgen.frontend.qdq import import_quantized_model, load_quantized_graph
from hwgen.ir.evaluate import evaluate
from hwgen.ops.golden import golden
from hwgen.quantize import QuantizeOptions, certificates, quantize_with_report
from hwgen.quantize.metrics import sqnr_db


def case(name, count=128):
    """Float graph, calibration arrays, evaluation arrays, labels."""
    if "imagenet" in name:
        pytest.importorskip("PIL")
    module = openset()
    entry = module.CASES[name]
    graph = load_float_graph(model_path(name))
    x, labels = module.load(entry)
    key = graph.inputs[0].name
    calibration = module.calibration(entry, count).astype(np.float32)
    return entry, graph, {key: calibration}, {key: x.astype(np.float32)}, labels


def runtime(model, feeds, output):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (name, x), = feeds.items()
    return np.concatenate([session.run([output], {name: x[k : k + 64]})[0] for k in range(0, len(x), 64)])


@pytest.mark.parametrize("name", ["resnet8_cifar10_nhwc", "kws_dscnn", "vww_mobilenetv1_025"])
def test_certified_in_full_and_equal_to_onnx_runtime_on_every_input(name):
    _, graph, calibration, x, _ = case(name)
    quantized, report = quantize_with_report(graph, calibration)
    assert report.channels > 300 and not report.uncertified
    node = quantized.nodes[-1]
    codes = golden(quantized, x)[node.output]
    model = to_qoperator(quantized)
    model.graph.output.add(name=node.output)
    expected = quantized.values[node.output].quantized.outside(codes).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(runtime(model, x, node.output), expected)
    again = import_quantized_model(to_qdq(quantized), graph.name)
    few = {key: array[:20] for key, array in x.items()}
    np.testing.assert_array_equal(golden(again, few)[node.output], codes[:20])


@pytest.mark.parametrize("name", [name for name in FLOAT_MODELS if "imagenet" not in name])
def test_accuracy_is_that_of_the_float_network(name):
    entry, graph, calibration, x, labels = case(name, 64)
    if entry.metric == "top1":  # enough to see a loss
        x, labels = {key: array[:400] for key, array in x.items()}, labels[:400]
    quantized, _ = quantize_with_report(graph, calibration)
    value = graph.outputs[0].value
    reals = quantized.values[value].quantized.dequantize(golden(quantized, x)[value])
    floats = evaluate(graph, x, outside=False)[value]
    (array,) = x.values()
    ours, theirs = (openset().score(entry, output, labels, array) for output in (reals, floats))
    assert ours >= theirs - max(0.005, 2 / len(labels)) - 1e-9
    assert sqnr_db(floats, reals) > {"resnet8_cifar10_nhwc": 32.0}.get(name, 20.0)


def test_resnet8_is_quantized_and_run_fast():
    """Goals are one second and 5,000 images per second; the limits here only catch a collapse, machines may be busy."""
    _, graph, calibration, x, _ = case("resnet8_cifar10_nhwc")
    start = time.process_time()
    quantized, _ = quantize_with_report(graph, calibration)
    assert time.process_time() - start < 20
    some = {key: array[:200] for key, array in x.items()}
    start = time.process_time()
    golden(quantized, some)
    assert 200 / (time.process_time() - start) > 50


@pytest.mark.parametrize("name", ["resnet8_cifar10_int8_qdq", "kws_dscnn_int8_qdq", "sww_ds1d_int8_qdq", "vww_mobilenetv1_025_int8_qdq"])
def test_models_quantized_by_others_keep_their_accuracy(name):
    module = openset()
    entry = module.CASES[name]
    graph = load_quantized_graph(model_path(name))
    x, labels = module.load(entry)
    value = graph.outputs[0].value
    outputs = golden(graph, {graph.inputs[0].name: x})[value]
    assert module.score(entry, outputs, labels) >= entry.float_score - max(0.003, 1.01 / len(labels))
    assert any(record.certified for record in certificates(graph))


def test_options_default_to_the_documented_ones():
    assert QuantizeOptions().arithmetic.multiplier_bits == 16
