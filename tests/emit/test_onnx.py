"""The ONNX forms in ONNX Runtime: where certified, the QOperator form gives golden's integers, every tensor of them."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from float_graphs import RELU6, FloatBuilder, data, random_float_graph
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from random_graphs import random_graph, with_few_bits

from hwgen.emit.onnx import to_qdq, to_qoperator
from hwgen.errors import UnsupportedError
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.evaluate import from_canonical
from hwgen.ir.types import TensorType
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden, golden_node
from hwgen.ops.max_pool import MaxPool
from hwgen.packing import WeightFormat
from hwgen.quantize import Granularity, QuantizeOptions, RangeMethod, Scheme, certificates, quantize

OPTIONS = [
    QuantizeOptions(),
    QuantizeOptions(granularity=Granularity.TENSOR, ranges=RangeMethod.PERCENTILE, percentile=99.0),
    QuantizeOptions(scheme=Scheme.SYMMETRIC, multiplier_bits=12),
    QuantizeOptions(scheme=Scheme.POWER_OF_TWO, multiplier_bits=16),
    QuantizeOptions(multiplier_bits=8, ranges=RangeMethod.MSE),
    QuantizeOptions(multiplier_bits=24),
]


def run(model, feeds, names):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    have = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(names, feeds)


def differences(graph, x):
    """Codes that differ between golden and ONNX Runtime's QOperator form, by node."""
    model = to_qoperator(graph)
    onnx.checker.check_model(model)
    names = [node.output for node in graph.nodes]
    expected = golden(graph, x, keep=names)
    result = {}
    for name, found in zip(names, run(model, x, names), strict=True):
        outside = graph.values[name].quantized.outside(expected[name]).transpose(0, 3, 1, 2)
        assert found.dtype == outside.dtype
        result[name] = int((found != outside).sum())
    return result


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 100_000), st.sampled_from(OPTIONS))
def test_certified_qoperator_form_equals_golden_in_every_tensor(seed, options):
    graph = random_float_graph(seed)
    quantized = quantize(graph, data(graph, 20, seed), options)
    unproven = {record.layer for record in certificates(quantized) if not record.certified}
    wrong = differences(quantized, data(graph, 16, seed + 1))
    first = next((node.name for node in quantized.nodes if wrong[node.name]), None)
    assert first is None or first in unproven, f"{first} differs though it is certified"


@pytest.mark.parametrize("options", OPTIONS[:4], ids=lambda options: f"{options.scheme.value}-{options.granularity.value}")
def test_nearly_everything_is_certified(options):
    total, proven = 0, 0
    for seed in range(8):
        graph = random_float_graph(seed)
        records = certificates(quantize(graph, data(graph, 20, seed), options))
        total, proven = total + len(records), proven + sum(record.certified for record in records)
    assert proven >= 0.97 * total


@pytest.mark.parametrize("write", [to_qdq, to_qoperator])
@pytest.mark.parametrize("channels_first", [True, False])
def test_same_inputs_and_outputs_as_the_original(write, channels_first):
    b = FloatBuilder(TensorType(5, 4, 3))
    y = b.conv("x", 6, Window(kernel=(3, 3)), clamp=RELU6)
    graph = b.graph(y, channels_first=channels_first)
    quantized = quantize(graph, data(graph, 9))
    model = write(quantized)
    onnx.checker.check_model(model)
    image, result = model.graph.input[0], model.graph.output[0]
    assert (image.name, result.name) == ("image", "y0")
    assert image.type.tensor_type.shape.dim[0].dim_param == "N"
    assert [d.dim_value for d in image.type.tensor_type.shape.dim][1:] == ([3, 5, 4] if channels_first else [5, 4, 3])
    x = data(graph, 3, 5)
    expected = quantized.values[y].quantized.dequantize(golden(quantized, x)[y])
    np.testing.assert_array_equal(run(model, x, ["y0"])[0], from_canonical(quantized.outputs[0], expected))


