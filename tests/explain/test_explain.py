"""Explanations: numbers against independent executions, planted faults named first, causes by their measured numbers."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from float_graphs import RELU, FloatBuilder, data
from onnx import numpy_helper
from onnx_models import imported, model, normal
from onnx_models import node as onnx_node
from openset_support import session

from hwgen.build import layer_sqnr
from hwgen.errors import DataError
from hwgen.explain import explain, explanation_json, render_explanation
from hwgen.explain.measure import inputs_to_measure
from hwgen.explain.text import first_lines, layer_table, short_name
from hwgen.ir import evaluate as float_execution
from hwgen.ir.evaluate import evaluate
from hwgen.ir.types import TensorType
from hwgen.network import QuantizedNetwork
from hwgen.ops.add import Add
from hwgen.ops.base import Window
from hwgen.ops.concat import Concat
from hwgen.ops.golden import golden
from hwgen.ops.max_pool import MaxPool
from hwgen.packing import WeightFormat
from hwgen.quantize import Granularity, QuantizeOptions, RangeMethod, Scheme, quantize_with_report, quantizer
from hwgen.quantize.metrics import sqnr_db
from hwgen.report.collect import to_json

SAME = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
PER_TENSOR = QuantizeOptions(granularity=Granularity.TENSOR)


def network(graph, options=None, count=32, calibration=None):
    calibration = calibration or data(graph, count)
    quantized, report = quantize_with_report(graph, calibration, options or QuantizeOptions())
    return QuantizedNetwork(graph=quantized, records=report.records, float_graph=graph, calibration=calibration, report=report)


def chain():
    b = FloatBuilder(TensorType(8, 8, 3))
    first = b.conv("x", 8, SAME, clamp=RELU)
    second = b.conv(first, 8, SAME, clamp=RELU)
    third = b.node(Add(clamp=RELU), b.conv(second, 8, SAME), first)
    return b.graph(b.conv(third, 5, Window(kernel=(8, 8))))


def scaled_channel(graph, producer, consumer, channel, factor):
    """The same function with one channel between two convolutions larger."""
    graph.nodes[producer].op.weight[channel] *= factor
    graph.nodes[producer].op.bias[channel] *= factor
    graph.nodes[consumer].op.weight[..., channel] /= factor
    return graph


def by_name(found):
    return {each.stage.name: each for each in found.stages}


def test_one_layer_alone_is_what_onnx_runtime_makes_of_it():
    """The witness: ONNX Runtime on the float model with rounded weights and a QuantizeLinear / DequantizeLinear pair in one place."""
    constants = {"w0": normal(6, 3, 3, 3), "b0": normal(6), "w1": normal(4, 6, 1, 1), "b1": normal(4)}
    before = [onnx_node("Conv", ["x", "w0", "b0"], "c0"), onnx_node("Relu", ["c0"], "r0")]
    after = [onnx_node("Conv", ["r", "w1", "b1"], "y")]
    proto = model([*before, onnx_node("Identity", ["r0"], "r"), *after], {"x": ["N", 3, 6, 6]}, constants)
    found = explain(network(imported(proto), PER_TENSOR, calibration={"x": normal(20, 3, 6, 6, seed=2)}))
    x = normal(20, 3, 6, 6, seed=2)
    quantized = found.graph.nodes[0].op
    q = found.graph.values[found.graph.nodes[0].output].quantized
    rounded = (quantized.weight.astype(np.float32) * quantized.weight_scale.reshape(-1, 1, 1, 1)).transpose(0, 3, 1, 2)
    unit = quantized.weight_scale * found.graph.values[found.graph.nodes[0].inputs[0]].quantized.scale
    pair = [onnx_node("QuantizeLinear", ["r0", "s", "z"], "q"), onnx_node("DequantizeLinear", ["q", "s", "z"], "r")]
    scales = {"s": np.float32(q.scale), "z": np.uint8(q.zero_point + 128)}
    reference = session(proto.SerializeToString()).run(None, {"x": x})[0]
    for key, weights, nodes in (
        ("alone_db", True, pair),
        ("weights_db", True, [onnx_node("Identity", ["r0"], "r")]),
        ("values_db", False, pair),
    ):
        changed = {"w0": rounded, "b0": (quantized.bias * unit).astype(np.float32)} if weights else {}
        partial = model([*before, *nodes, *after], {"x": ["N", 3, 6, 6]}, constants | scales | changed)
        result = session(partial.SerializeToString()).run(None, {"x": x})[0]
        assert getattr(found.stages[1], key) == pytest.approx(sqnr_db(reference, result), abs=0.02), key
    assert numpy_helper.to_array(proto.graph.initializer[0]).shape == rounded.shape


def test_everything_up_to_a_layer_is_the_golden_model():
    built = network(chain())
    found = explain(built)
    x = built.calibration
    codes = golden(built.graph, x)
    output = built.graph.outputs[0].value
    total = sqnr_db(evaluate(built.float_graph, x, outside=False)[output], built.graph.values[output].quantized.dequantize(codes[output]))
    last = found.stages[-1]
    assert last.up_to_here_db == pytest.approx(total, abs=1e-6) and last.here_db == pytest.approx(total, abs=1e-6)
    assert found.scores[0].sqnr_db == pytest.approx(total, abs=1e-6)
    for each in found.stages:
        assert each.here_db == pytest.approx(layer_sqnr(built)[each.stage.value], abs=1e-4)


def test_blocks_of_the_batch_change_nothing(monkeypatch):
    built = network(chain())
    whole = explain(built)
    monkeypatch.setattr(float_execution, "BLOCK_BYTES", 1)
    for one, other in zip(explain(built).stages, whole.stages, strict=True):
        for key in ("alone_db", "weights_db", "values_db", "up_to_here_db", "own_db", "here_db", "agreement", "saturated"):
            assert getattr(one, key) == pytest.approx(getattr(other, key), abs=0.02), (key, one.stage.name)
        assert one.observer.counts.sum() == other.observer.counts.sum()


def test_operators_that_copy_codes_add_no_error_and_are_left_out():
    b = FloatBuilder(TensorType(8, 8, 3))
    pooled = b.node(MaxPool(window=Window(kernel=(2, 2), strides=(2, 2))), b.conv("x", 4, SAME))
    graph = b.graph(b.conv(pooled, 5, Window(kernel=(4, 4))))
    assert [each.stage.name for each in explain(network(graph)).stages] == ["image", "conv0", "conv2"]


def test_a_channel_a_thousand_times_larger_is_named_first():
    graph = scaled_channel(chain(), 1, 2, 3, np.float32(1000))
    first = explain(network(graph, PER_TENSOR)).first[0]
    assert first.measure.stage.name == graph.nodes[1].name and first.remedy.name == "channel_scale"
    assert first.remedied_db > first.measure.alone_db + 20
    assert "channel 3 reaches" in first.sentence and "equalize it" in first.sentence


def test_unequal_weights_behind_one_scale_are_told_from_their_numbers():
    graph = chain()
    graph.nodes[1].op.weight[2] *= np.float32(1000)
    graph.nodes[1].op.bias[2] = 0
    b = [replace(node, op=replace(node.op, clamp=(0.0, 4.0))) if index == 1 else node for index, node in enumerate(graph.nodes)]
    first = explain(network(replace(graph, nodes=tuple(b)), PER_TENSOR)).first[0]
    assert first.measure.stage.name == graph.nodes[1].name and first.remedy.name == "channel_spread"
    assert "% of the error from its weights" in first.sentence and "--granularity channel" in first.sentence


def test_what_leaves_the_network_cannot_be_equalized():
    graph = chain()
    graph.nodes[-1].op.weight[2] *= np.float32(100)
    first = next(each for each in explain(network(graph, PER_TENSOR)).first if each.measure.stage.name == graph.nodes[-1].name)
    assert first.remedy is None or first.remedy.name not in ("channel_range", "channel_scale")


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_clipped_range_is_named_first(monkeypatch, layer):
    graph, choose = chain(), quantizer.choose_range
    name = graph.nodes[layer].output

    def clipped(observer, options):
        low, high = choose(observer, options)
        return (low / 6, high / 6) if observer.name == name else (low, high)

    monkeypatch.setattr(quantizer, "choose_range", clipped)
    first = explain(network(graph, QuantizeOptions(ranges=RangeMethod.PERCENTILE))).first[0]
    assert first.measure.stage.name == graph.nodes[layer].name
    assert first.remedy.name == "saturation" and first.measure.saturated > 0.01
    assert "% of its values saturate" in first.sentence


def test_inputs_beyond_what_calibration_saw():
    graph = chain()
    x = {name: 3 * array for name, array in data(graph, 16, seed=5).items()}
    found = explain(network(graph), x)
    assert any(each.saturated > 0 for each in found.stages)
    assert any("more calibration inputs" in advice.sentence for advice in found.first)


def test_a_long_tail_and_codes_that_a_symmetric_range_leaves_unused():
    graph = chain()
    large = FloatBuilder(TensorType(64, 64, 3))
    large = large.graph(large.conv("x", 2, Window(kernel=(2, 2), strides=(2, 2))))
    x = data(large, 128)
    x["image"][0, 0, 0, 0] = 12.0  # one of 1,572,864
    found = explain(network(large, calibration=x))
    assert found.first[0].measure.stage.name == "image" and found.first[0].remedy.name == "long_tail"
    assert "lie beyond" in found.first[0].sentence and "--range" in found.first[0].sentence
    symmetric = explain(network(graph, QuantizeOptions(scheme=Scheme.SYMMETRIC)))
    assert any(advice.remedy and advice.remedy.name == "one_sided" for advice in symmetric.first)


def test_a_range_shared_with_larger_values():
    b = FloatBuilder(TensorType(8, 8, 3))
    joined = b.node(Concat(), b.conv("x", 4, SAME, gain=50.0), b.conv("x", 4, SAME, gain=0.2))
    graph = b.graph(b.conv(joined, 5, Window(kernel=(8, 8))))
    graph.nodes[-1].op.weight[..., :4] *= np.float32(0.002)
    found = explain(network(graph))
    assert found.first[0].measure.stage.name == "conv1"
    assert found.first[0].remedy.name == "shared_range" and "'conv0'" in found.first[0].sentence


def test_bias_that_widened_the_weight_scale():
    graph = chain()
    graph.nodes[1].op.weight[:] *= np.float32(1e-9)
    found = explain(network(graph))
    assert found.report.widened[graph.nodes[1].name] > 0
    content = explanation_json(found)
    assert next(layer for layer in content["layers"] if layer["name"] == graph.nodes[1].name)["widened_channels"] > 0


@pytest.mark.parametrize("kind", [WeightFormat.INT4, WeightFormat.TERNARY])
def test_weights_of_few_bits(kind):
    graph = chain()
    found = explain(network(graph, QuantizeOptions(layer_weights=((graph.nodes[1].name, kind),))))
    assert found.first[0].measure.stage.name == graph.nodes[1].name and found.first[0].remedy.name == "few_bits"
    assert f"its weights are {kind.name.lower()} (" in found.first[0].sentence
    assert found.weights[graph.nodes[1].name].kind is kind and found.weights[graph.nodes[0].name].kind is WeightFormat.INT8


def test_a_network_without_error_has_no_layers_to_look_at():
    b = FloatBuilder(TensorType(4, 4, 3))
    graph = b.graph(b.node(MaxPool(window=Window(kernel=(2, 2))), "x"))
    x = {"image": np.tile(np.arange(-128, 128, dtype=np.float32)[:, None, None, None], (1, 3, 4, 4))}
    found = explain(network(graph, calibration=x))
    assert found.first == () and found.scores[0].sqnr_db == float("inf")
    page = render_explanation(explanation_json(found)).decode()
    assert "Look here first" not in page


def test_labels_give_accuracy():
    built = network(chain())
    labels = evaluate(built.float_graph, built.calibration)["y0"].reshape(32, -1).argmax(1)
    score = explain(built, labels=labels).scores[0]
    assert score.float_accuracy == 1.0 and score.accuracy == score.agreement


def test_a_network_that_came_quantized_has_nothing_to_compare_with():
    built = replace(network(chain()), float_graph=None)
    with pytest.raises(DataError, match=r"^network 'net': must be float to be explained, came quantized; give the float model and calibration data$"):
        explain(built)


def test_how_many_inputs_are_measured():
    graph = chain()
    assert inputs_to_measure(graph, 5) == 5
    assert inputs_to_measure(graph, 100_000) == 128
    assert explain(network(graph), count=3).count == 3


HOSTILE = "</td></style><script>alert('x')</script><img src=x onerror=alert(1)> \" & {{ 7 * 7 }} {% raise %}[/red][bold]\x1b[31m"


def test_names_out_of_a_model_are_harmless():
    content = explanation_json(explain(network(chain(), PER_TENSOR)))
    content["network"] = content["outputs"][0]["name"] = HOSTILE
    content["outputs"].append(content["outputs"][0])
    name = content["first"][0]["layer"]
    content["first"][0]["layer"] = HOSTILE
    next(layer for layer in content["layers"] if layer["name"] == name)["name"] = HOSTILE
    content["first"][0]["sentence"] += HOSTILE
    page = render_explanation(content).decode()
    assert "<script" not in page and "<img" not in page and "{{ 7 * 7 }}" in page
    assert not re.search(r"\b(src|href|@import|url)\s*[=(]", page.replace("onerror", "").replace("img src", "")) and "http" not in page
    assert "\x1b" not in short_name(HOSTILE, 200) and "\\[bold]" in short_name(HOSTILE, 200)
    assert layer_table(content).row_count == len(content["layers"]) and "\\[bold]" in first_lines(content)[0]


def test_the_same_network_gives_the_same_bytes():
    contents = [explanation_json(explain(network(chain()))) for _ in range(2)]
    assert to_json(contents[0]) == to_json(contents[1])
    assert render_explanation(contents[0]) == render_explanation(contents[1])
    assert json.loads(to_json(contents[0])) == contents[0]
