"""Quantized models read back: hwgen's own forms give the same integers; other forms theirs, or one clear error."""

import random
from dataclasses import replace

import numpy as np
import onnx
import pytest
from float_graphs import FloatBuilder, data, random_float_graph
from foreign_models import BIAS, WEIGHT, Foreign, constant, conv_model
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from openset_support import session
from random_graphs import random_graph

from hwgen.arith import Rounding
from hwgen.emit.onnx import to_qdq, to_qoperator
from hwgen.errors import HwgenError, ModelError, QuantizationError, UnsupportedError
from hwgen.frontend.onnx import check_model
from hwgen.frontend.qdq import import_quantized_model, load_quantized_graph
from hwgen.ir.evaluate import from_canonical, to_canonical
from hwgen.ir.types import TensorType
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden, golden_codes
from hwgen.ops.pad import Pad
from hwgen.quantize import QuantizeOptions, Scheme, certificates, quantize

FORMS = [to_qdq, to_qoperator]
RNG = np.random.default_rng(8)


def codes_for(graph, count=3):
    rng = np.random.default_rng(0)
    return {entry.value: rng.integers(-128, 128, (count, *graph.values[entry.value].type.shape)).astype(np.int8) for entry in graph.inputs}


def assert_same_integers(graph, again):
    assert set(again.values) == set(graph.values)
    assert again.arithmetic == graph.arithmetic
    for name, value in graph.values.items():
        assert again.values[name] == value
    codes = codes_for(graph)
    first, second = (golden_codes(each, codes, keep=each.values) for each in (graph, again))
    for name in first:
        np.testing.assert_array_equal(second[name], first[name], err_msg=name)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100_000), st.sampled_from(FORMS), st.sampled_from(Scheme))
@example(687, to_qdq, Scheme.ASYMMETRIC)  # two paddings in a row
def test_what_hwgen_wrote_comes_back_the_same(seed, form, scheme):
    graph = random_float_graph(seed)
    quantized = quantize(graph, data(graph, 10, seed), QuantizeOptions(scheme=scheme, multiplier_bits=16))
    for node in graph.nodes:  # a padding that rounds to zero is fused when it is read: another structure of the same meaning
        assume(not isinstance(node.op, Pad) or not node.op.value or abs(node.op.value) > quantized.values[node.output].quantized.scale)
    again = import_quantized_model(form(quantized), "net")
    assert_same_integers(quantized, again)
    for entry, other in zip(quantized.inputs, again.inputs, strict=True):
        assert (other.name, other.shape, other.dtype, other.value) == (entry.name, entry.shape, entry.dtype, entry.value)
        array = data(graph, 2)[entry.name]
        np.testing.assert_array_equal(to_canonical(other, array), to_canonical(entry, array))
    for output, other in zip(quantized.outputs, again.outputs, strict=True):
        assert (other.name, other.shape, other.value) == (output.name, output.shape, output.value)
        array = np.arange(2 * graph.values[output.value].type.elements, dtype=np.float32).reshape(2, *graph.values[output.value].type.shape)
        np.testing.assert_array_equal(from_canonical(other, array), from_canonical(output, array))
    assert [(node.name, node.inputs, type(node.op)) for node in again.nodes] == [(node.name, node.inputs, type(node.op)) for node in quantized.nodes]
    for node, other in zip(quantized.nodes, again.nodes, strict=True):
        if form is to_qdq and hasattr(node.op, "clamp"):
            assert other.op.clamp == node.op.clamp
        if isinstance(node.op, Conv):
            for field in ("weight", "bias", "weight_scale"):
                ours, theirs = getattr(node.op, field), getattr(other.op, field)
                assert ours.dtype == theirs.dtype
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("form", FORMS)
def test_arithmetic_is_noted_in_the_file(form, rounding, tmp_path):
    graph = random_float_graph(1)
    quantized = quantize(graph, data(graph, 10), QuantizeOptions(multiplier_bits=12, rounding=rounding))
    path = tmp_path / "q.onnx"
    onnx.save(form(quantized), path)
    again = load_quantized_graph(path)
    assert again.name == "q" and again.arithmetic == quantized.arithmetic
    assert_same_integers(quantized, again)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("padding", [0, 1])