def codes_inside(model, graph, x):
    """int8 (N, H, W, C) of every value, from ONNX Runtime on the QDQ form, and the real outputs by value."""
    outputs = [output.name for output in graph.outputs]
    found = run(model, x, [*(f"{value}.quantized" for value in graph.values), *outputs])
    codes = {}
    for value, outside in zip(graph.values, found, strict=False):
        canonical = outside.transpose(0, 2, 3, 1) if outside.ndim == 4 else outside.reshape(len(outside), 1, 1, -1)
        codes[value] = (canonical.astype(np.int16) - graph.values[value].quantized.outside_offset).astype(np.int8)
    return codes, found[-len(outputs) :]


def compare_each_operator(model, quantized, x):
    """On the codes that ONNX Runtime gives it, no operator is further than one code from golden, and nearly all are equal."""
    codes, reals = codes_inside(model, quantized, x)
    for entry in quantized.inputs:
        np.testing.assert_array_equal(codes[entry.value], golden(quantized, x, keep=[entry.value])[entry.value])
    for node in quantized.nodes:
        found = golden_node(node, quantized, *(codes[value] for value in node.inputs))
        difference = np.abs(found.astype(int) - codes[node.output])
        assert difference.max() <= 1, node.name
        assert isinstance(node.op, AveragePool) or (difference > 0).sum() <= 1 + 0.001 * difference.size, node.name
    for output, real in zip(quantized.outputs, reals, strict=True):
        expected = quantized.values[output.value].quantized.dequantize(codes[output.value])
        np.testing.assert_array_equal(real, from_canonical(output, expected))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 100_000))
@example(1490)  # one code of a value is twelve of the sum that reads it, whose range a clamp has made small
def test_each_operator_of_the_qdq_form_is_within_one_code_of_golden(seed):
    """On the codes that ONNX Runtime gives it. A difference travels on, and grows where ranges shrink: outputs of whole networks have no such
    bound. Averages of an even number of codes are often ties, which the float operator rounds by the errors of its sum; all else is equal
    but for channels without a certificate."""
    graph = random_float_graph(seed)
    quantized = quantize(graph, data(graph, 20, seed))
    model = to_qdq(quantized)
    onnx.checker.check_model(model)
    compare_each_operator(model, quantized, data(graph, 8, seed))


def stored_types(model):
    """Of the weights."""
    return {proto.data_type for proto in model.graph.initializer if proto.name.endswith(".weight")}


@pytest.mark.parametrize("kind", [WeightFormat.INT4, WeightFormat.TERNARY, WeightFormat.BINARY])
@pytest.mark.parametrize("seed", range(4))
def test_weights_of_few_bits_are_int4_constants(kind, seed):
    """They are read back as they were, and ONNX Runtime computes with them as with int8 codes: within one code of golden."""
    graph = random_float_graph(seed)
    quantized = quantize(graph, data(graph, 12, seed), QuantizeOptions(weights=kind))
    model = to_qdq(quantized)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 21)] and stored_types(model) == {TensorProto.INT4}
    again = import_quantized_model(model, "m")
    for first, second in zip(quantized.nodes, again.nodes, strict=True):
        if isinstance(first.op, Conv):
            np.testing.assert_array_equal(first.op.weight, second.op.weight)
    x = data(graph, 8, seed)
    codes = golden(quantized, x)
    for value, array in golden(again, x).items():
        np.testing.assert_array_equal(array, codes[value])
    compare_each_operator(model, quantized, x)


def with_activations(graph, unsigned):
    """The same network with activations that the outside sees as uint8, or as int8."""
    values = {name: replace(value, quantization=replace(value.quantized, unsigned=unsigned)) for name, value in graph.values.items()}
    return replace(graph, values=values)


@pytest.mark.parametrize("unsigned", [True, False])
def test_onnx_runtime_loads_weights_of_few_bits_beside_activations_of_either_type(unsigned):
    """With its graph optimizations. Of int8 activations in opset 21 it makes operators that it then refuses: there weights stay int8."""
    versions = set()
    for seed in range(40):
        model = to_qdq(with_activations(with_few_bits(random_graph(seed), seed), unsigned))
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        versions.add(model.opset_import[0].version)
    assert versions == ({13, 21} if unsigned else {13})


