"""What other tools write: odd scales around operators that copy, ONNX Runtime's own operators, all opsets, and hostile numbers."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from foreign_models import BIAS, WEIGHT, Foreign, conv_model
from onnx import TensorProto, helper, numpy_helper
from openset_support import session

from hwgen.config import PRESETS
from hwgen.emit.onnx import to_qdq
from hwgen.errors import ConfigError, HwgenError, ModelError, QuantizationError, UnsupportedError
from hwgen.frontend.onnx import check_model, load_model
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.evaluate import from_canonical
from hwgen.ir.graph import Arithmetic
from hwgen.network import has_foreign_scales, load_network, options_for, widened
from hwgen.ops.golden import golden, golden_codes
from hwgen.packing import WeightFormat
from hwgen.progress import Silent
from hwgen.quantize import Granularity, QuantizeOptions

RNG = np.random.default_rng(11)
IMAGE = ["N", 2, 6, 6]
EXACT = Arithmetic(multiplier_bits=24)


def compared(model, count=40):
    """Differences in output codes between golden and ONNX Runtime, and the graph."""
    graph = import_quantized_model(model, "m", arithmetic=EXACT)
    again = import_quantized_model(to_qdq(graph), "m")
    codes = {entry.value: RNG.integers(-128, 128, (3, *graph.values[entry.value].type.shape)).astype(np.int8) for entry in graph.inputs}
    for first, second in zip(golden_codes(graph, codes).values(), golden_codes(again, codes).values(), strict=True):
        np.testing.assert_array_equal(first, second)
    x = (RNG.random((count, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]))) * 12 - 6).astype(np.float32)
    (theirs,) = session(model.SerializeToString()).run(None, {"x": x})
    output = graph.outputs[0]
    q = graph.values[output.value].quantized
    ours = from_canonical(output, q.dequantize(golden(graph, {"x": x})[output.value]))
    return np.abs(np.rint((ours - theirs) / q.scale)), graph


def with_odd_scales(operator, **attributes):
    f = conv_model(output_scale=0.1137, output_zero=77)
    f.node(operator, ["c_dq"], "p", **attributes)
    f.node("Identity", [f.qdq("p", 0.0731, 130)], "z")
    return f.model("z")


COPYING = {
    "relu": with_odd_scales("Relu"),
    "max_pool": with_odd_scales("MaxPool", kernel_shape=[2, 2]),
    "global_max_pool": with_odd_scales("GlobalMaxPool"),
}


@pytest.mark.parametrize("case", COPYING)
def test_operators_that_copy_between_two_scales(case):
    difference, _ = compared(COPYING[case])
    assert difference.max() <= 1 and difference.mean() < 0.001


def test_concatenation_of_several_scales():
    f = conv_model(output_scale=0.1137, output_zero=77)
    f.node("Concat", ["c_dq", f.qdq(f.node("Relu", ["c_dq"], "r"), 0.0931, 3)], "k", axis=1)
    f.node("Identity", [f.qdq("k", 0.151, 60)], "z")
    difference, _ = compared(f.model("z"))
    assert difference.max() <= 1 and difference.mean() < 0.001


def integer(operator, *, scales=(0.0731,), domain="com.microsoft", **attributes):
    """QLinearConv, then the operator, in QOperator form."""
    f = Foreign(IMAGE)
    a, c, z = f.pair("a", 0.05, 128), f.pair("c", 0.1137, 77), f.pair("z", scales[0], 130)
    q = f.node("QuantizeLinear", ["x", *a], "q")
    w = [f.const("w", WEIGHT), *f.pair("w", 0.01, 0, np.int8)]
    f.node("QLinearConv", [q, *a, *w, *c, f.const("b", BIAS)], "y1", kernel_shape=[3, 3])
    if operator == "QLinearConcat":
        f.node("QLinearAdd", ["y1", *c, "y1", *c, *f.pair("d", 0.2, 50)], "y2", domain=domain)
        f.node(operator, [*z, "y1", *c, "y2", "d_s", "d_z"], "y3", domain=domain, axis=1)
    elif operator in ("QLinearAdd", "QLinearMul"):
        constant = np.array([0, 90, 200, 255], np.uint8).reshape(4, 1, 1)
        f.node(operator, ["y1", *c, f.const("k", constant), *f.pair("k", 0.0211, 90), *z], "y3", domain=domain)
    else:
        f.node(operator, ["y1", *c, *z], "y3", domain=domain, **attributes)
    f.node("DequantizeLinear", ["y3", *z], "y")
    return f.model()


INTEGER = {
    "concat": integer("QLinearConcat"),
    "add_constant": integer("QLinearAdd"),
    "mul_constant": integer("QLinearMul"),
    "leaky_relu": integer("QLinearLeakyRelu", alpha=0.23),
    "sigmoid": integer("QLinearSigmoid", scales=(1 / 256,)),
    "global_average": integer("QLinearGlobalAveragePool", channels_last=0),
    "average": integer("QLinearAveragePool", kernel_shape=[2, 2]),
}


@pytest.mark.parametrize("case", INTEGER)
def test_integer_operators_of_onnx_runtime(case):
    difference, _ = compared(INTEGER[case])
    assert difference.max() <= 1 and difference.mean() < 0.01


@pytest.mark.parametrize("opset", [10, 11, 13, 19, 21, 23])
@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_every_opset_of_quantize_linear(opset, kind):
    """Without a zero point too: it is uint8 0 then."""
    f = Foreign(IMAGE)
    x = f.qdq("x", 0.05, 3, kind)
    w = f.weight("w", WEIGHT, np.full(4, 0.01) if opset >= 13 else 0.01, **({"axis": 0} if opset >= 13 else {}))
    c = f.node("Conv", [x, w], "c", kernel_shape=[3, 3])
    scale = f.const("c_s", np.array(0.10337, np.float32))
    q = f.node("QuantizeLinear", [c, scale], "c_q")
    f.node("DequantizeLinear", [q, scale], "y")
    model = f.model(opset=opset)
    check_model(model, "m")
    difference, graph = compared(model)
    assert difference.max() <= 1 and difference.mean() < 0.001
    assert graph.values[graph.outputs[0].value].quantized.zero_point == -128


def types_of_codes(kind, by_zero_point):
    """A network whose input, result and weights are quantized to codes of one type, which zero points or `output_dtype` say."""
    f = Foreign(["N", 6])
    zero, attribute = ([2], {}) if by_zero_point else ([], {"output_dtype": kind})

    def quantized(x, scale):
        operands = [f.const(f"{x}_s", np.array(scale, np.float32)), *(f"{x}_z" for _ in zero)]
        f.constants.extend(helper.make_tensor(f"{x}_z", kind, [], zero) for _ in zero)
        return f.node("DequantizeLinear", [f.node("QuantizeLinear", [x, *operands], f"{x}_q", **attribute), *operands], f"{x}_dq")

    w = quantized(f.const("w", (RNG.random((6, 5)) * 30 - 15).astype(np.float32)), 1.0)
    f.node("Identity", [quantized(f.node("MatMul", [quantized("x", 0.5), w], "m"), 16.0)], "y")
    model = f.model(opset=25)
    model.ir_version = 13
    return model


@pytest.mark.parametrize("by_zero_point", [True, False])
@pytest.mark.parametrize("kind", ["INT2", "UINT2", "INT4", "UINT4", "INT8", "UINT8"])
def test_types_of_codes(kind, by_zero_point):
    """Activations of 4 and 2 bits saturate where their codes end, and so do weights that are quantized in the graph."""
    model = types_of_codes(getattr(TensorProto, kind), by_zero_point)
    check_model(model, "m")
    difference, graph = compared(model)
    assert not difference.any()
    bits = int(kind[-1])
    x = {"x": np.array([[-1e3] * 6, [1e3] * 6], np.float32)}
    codes = golden(graph, x, keep=graph.values)
    assert max(int(array.max()) - int(array.min()) for name, array in codes.items() if name != graph.inputs[0].value) == (1 << bits) - 1


def test_a_type_of_codes_that_there_is_not():
    model = types_of_codes(77, False)
    with pytest.raises(UnsupportedError, match="attribute output_dtype must be a type of ONNX, not 77"):
        import_quantized_model(model, "m")


def test_codes_without_zero_point_at_the_input():
    """Their type is that of the input: int8 codes are not read as uint8."""
    f = Foreign(["N", 6], TensorProto.INT8)
    scale = f.const("s", np.array(0.25, np.float32))
    w = f.weight("w", RNG.integers(-8, 8, (6, 5)).astype(np.int8), 0.5)
    f.node("Identity", [f.qdq(f.node("MatMul", [f.node("DequantizeLinear", ["x", scale], "x_dq"), w], "m"), 2.0, 0, np.int8)], "y")
    graph = import_quantized_model(f.model(), "m")
    x = {"x": RNG.integers(-128, 128, (20, 6)).astype(np.int8)}
    (theirs,) = session(f.model().SerializeToString()).run(None, x)
    output = graph.outputs[0]
    np.testing.assert_array_equal(graph.values[output.value].quantized.dequantize(golden(graph, x)[output.value]).reshape(20, 5), theirs)


def test_weights_quantized_in_the_graph_and_limited_codes():
    """As Brevitas writes QCDQ: float weights behind QuantizeLinear and Clip, activations limited to the codes of fewer bits."""
    f = Foreign(IMAGE)
    pair, limits = f.pair("a", 0.5, 0, np.int8), [f.const("l", np.array(-8, np.int8)), f.const("h", np.array(7, np.int8))]
    q = f.node("Clip", [f.node("QuantizeLinear", ["x", *pair], "q"), *limits], "k")
    x = f.node("DequantizeLinear", [q, *pair], "x_dq")
    scales = [f.const("w_s", np.full(4, 0.25, np.float32)), f.const("w_z", np.zeros(4, np.int8))]
    w = f.node("QuantizeLinear", [f.const("w", RNG.normal(size=(4, 2, 3, 3)).astype(np.float32)), *scales], "w_q", axis=0)
    w = f.node("DequantizeLinear", [f.node("Clip", [w, *limits], "w_k"), *scales], "w_dq", axis=0)
    c = f.node("Conv", [x, w], "c", kernel_shape=[3, 3])
    f.node("Identity", [f.qdq(c, 0.25, 0, np.int8)], "y")
    difference, graph = compared(f.model())
    assert not difference.any()
    weight = np.concatenate([node.op.weight.reshape(-1) for node in graph.nodes if hasattr(node.op, "weight")])
    assert weight.min() >= -8 and weight.max() <= 7


def test_no_group_attribute_and_a_shared_bias():
    f = Foreign(IMAGE)
    x = f.qdq("x", 0.05, 128)
    w = f.weight("w", WEIGHT[:2], 0.01)
    b = f.weight("b", BIAS[:2], np.float32(0.05) * np.float32(0.01))
    c = f.node("Conv", [x, w, b], "c", pads=[1, 1, 1, 1])
    d = f.node("Conv", [f.qdq(c, 0.0517, 99), w, b], "d", pads=[1, 1, 1, 1])  # the same bias, at another scale of the products
    f.node("Identity", [f.qdq(d, 0.1, 128)], "y")
    difference, graph = compared(f.model())
    assert difference.max() <= 1 and difference.mean() < 0.002
    assert [node.op.group for node in graph.nodes] == [1, 1]


def test_block_quantization_is_refused():
    f = Foreign(["N", 8])
    scales = f.const("w_s", np.full((2, 3), 0.1, np.float32))
    w = f.node("DequantizeLinear", [f.const("w", np.ones((8, 3), np.int8)), scales], "w_dq", axis=0, block_size=4)
    f.node("Identity", [f.qdq(f.node("MatMul", [f.qdq("x", 0.1), w], "m"), 0.2)], "y")
    with pytest.raises(UnsupportedError, match="attribute block_size must be 0: scales of blocks are not supported"):
        import_quantized_model(f.model(opset=21), "m")


def test_dynamic_quantization_is_refused_with_the_way_out():
    f = Foreign(["N", 8])
    f.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dynamic"))
    f.node("MatMulInteger", ["q", f.const("w", np.ones((8, 3), np.int8)), "z"], "i")
    f.node("Mul", [f.node("Cast", ["i"], "r", to=TensorProto.FLOAT), "s"], "y")
    with pytest.raises(UnsupportedError, match="dynamic quantization, whose scales are computed from each input; quantize statically"):
        import_quantized_model(f.model(), "m")


def test_quantization_on_some_tensors_only_names_the_others():
    f = conv_model()
    a = f.node("Conv", ["c_dq", f.weight("v", RNG.integers(-9, 9, (4, 4, 1, 1)).astype(np.int8), 0.01)], "bare")
    b = f.node("Conv", [f.node("Relu", [a], "last"), f.weight("u", RNG.integers(-9, 9, (4, 4, 1, 1)).astype(np.int8), 0.01)], "other")
    f.node("Identity", [f.qdq(f.node("Conv", [b, f.const("t", RNG.normal(size=(4, 4, 1, 1)).astype(np.float32))], "t2"), 0.1)], "z")
    with pytest.raises(UnsupportedError) as caught:
        import_quantized_model(f.model("z"), "m")
    assert [problem.node for problem in caught.value.problems] == ["Relu_last", "Conv_other"]
    assert "its result must be quantized, but is read as real values" in str(caught.value)


@pytest.mark.parametrize("scale", [0.0, -0.1, 1e-40, np.inf, np.nan])
@pytest.mark.parametrize("tensor", ["x_s", "w_s", "c_s"])
def test_scales_that_are_no_positive_normal_number(tensor, scale):
    model = replaced(conv_model().model(), tensor, np.array(scale, np.float32))
    with pytest.raises(HwgenError, match="positive normal float32|must be finite|must be positive and finite|the bias must fit int32"):
        import_quantized_model(model, "m")


def replaced(model, name, array):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [tensor for tensor in copy.graph.initializer if tensor.name != name]
    assert len(kept) == len(copy.graph.initializer) - 1
    del copy.graph.initializer[:]
    copy.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(array), name)])
    return copy


HOSTILE = {
    "zero_point_of_16_bits": (lambda: replaced(conv_model().model(), "c_z", np.array(3, np.int16)), "activations must be uint8 or int8, not int16"),
    "zero_point_of_float": (lambda: replaced(conv_model().model(), "c_z", np.array(3, np.float32)), "activations must be uint8 or int8, not float32"),
    "zero_points_per_channel": (lambda: replaced(conv_model().model(), "c_z", np.zeros(4, np.uint8)), "one scale and one zero point"),
    "activation_scale_per_channel": (lambda: replaced(conv_model().model(), "c_s", np.ones(4, np.float32)), "one scale and one zero point"),
    "axis_out_of_range": (lambda: conv_model(weight_scale=np.full(4, 0.1), axis=7).model(), "attribute axis must lie within the 4 dimensions of 'w', not 7"),
    "scales_of_wrong_length": (lambda: conv_model(weight_scale=np.full(3, 0.1), axis=0).model(), "the 3 scales of 'w' must be one for each of its channels"),
    "scales_along_inputs": (lambda: conv_model(weight_scale=np.full(2, 0.1), axis=1).model(), "its weight scales must be one per|the 2 scales of 'b'"),
    "weights_of_32_bits": (lambda: replaced(conv_model().model(), "w", WEIGHT.astype(np.int32) * 1000), "its weights must be 8-bit codes"),
    "empty_scale": (lambda: replaced(conv_model().model(), "c_s", np.zeros(0, np.float32)), "one scale and one zero point"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile(case):
    make, reason = HOSTILE[case]
    with pytest.raises((UnsupportedError, ModelError, QuantizationError), match=reason):
        import_quantized_model(make(), "m")


def test_bias_beyond_int32():
    f = Foreign(IMAGE)
    w = f.weight("w", WEIGHT, 1e-6)
    c = f.node("Conv", [f.qdq("x", 1e-6), w, f.const("b", np.full(4, 1e3, np.float32))], "c", kernel_shape=[3, 3])
    f.node("Identity", [f.qdq(c, 0.1)], "y")
    with pytest.raises(QuantizationError, match="the bias must fit int32 at the scale of the products"):
        import_quantized_model(f.model(), "m")


def test_multipliers_for_scales_of_another_tool(tmp_path):
    """What hwgen wrote keeps its own multiplier bits; other models get those that hold a float32 ratio, on hardware that has them."""
    foreign, own = tmp_path / "foreign.onnx", tmp_path / "own.onnx"
    model = conv_model().model()
    foreign.write_bytes(model.SerializeToString())
    own.write_bytes(to_qdq(import_quantized_model(model, "m")).SerializeToString())
    assert has_foreign_scales(load_model(foreign)) and not has_foreign_scales(load_model(own))
    wide = widened(PRESETS["8x8"])
    assert (wide.multiplier_bits, wide.name) == (24, "8x8 with 24-bit multipliers") and widened(wide) is wide
    options = options_for(wide, QuantizeOptions())
    assert load_network(foreign, None, options, Silent()).graph.arithmetic.multiplier_bits == 24
    assert load_network(own, None, options, Silent()).graph.arithmetic.multiplier_bits == 16
    message = "options granularity, weights: must be given with a float model only, but model '.*' is quantized already and keeps its integers"
    with pytest.raises(ConfigError, match=message):
        load_network(own, None, replace(options, granularity=Granularity.TENSOR, weights=WeightFormat.INT4), Silent())


OPERANDS = [
    *(np.zeros(0, np.float32), np.array(7, np.int8), np.full((1, 4), 3, np.float32), np.full((9, 9), 2.0), np.array(True), np.array(1e30, np.float32)),
    *(np.array(-1, np.int64), np.array([1, 2, 3], np.uint8), np.array(0.5, np.float16), np.ones((4, 2, 3, 3), np.int8), np.array(1 + 2j)),
]
OPERATORS = (
    "Quant BipolarQuant Trunc Conv MatMul QuantizeLinear DequantizeLinear QLinearConv QLinearAdd QLinearConcat QLinearMul Add Mul Clip Concat QGemm"
)


def mutated(model, r):
    """One or two operands, names, operators or attributes are others."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _ in range(r.randint(1, 2)):
        node, kind = r.choice(copy.graph.node), r.randint(0, 4)
        if kind == 0:
            tensor = r.choice(copy.graph.initializer)
            tensor.CopyFrom(numpy_helper.from_array(r.choice(OPERANDS), tensor.name))
        elif kind == 1 and node.input:
            node.input[r.randrange(len(node.input))] = r.choice([name for other in copy.graph.node for name in (*other.input, *other.output, "")])
        elif kind == 2 and node.input:
            del node.input[-1]
        elif kind == 3:
            node.op_type = r.choice(OPERATORS.split())
        for attribute in node.attribute if kind == 4 else ():
            if attribute.type == onnx.AttributeProto.INT:
                attribute.i = r.choice([-1, 0, 2, 99, 1 << 40])
    return copy