def test_a_rounding_between_two_convolutions_comes_back(form, padding):
    """A scale per channel between quantized values is a layer of its own: folding it into a neighbour would leave out a rounding."""
    b = FloatBuilder(TensorType(6, 6, 3))
    trunk = b.conv("x", 5, Window(kernel=(3, 3)), clamp=(0.0, np.inf))
    trunk = b.conv(trunk, 5, Window(kernel=(1, 1)), group=5)
    graph = b.graph(b.conv(trunk, 4, Window(kernel=(3, 3), pads=(padding,) * 4)))
    quantized = quantize(graph, data(graph, 10))
    assert_same_integers(quantized, import_quantized_model(form(quantized), "net"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("copy", ["AveragePool", "Conv"])
def test_a_copy_that_changes_the_scale_comes_back(form, copy):
    """On real values it does nothing, on codes it rounds: a pooling over one cell, a convolution by codes that are all one."""
    b = FloatBuilder(TensorType(4, 4, 3))
    trunk = b.conv("x", 3, Window(kernel=(1, 1)))
    one = Window(kernel=(1, 1))
    middle = b.node(AveragePool(window=one), trunk) if copy == "AveragePool" else b.conv(trunk, 3, one, group=3)
    graph = b.graph(b.conv(middle, 2, one))
    quantized = quantize(graph, data(graph, 10))
    coarse = replace(quantized.values[middle], quantization=replace(quantized.values[trunk].quantized, scale=quantized.values[trunk].quantized.scale * 2))
    unit = {"weight": np.ones((3, 1, 1, 1), np.int8), "bias": np.zeros(3, np.int32), "weight_scale": np.full(3, 0.5, np.float32)}
    nodes = tuple(replace(n, op=replace(n.op, **unit)) if n.output == middle and copy == "Conv" else n for n in quantized.nodes)
    quantized = replace(quantized, nodes=nodes, values={**quantized.values, middle: coarse})
    assert_same_integers(quantized, import_quantized_model(form(quantized), "net"))


def test_extreme_quantized_networks_come_back_the_same():
    """Scales and biases that no quantizer chose: int32 biases beyond 2**24, residual scales above 128, dead channels."""
    done = 0
    for seed in range(25):
        graph = random_graph(seed, nodes=3)
        try:
            model = to_qdq(graph)
        except UnsupportedError:
            continue
        for index, node in enumerate(graph.nodes):
            if isinstance(node.op, Conv):
                graph.nodes[index].op.bias[:1] = 2**30 + 12345
        model = to_qdq(graph)
        again = import_quantized_model(model, "net")
        assert again.inputs[0].value == graph.inputs[0].value
        codes = codes_for(graph, 1)
        first = golden_codes(graph, codes, keep=[node.output for node in graph.nodes])
        second = golden_codes(again, codes, keep=again.values)
        compared = [name for name in first if name in second]
        for name in compared:
            np.testing.assert_array_equal(second[name], first[name])
        done += bool(compared)
    assert done > 12


# Models of other tools, built by hand


def test_per_tensor_and_per_channel_weights():
    graph = import_quantized_model(conv_model().model(), "m")
    (node,) = graph.nodes
    np.testing.assert_array_equal(node.op.weight, WEIGHT.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(node.op.bias, BIAS)
    np.testing.assert_array_equal(node.op.weight_scale, np.full(4, 0.01, np.float32))
    assert graph.values["x"].quantized.unsigned and graph.values["x"].quantized.zero_point == 0
    scales = np.array([0.01, 0.02, 0.03, 0.04], np.float32)
    (node,) = import_quantized_model(conv_model(weight_scale=scales, axis=0).model(), "m").nodes
    np.testing.assert_array_equal(node.op.weight_scale, scales)


def test_uint8_weights_whose_zero_point_is_128_are_int8():
    stored = (WEIGHT.astype(np.int16) + 128).astype(np.uint8)
    (node,) = import_quantized_model(conv_model(weight=stored, weight_zero=np.array(128, np.uint8)).model(), "m").nodes
    np.testing.assert_array_equal(node.op.weight, WEIGHT.transpose(0, 2, 3, 1))


def test_per_channel_zero_points_of_weights():
    """Arithmetic: per-channel zero points in ConvInteger. In DequantizeLinear they are subtracted channel by channel; ConvInteger is refused."""
    zero = np.array([3, -5, 0, 7], np.int8)
    codes = np.clip(WEIGHT, -100, 100)
    stored = (codes + zero.reshape(-1, 1, 1, 1)).astype(np.int8)
    (node,) = import_quantized_model(conv_model(weight=stored, weight_scale=np.full(4, 0.01), weight_zero=zero, axis=0).model(), "m").nodes
    np.testing.assert_array_equal(node.op.weight, codes.transpose(0, 2, 3, 1))
    f = Foreign(["N", 2, 6, 6])
    f.node("QuantizeLinear", ["x", *f.pair("a", 0.1)], "q")
    f.node("ConvInteger", ["q", f.const("w", stored), "a_z", f.const("z", zero)], "y")
    with pytest.raises(UnsupportedError, match="ConvInteger 'ConvInteger_y': belongs to dynamic quantization"):
        import_quantized_model(f.model(kind=TensorProto.INT32), "m")


@pytest.mark.parametrize("zero", [np.array(3, np.uint8), np.array([0, 255, 3, 140], np.uint8)])
def test_weights_of_nine_bits(zero):
    """The codes less their zero points, as written; and as hwgen writes them again."""
    stored = (WEIGHT.astype(np.int16) + 128).astype(np.uint8)
    model = conv_model(weight=stored, weight_zero=zero, weight_scale=np.full(zero.size, 0.01) if zero.ndim else 0.01, axis=0).model()
    graph = import_quantized_model(model, "m")
    expected = stored.astype(int) - zero.astype(int).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(graph.nodes[0].op.weight, expected.transpose(0, 2, 3, 1))
    assert_same_integers(graph, import_quantized_model(to_qdq(graph), "m"))
    x = (RNG.random((3, 2, 6, 6)) * 12 - 6).astype(np.float32)
    codes = golden(graph, {"x": x}, keep=graph.values)
    (y,) = session(model.SerializeToString()).run(None, {"x": x})
    value = graph.outputs[0].value
    ours = from_canonical(graph.outputs[0], graph.values[value].quantized.dequantize(codes[value]))
    assert np.abs(ours - y).max() <= graph.values[value].quantized.scale * 1.001 and (ours == y).mean() > 0.99
    if zero.ndim:
        with pytest.raises(UnsupportedError, match="QLinearConv takes one weight zero point for all channels"):
            to_qoperator(graph)
    else:
        assert_same_integers(graph, import_quantized_model(to_qoperator(graph), "m"))


def test_integer_input_and_output_of_a_converted_model():
    """As tf2onnx writes TFLite models: int8 outside, channels-last, Transpose before the DequantizeLinear, MatMul and Add."""
    f = Foreign(["N", 4, 4, 2], TensorProto.INT8)
    pair = f.pair("in", 0.5, -10, np.int8)
    f.node("Transpose", ["x"], "t", perm=[0, 3, 1, 2])
    f.node("DequantizeLinear", ["t", *pair], "t_dq")
    f.node("Relu", [f.node("Conv", ["t_dq", f.weight("w", WEIGHT, 0.01)], "c", kernel_shape=[3, 3])], "r")
    f.node("Reshape", [f.qdq("r", 0.1, -128, np.int8), f.const("shape", np.array([-1, 16]))], "flat")
    matrix = RNG.integers(-127, 128, (16, 3)).astype(np.int8)
    f.node("MatMul", ["flat", f.weight("m", matrix, 0.02)], "p")
    f.node("Add", ["p", f.weight("b", BIAS[:3], np.float32(0.1) * np.float32(0.02))], "s")
    f.node("QuantizeLinear", ["s", *f.pair("out", 0.3, 5, np.int8)], "y")
    graph = import_quantized_model(f.model(kind=TensorProto.INT8), "m")
    conv, dense = graph.nodes
    assert graph.inputs[0].dtype == "int8"
    np.testing.assert_array_equal(dense.op.bias, BIAS[:3])
    assert dense.op.weight.shape == (3, 2, 2, 4) and conv.op.clamp == (0.0, np.inf)
    x = RNG.integers(-128, 128, (5, 4, 4, 2)).astype(np.int8)
    codes = golden(graph, {"x": x}, keep=graph.values)
    np.testing.assert_array_equal(codes["x"], x)


def test_all_qdq_on_some_tensors_only_is_refused_by_node():
    f = conv_model()
    f.node("Conv", ["c_dq", f.weight("v", RNG.integers(-9, 9, (4, 4, 1, 1)).astype(np.int8), 0.01)], "bare")
    f.node("Relu", ["bare"], "last")
    with pytest.raises(UnsupportedError) as caught:
        import_quantized_model(f.model("last"), "m")
    assert [str(problem) for problem in caught.value.problems] == [
        "Conv 'Relu_last': its result must be quantized, but is read as real values; quantize the whole model, or give the float model and calibration data"
    ]


@pytest.mark.parametrize("scale", [0.0, -0.1, np.inf, 1e-42])
def test_scale_zero_negative_denormal_is_refused(scale):
    with pytest.raises(QuantizationError, match=r"value 'c': the scale must be a positive normal float32, not .*; quantize again"):
        import_quantized_model(conv_model(output_scale=scale).model(), "m")
    with pytest.raises((QuantizationError, UnsupportedError), match=r"the scale must be a positive normal float32, not .*; quantize again"):
        import_quantized_model(conv_model(weight_scale=scale).model(), "m")


def test_scale_nan_is_refused():
    with pytest.raises(ModelError, match="NaN"):
        import_quantized_model(conv_model(output_scale=np.nan).model(), "m")


def test_activations_per_channel_or_of_16_bits_are_refused():
    f = Foreign(["N", 2, 6, 6])
    f.node("QuantizeLinear", ["x", f.const("s", np.ones(2, np.float32)), f.const("z", np.zeros(2, np.uint8))], "q", axis=1)
    with pytest.raises(UnsupportedError, match="activations must have one scale and one zero point, not one per channel"):
        import_quantized_model(f.model("q"), "m")
    f = Foreign(["N", 2, 6, 6])
    f.qdq("x", 0.1, 0, np.uint16)
    with pytest.raises(UnsupportedError, match="activations must be uint8 or int8, not uint16"):
        import_quantized_model(f.model("x_dq", opset=21), "m")


def test_reading_with_another_scale_than_written_is_refused():
    f = Foreign(["N", 2, 6, 6])
    f.node("QuantizeLinear", ["x", *f.pair("a", 0.1)], "q")
    f.node("DequantizeLinear", ["q", *f.pair("b", 0.2)], "y")
    with pytest.raises(UnsupportedError, match="'q' is read with scale 0.200000003 and zero point 0, but was written with 0.100000001 and 0"):
        import_quantized_model(f.model(), "m")


def test_a_tensor_quantized_twice_is_refused():
    f = Foreign(["N", 2, 6, 6])
    f.node("QuantizeLinear", ["x", *f.pair("a", 0.1)], "q")
    f.node("QuantizeLinear", ["x", *f.pair("b", 0.2)], "y")
    with pytest.raises(UnsupportedError, match="'x' is quantized twice, with scales 0.100000001 and 0.200000003"):
        import_quantized_model(f.model(), "m")


def test_missing_operands_and_outputs_are_refused():
    f = Foreign(["N", 2, 6, 6])
    f.node("QuantizeLinear", ["x", *f.pair("a", 0.1)], "q")
    f.node("QLinearAdd", ["q", "a_s", "a_z"], "y", domain="com.microsoft")
    with pytest.raises(UnsupportedError, match="QLinearAdd 'QLinearAdd_y': must have input 3"):
        import_quantized_model(f.model(), "m")
    f.nodes[-1].ClearField("output")
    with pytest.raises(UnsupportedError, match="QLinearAdd 'QLinearAdd_y': must have an output"):
        import_quantized_model(f.model(), "m")


def test_zero_points_that_do_not_fit_the_scales_are_refused():
    with pytest.raises(UnsupportedError, match="the zero points of 'w' must be one or as many as the scales, 1, not 4"):
        import_quantized_model(conv_model(weight_zero=np.ones(4, np.int8)).model(), "m")


def test_a_random_edit_of_a_model_ends_in_a_graph_or_a_clear_error():
    """Operands exchanged and dropped, arrays of other types and shapes, operators renamed and removed."""
    choose = random.Random(5)
    graph = random_float_graph(11)
    quantized = quantize(graph, data(graph, 5))
    ended = set()
    for trial in range(120):
        model = FORMS[trial % 2](quantized)
        nodes, arrays = model.graph.node, model.graph.initializer
        for _ in range(2):
            node, array = choose.choice(nodes), choose.choice(arrays)
            match choose.randrange(4):
                case 0:
                    node.input[choose.randrange(len(node.input))] = choose.choice([array.name, choose.choice(nodes).output[0], ""])
                case 1:
                    content = numpy_helper.to_array(array)
                    changed = choose.choice([np.zeros_like(content), content.reshape(-1), content.astype(np.float32), content.reshape(-1)[:0]])
                    array.CopyFrom(constant(array.name, changed))
                case 2:
                    node.op_type = choose.choice(nodes).op_type
                case 3:
                    nodes.remove(node)
        try:
            check_model(model, "m")
            import_quantized_model(model, "m")
            ended.add("graph")
        except HwgenError as error:
            ended.add(type(error).__name__)
    assert ended >= {"graph", "ModelError", "UnsupportedError"}


def test_every_offending_node_is_named_once_and_none_behind_it():
    f = Foreign(["N", 2, 6, 6])
    f.node("QuantizeLinear", ["x", *f.pair("a", 0.1)], "q")
    f.node("AveragePool", ["q"], "bad1", kernel_shape=[2, 2])
    f.node("DequantizeLinear", ["bad1", *f.pair("b", 0.1)], "behind")
    f.node("GlobalAveragePool", ["q"], "bad2")
    f.node("Add", ["behind", "bad2"], "y")
    with pytest.raises(UnsupportedError) as caught:
        import_quantized_model(f.model(), "m")
    assert [problem.node for problem in caught.value.problems] == ["AveragePool_bad1", "GlobalAveragePool_bad2"]


def test_operators_on_codes_are_refused_where_they_mean_something_else():
    f = Foreign(["N", 2, 6, 6])
    f.node("QuantizeLinear", ["x", *f.pair("a", 0.1)], "q")
    f.node("AveragePool", ["q"], "y", kernel_shape=[2, 2])
    with pytest.raises(UnsupportedError, match="AveragePool 'AveragePool_y': must read real values, not codes"):
        import_quantized_model(f.model(), "m")


def test_scales_along_the_wrong_axis_are_refused():
    f = Foreign(["N", 4])
    f.node("MatMul", [f.qdq("x", 0.1), f.weight("w", RNG.integers(-9, 9, (4, 4)).astype(np.int8), np.full(4, 0.1) + np.arange(4), axis=0)], "m")
    f.qdq("m", 0.3)
    with pytest.raises(UnsupportedError, match=r"its weight scales must be one per output channel \(axis 1\), not along axis 0"):
        import_quantized_model(f.model("m_dq"), "m")


@pytest.mark.parametrize("scale", [0.1, 0.2])
def test_a_quantization_between_fused_operators_is_kept(scale):
    """Relu after a quantized convolution: with the same scale it only limits codes, with another it rounds again."""
    f = conv_model(output_zero=0)
    f.node("Relu", ["c_dq"], "r")
    f.node("Identity", [f.qdq("r", scale)], "z")
    graph = import_quantized_model(f.model("z"), "m")
    assert [type(node.op) for node in graph.nodes] == [Conv] * (1 if scale == 0.1 else 2)
    assert graph.nodes[-1].op.clamp == (0.0, np.inf)


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
def test_a_shift_or_scale_of_a_quantized_result_is_a_layer_of_its_own(operator, quantized):
    """It rounds between two quantizations. Equal to ONNX Runtime where the certificate says so, at most one code away elsewhere."""
    f = conv_model()
    codes = np.array([-100, 3, 55, 127], np.int8).reshape(1, 4, 1, 1)
    operand = f.weight("k", codes, 0.0371103) if quantized else f.const("k", codes.astype(np.float32) * np.float32(0.0371103))
    f.node(operator, ["c_dq", operand], "r")
    f.node("Identity", [f.qdq("r", 0.0713707, 99)], "z")
    model = f.model("z")
    graph = import_quantized_model(model, "m")
    assert_same_integers(graph, import_quantized_model(to_qdq(graph), "m"))
    x = (RNG.random((40, 2, 6, 6)) * 12 - 6).astype(np.float32)
    value, before = (graph.values[node.output] for node in reversed(graph.nodes))
    codes = golden(graph, {"x": x}, keep=graph.values)
    (z,) = session(model.SerializeToString()).run(None, {"x": x})
    theirs = np.rint(z / np.float32(0.0713707)).astype(int) + 99 - 128
    difference = np.abs(codes[value.name].transpose(0, 3, 1, 2) - theirs)
    (c,) = session(f.model("c_dq").SerializeToString()).run(None, {"x": x})
    same = codes[before.name].transpose(0, 3, 1, 2) == np.rint(c / np.float32(0.1)).astype(int) + 10 - 128
    assert same.mean() > 0.99 and difference[same].max() <= 1
    for record in certificates(graph):
        if record.layer == graph.nodes[1].name and record.certified:
            assert not difference[:, record.channel][same[:, record.channel]].any()


def test_an_integer_average_that_counts_more_than_onnx_says_is_refused():
    """ONNX Runtime's QLinearAveragePool divides by cells that only ceil_mode adds, its AveragePool does not."""
    f = Foreign(["N", 2, 6, 6])
    pair = f.pair("a", 0.1)
    q = f.node("QuantizeLinear", ["x", *pair], "q")
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1}
    p = f.node("QLinearAveragePool", [q, *pair, *pair], "p", domain="com.microsoft", **window)
    f.node("DequantizeLinear", [p, *pair], "y")
    with pytest.raises(UnsupportedError, match="attributes ceil_mode and count_include_pad must not both be 1"):
        import_quantized_model(f.model(), "m")


def test_scales_that_do_not_fit_the_channels_are_refused():
    with pytest.raises(UnsupportedError, match=r"the 3 scales of 'w' must be one for each of its channels, shape \[4, 2, 3, 3\], axis 0"):
        import_quantized_model(conv_model(weight_scale=np.full(3, 0.1), axis=0).model(), "m")


def test_a_quantized_constant_where_none_belongs_is_refused():
    f = Foreign(["N", 2, 6, 6])
    f.node("Pow", [f.qdq("x", 0.1), f.weight("w", np.full((2, 1, 1), 5, np.int8), 0.1)], "y")
    with pytest.raises(UnsupportedError, match="Pow 'Pow_y': must not read the quantized constant 'w_dq'"):
        import_quantized_model(f.model(), "m")


def test_float_weights_between_quantized_values_are_refused():
    f = Foreign(["N", 2, 6, 6])
    f.node("Conv", [f.qdq("x", 0.1), f.const("w", WEIGHT.astype(np.float32))], "c", kernel_shape=[3, 3])
    f.qdq("c", 0.1)
    with pytest.raises(UnsupportedError, match="its weights must be one quantized constant"):
        import_quantized_model(f.model("c_dq"), "m")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hwgen.multiplier_bits", "17", "metadata hwgen.multiplier_bits: must be one of 0, 8, 10, 12, 16, 24, not '17'"),
        ("hwgen.rounding", "up", "metadata hwgen.rounding: must be half_even or half_up, not 'up'"),
        ("hwgen.renamed", "{", "metadata hwgen.renamed: must be JSON, not '{'"),
    ],
)
def test_malformed_metadata_is_refused(key, value, message):
    model = conv_model().model()
    helper.set_model_props(model, {key: value})
    with pytest.raises(ModelError) as caught:
        import_quantized_model(model, "m")
    assert str(caught.value) == message


@pytest.mark.parametrize("noted", ['["c"]', '{"c": 3}', '{"nothing": "z"}', '{"c": "x"}'])
def test_names_in_metadata_never_clash(noted):
    model = conv_model().model()
    helper.set_model_props(model, {"hwgen.renamed": noted})
    assert set(import_quantized_model(model, "m").values) == {"x", "c"}


def test_clashing_names_survive():
    """An output named like the value behind it, an input named like a made-up tensor."""
    b = FloatBuilder(TensorType(4, 4, 2))
    y = b.node(Add(), b.conv("x", 2, Window(kernel=(1, 1))), "x")
    graph = b.graph(y)
    clash = type(graph.outputs[0])(name=y, shape=graph.outputs[0].shape, value=y, steps=graph.outputs[0].steps)
    entry = type(graph.inputs[0])(name="x", shape=graph.inputs[0].shape, dtype="float32", value="x", steps=graph.inputs[0].steps)
    graph = replace(graph, outputs=(clash,), inputs=(entry,))
    quantized = quantize(graph, data(graph, 5))
    for form in FORMS:
        assert_same_integers(quantized, import_quantized_model(form(quantized), "net"))