def test_only_what_gains_by_it_asks_for_a_newer_opset():
    """Weights of 8 bits, one weight per channel, and the form that has no 4-bit operators, stay as they were."""
    b = FloatBuilder(TensorType(5, 5, 4))
    graph = b.graph(b.conv("x", 6, Window(kernel=(3, 3))))
    wide, few = (quantize(graph, data(graph, 9), QuantizeOptions(weights=kind)) for kind in (WeightFormat.INT8, WeightFormat.INT4))
    copied = Conv(weight=np.ones((6, 1, 1, 1), np.int8), bias=np.zeros(6, np.int32), window=Window(kernel=(1, 1)), group=6, weight_scale=np.ones(6, np.float32))
    (node,) = wide.nodes
    q = wide.values[node.output].quantized
    copies = replace(node, name="copies", op=copied, inputs=(node.output,), output="copied")
    values = {**wide.values, "copied": replace(wide.values[node.output], name="copied", quantization=q)}
    outputs = tuple(replace(output, value="copied") for output in wide.outputs)
    for model in (to_qdq(wide), to_qoperator(few), to_qdq(replace(wide, nodes=(node, copies), values=values, outputs=outputs))):
        assert (model.opset_import[0].version, model.ir_version, stored_types(model)) == (13, 8, {TensorProto.INT8})
    (size, small) = (next(len(proto.raw_data) for proto in to_qdq(net).graph.initializer if proto.name.endswith(".weight")) for net in (wide, few))
    assert small == size // 2 and to_qdq(few).ir_version == 10


@pytest.mark.parametrize("write", [to_qdq, to_qoperator])
def test_what_onnx_cannot_say_is_refused_all_at_once(write):
    b = FloatBuilder(TensorType(6, 6, 2))
    first = b.node(MaxPool(window=Window(kernel=(2, 2), dilations=(3, 1), pads=(2, 0, 0, 0))), "x")
    second = b.node(AveragePool(window=Window(kernel=(2, 2), dilations=(2, 1))), first)
    graph = b.graph(second)
    quantized = quantize(graph, data(graph, 4))
    with pytest.raises(UnsupportedError) as caught:
        write(quantized)
    assert [(problem.node, problem.reason) for problem in caught.value.problems] == [
        (first, "kernel (2, 2) with pads (2, 0, 0, 0) cannot be written in opset 13"),
        (second, "kernel (2, 2) with pads (0, 0, 0, 0) and dilations (2, 1) cannot be written in opset 13"),
    ]


ALONE = (0, 0, 0, 0)
POOLS = {  # kernel, strides, pads, counted pads; then as written: pads of a Pad before it, its own pads, ceil_mode
    "plain": ((3, 3), (2, 2), (1, 1, 1, 1), (0, 0, 0, 0), ALONE, [1, 1, 1, 1], 0),
    "counted": ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1, 1, 1), ALONE, [1, 1, 1, 1], 0),
    "ceil": ((3, 3), (2, 2), (0, 0, 1, 0), (0, 0, 0, 0), ALONE, [0, 0, 1, 0], 0),
    "ceil_beyond_counted": ((3, 3), (2, 2), (1, 0, 2, 0), (1, 0, 1, 0), (1, 0, 1, 0), [0, 0, 1, 0], 0),
    "counted_behind_not_counted": ((3, 3), (1, 1), (2, 1, 1, 2), (1, 0, 1, 1), (1, 0, 1, 1), [1, 1, 0, 1], 0),
    "as_large_as_the_kernel": ((2, 2), (3, 3), (1, 0, 2, 0), (0, 0, 0, 0), ALONE, [1, 0, 1, 0], 0),
    "unreached": ((2, 1), (1, 3), (0, 0, 0, 1), (0, 0, 0, 0), ALONE, [0, 0, 0, 0], 0),
}


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("operator", [AveragePool, MaxPool])
@pytest.mark.parametrize("write", [to_qdq, to_qoperator])
def test_average_pooling_with_count_include_pad_and_ceil_mode(case, operator, write):
    """Import: average pooling with count_include_pad, ceil_mode. Whatever padding a pooling ended up with, it is written and read again."""
    kernel, strides, pads, counted, before, own, ceil = POOLS[case]
    if operator is MaxPool and any(counted):
        return
    b = FloatBuilder(TensorType(6, 5, 3))
    counting = {"counted_pads": counted} if operator is AveragePool else {}
    name = b.node(operator(window=Window(kernel=kernel, strides=strides, pads=pads), **counting), "x")
    graph = b.graph(name)
    quantized = quantize(graph, data(graph, 9))
    x = data(graph, 3, 5)
    codes = golden(quantized, x)[name]
    model = write(quantized)
    onnx.checker.check_model(model)
    pool = next(node for node in model.graph.node if node.op_type.endswith("Pool"))
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in pool.attribute}
    assert (attributes["pads"], attributes.get("ceil_mode", 0)) == (own, ceil)
    assert [node.op_type for node in model.graph.node].count("Pad") == (before != ALONE)
    expected = from_canonical(quantized.outputs[0], quantized.values[name].quantized.dequantize(codes))
    np.testing.assert_allclose(run(model, x, ["y0"])[0], expected, atol=1e-6)
    again = import_quantized_model(model, "net")
    np.testing.assert_array_equal(golden(again, x)[again.outputs[0].value], codes)
    assert len(again.nodes) == 1