def test_mutated_models_give_integers_or_an_error():
    bases, r, kinds = [conv_model().model(), few_bits(), *INTEGER.values(), *COPYING.values()], random.Random(5), Counter()
    for _ in range(250):
        model = mutated(r.choice(bases), r)
        try:
            check_model(model, "m")
            graph = import_quantized_model(model, "m", assumed={})
            golden_codes(graph, {entry.value: np.zeros((1, *graph.values[entry.value].type.shape), np.int8) for entry in graph.inputs})
            kinds["ok"] += 1
        except HwgenError as error:
            kinds[type(error).__name__] += 1
            assert len(str(error)) > 20
    assert kinds["ok"] > 10 and kinds["UnsupportedError"] > 50


def few_bits():
    """A QONNX model: a layer between Quant, BipolarQuant and Trunc."""
    f = Foreign(["N", 6])
    numbers = [f.const(name, np.array(number, np.float32)) for name, number in (("s", 0.5), ("z", 0), ("b", 3), ("c", 2))]
    x = f.node("Quant", ["x", *numbers[:3]], "q", "qonnx.custom_op.general", signed=1, narrow=0)
    w = f.node("BipolarQuant", [f.const("w", RNG.normal(size=(6, 5)).astype(np.float32)), "s"], "w_q", "onnx.brevitas")
    t = f.node("Trunc", [f.node("MatMul", [x, w], "m"), *numbers], "t", "qonnx.custom_op.general", rounding_mode="FLOOR")
    f.node("Relu", [t], "y")
    return f.model()