@pytest.mark.parametrize("write", [to_qdq, to_qoperator])
def test_padding_as_large_as_the_kernel_of_a_dilated_max_pool_is_written_as_ceil_mode(write):
    b = FloatBuilder(TensorType(7, 5, 3))
    window = Window(kernel=(2, 2), strides=(3, 3), dilations=(3, 1), pads=(1, 0, 2, 0))
    graph = b.graph(b.node(MaxPool(window=window), "x"))
    quantized = quantize(graph, data(graph, 9))
    model = write(quantized)
    pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in pool.attribute}
    assert (attributes["pads"], attributes["ceil_mode"]) == ([1, 0, 1, 0], 1)
    again = import_quantized_model(model, "net")
    assert again.nodes[0].op == quantized.nodes[0].op
    x = data(graph, 3, 5)
    expected = from_canonical(quantized.outputs[0], quantized.values["maxpool0"].quantized.dequantize(golden(quantized, x)["maxpool0"]))
    np.testing.assert_allclose(run(model, x, ["y0"])[0], expected, atol=1e-6)


@pytest.mark.parametrize("write", [to_qdq, to_qoperator])
@pytest.mark.parametrize("low", [0.0, -np.inf, (-0.5, -0.25, 0.0, -1.0, -2.0, 0.25)])
def test_a_clamp_per_channel_is_written_run_and_read_again(write, low):
    b = FloatBuilder(TensorType(6, 5, 3))
    clamp = (low, (0.5, 0.75, 0.125, 1.0, 2.0, 0.25))
    middle = b.conv("x", 6, Window(kernel=(3, 3)), clamp=clamp)
    graph = b.graph(b.conv(middle, 4, Window(kernel=(1, 1))))
    quantized = quantize(graph, data(graph, 9))
    x = data(graph, 5, 5)
    codes = golden(quantized, x, keep=quantized.values)
    greatest = quantized.values[middle].quantized.dequantize(codes[middle]).max(axis=(0, 1, 2))
    np.testing.assert_allclose(greatest, clamp[1], atol=quantized.values[middle].quantized.scale)  # it does limit, channel by channel
    model = write(quantized)
    onnx.checker.check_model(model)
    again = import_quantized_model(model, "net")
    assert len(again.nodes) == 2
    np.testing.assert_array_equal(golden(again, x)[again.outputs[0].value], codes[graph.outputs[0].value])
    if write is to_qoperator:
        assert not any(differences(quantized, x).values())


def test_output_is_deterministic_and_holds_no_machine_names():
    graph = random_float_graph(3)
    quantized = quantize(graph, data(graph, 9))
    first, second = (to_qoperator(quantized).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert {prop.key: prop.value for prop in to_qdq(quantized).metadata_props} == {
        "hwgen.multiplier_bits": "16",
        "hwgen.rounding": "half_even",
        "hwgen.renamed": json.dumps({"image": "x"} | {output.name: output.value for output in graph.outputs}),
    }
