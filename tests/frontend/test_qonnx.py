"""QONNX models: golden integers against the float64 meaning of Quant, BipolarQuant and Trunc; and what is refused."""

import numpy as np
import onnx
import pytest
import qonnx_witness
from foreign_models import Foreign
from onnx import TensorProto, helper, numpy_helper

from hwgen.emit.onnx import to_qdq
from hwgen.errors import DataError, HwgenError, QuantizationError, UnsupportedError
from hwgen.frontend.onnx import check_model
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden
from hwgen.quantize import certificates

RNG = np.random.default_rng(3)
FLOOR, CEIL = ({"rounding_mode": mode} for mode in ("FLOOR", "CEIL"))
ACTIVATIONS = [None, (2, {"narrow": 1}), (2, {}), (3, {"signed": 0}), (1, {}), (1, {"signed": 0}), (4, FLOOR), (3, CEIL)]  # None: bipolar


class Few(Foreign):
    """A QONNX model written node by node."""

    def quant(self, x, bits, scale=1.0, zero_point=0.0, domain="qonnx.custom_op.general", **attributes):
        numbers = {"s": scale, "z": zero_point, "b": bits}
        operands = [self.const(f"{x}_{name}", np.asarray(number, np.float32)) for name, number in numbers.items()]
        return self.node("Quant", [x, *operands], f"{x}_q", domain, **{"signed": 1, "narrow": 0, **attributes})

    def bipolar(self, x, scale=1.0):
        return self.node("BipolarQuant", [x, self.const(f"{x}_s", np.array(scale, np.float32))], f"{x}_q", "onnx.brevitas")

    def real(self, name, *shape):
        return self.const(name, RNG.normal(size=shape).astype(np.float32))

    def norm(self, x, channels):
        """A batch normalization with factors of both signs."""
        numbers = [self.real(f"{x}_{k}", channels) for k in range(3)]
        self.const(f"{x}_v", (RNG.random(channels) * 40 + 1).astype(np.float32))
        return self.node("BatchNormalization", [x, *numbers, f"{x}_v"], f"{x}_n")

    def made(self, output):
        model = self.model(output, opset=11)
        del model.opset_import[1:]
        return model


def run(model, x, **options):
    """Golden codes and the witness's, by value of the graph that is a tensor of the model: two integer arrays (N, elements) each."""
    check_model(model, "m")
    graph = import_quantized_model(model, "m", **options)
    values = [node.output for node in graph.nodes if any(node.output in proto.output for proto in model.graph.node)]
    _, *theirs = qonnx_witness.run(model, x, *values)
    codes = golden(graph, {"x": x}, keep=graph.values)
    pairs = {}
    for name, real in zip(values, theirs, strict=True):
        q = graph.values[name].quantized
        ours = codes[name].transpose(0, 3, 1, 2).reshape(len(x), -1).astype(int) - q.zero_point
        pairs[name] = ours, real.reshape(len(x), -1) / float(q.scale)
    return graph, pairs


def dense(f, x, inputs, outputs, bits):
    """A layer with weights of `bits`, each output channel with a scale of its own; bits 1 with one scale are bipolar."""
    name = f"w{len(f.nodes)}"
    f.real(name, outputs, inputs)
    w = f.bipolar(name, 0.25) if bits == 1 else f.quant(name, bits, RNG.random((outputs, 1)) * 0.3 + 0.1, narrow=1, domain="finn.custom_op.general")
    return f.node("MatMul", [x, f.node("Transpose", [w], f"{name}_t", perm=[1, 0])], f"{name}_y")


@pytest.mark.parametrize("weight_bits", [1, 2, 4, 8])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layers_of_few_bits(weight_bits, activation):
    """Every code is the witness's: the certificates say so, and no code is 0 where only -1 and +1 are."""
    f = Few(["N", 60])
    x, channels = f.quant("x", 4, 0.5), 60
    for outputs in (37, 24):
        y = f.norm(dense(f, x, channels, outputs, weight_bits), outputs)
        x, channels = f.bipolar(y, 0.75) if activation is None else f.quant(y, activation[0], 0.3, **activation[1]), outputs
    model = f.made(x)
    graph, pairs = run(model, (RNG.random((200, 60)) * 10 - 5).astype(np.float32))
    assert all(record.certified for record in certificates(graph))
    assert {node.op.weight.dtype for node in graph.nodes if isinstance(node.op, Conv)} == {np.dtype(np.int8)}
    assert len(pairs) == 3
    for ours, theirs in pairs.values():
        np.testing.assert_array_equal(ours, np.rint(theirs))
        assert activation is not None or ours.shape[1] == 60 or set(np.unique(ours)) == {-1, 1}
    again = import_quantized_model(to_qdq(graph), "m")
    codes = RNG.integers(-128, 128, (5, 1, 1, 60)).astype(np.int8)
    np.testing.assert_array_equal(*(list(golden_codes_of(each, codes).values())[-1] for each in (graph, again)))


def golden_codes_of(graph, codes):
    from hwgen.ops.golden import golden_codes

    return golden_codes(graph, {graph.inputs[0].value: codes})


def test_convolutions_with_pooling_relu_and_residual():
    f = Few(["N", 3, 9, 8])
    x = f.quant("x", 8, 0.05)
    f.real("w", 8, 3, 3, 3)
    w = f.quant("w", 3, RNG.random((8, 1, 1, 1)) * 0.2 + 0.1, narrow=1)
    c = f.node("Conv", [x, w, f.quant(f.real("b", 8), 16, 0.001)], "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    first = f.quant(f.node("Relu", [f.norm(c, 8)], "r"), 4, 0.2, signed=0)
    p = f.node("MaxPool", [first], "p", kernel_shape=[2, 2], strides=[2, 2])
    f.real("v", 8, 1, 3, 3)
    v = f.quant("v", 2, 0.5, narrow=1)
    d = f.quant(f.norm(f.node("Conv", [p, v], "d", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8), 8), 4, 0.2, signed=1)
    f.node("Identity", [f.quant(f.node("Add", [d, p], "a"), 5, 0.21)], "y")
    graph, pairs = run(f.made("y"), (RNG.random((30, 3, 9, 8)) * 12 - 6).astype(np.float32))
    for name, (ours, theirs) in pairs.items():
        wrong = np.abs(ours - np.rint(theirs))
        assert wrong.max() <= 1 and wrong.mean() < 0.002, name
    assert len(pairs) >= 4


def test_an_input_of_two_values():
    """-1 and +1 from real numbers, zero and its neighbours included."""
    f = Few(["N", 4])
    y = dense(f, f.bipolar("x", 0.5), 4, 3, 2)
    model = f.made(f.bipolar(f.norm(y, 3)))
    x = np.array([[0.0, -0.0, 1e-9, -1e-9], [3, -3, 1e6, -1e6], [0.25, -0.25, 1e-3, -1e-3]], np.float32)
    _, pairs = run(model, x)
    np.testing.assert_array_equal(pairs["x_q"][0], [[1, 1, 1, -1], [1, -1, 1, -1], [1, -1, 1, -1]])
    for ours, theirs in pairs.values():
        np.testing.assert_array_equal(ours, np.rint(theirs))


def test_unsigned_eight_bits_with_a_zero_point():
    f = Few(["N", 12])
    x = f.quant("x", 8, 0.02, 100, signed=0)
    f.node("Identity", [f.quant(f.norm(dense(f, x, 12, 5, 4), 5), 8, 0.05, 30, signed=0)], "y")
    graph, pairs = run(f.made("y"), (RNG.random((100, 12)) * 8 - 3).astype(np.float32))
    assert graph.values["x"].quantized.unsigned and graph.values["x"].quantized.zero_point == -28
    for ours, theirs in pairs.values():
        assert np.abs(ours - np.rint(theirs)).max() <= 1 and (ours == np.rint(theirs)).mean() > 0.99


@pytest.mark.parametrize("mode", ["FLOOR", "ROUND", "CEIL"])
def test_trunc(mode):
    f = Few(["N", 16])
    y = dense(f, f.quant("x", 4, 1.0), 16, 7, 1)
    operands = [f.const(f"t{k}", np.array(number, np.float32)) for k, number in enumerate((0.25, 0, 9, 5))]
    model = f.made(f.node("Trunc", [y, *operands], "y", "qonnx.custom_op.general", rounding_mode=mode))
    _, pairs = run(model, RNG.integers(-8, 8, (200, 16)).astype(np.float32))
    ours, theirs = pairs["y"]
    np.testing.assert_array_equal(ours, np.clip(theirs, -16, 31))


@pytest.mark.parametrize("mode", ["FLOOR", "ROUND"])
def test_average_pooling_before_a_truncation(mode):
    """As Brevitas exports it: an average, times the cells of its window, then Trunc of the sum."""
    f = Few(["N", 5, 6, 6])
    x = f.quant("x", 4, 0.5, signed=0)
    p = f.node("Mul", [f.node("AveragePool", [x], "p", kernel_shape=[3, 3], strides=[3, 3]), f.const("k", np.array(9, np.float32))], "m")
    operands = [f.const(f"t{k}", np.array(number, np.float32)) for k, number in enumerate((0.5, 0, 8, 4))]
    model = f.made(f.node("Trunc", [p, *operands], "y", "qonnx.custom_op.general", rounding_mode=mode))
    graph, pairs = run(model, (RNG.random((50, 5, 6, 6)) * 9).astype(np.float32))
    ours, theirs = pairs["y"]
    np.testing.assert_array_equal(ours, np.rint(theirs))
    assert all(record.certified for record in certificates(graph)) and ours.max() > 3


def test_outputs_without_quantizer_and_inputs_by_data():
    f = Few(["N", 20])
    y = f.node("Add", [dense(f, "x", 20, 6, 4), f.quant(f.real("c", 6), 8, 0.01)], "s")
    y = f.quant(f.node("Relu", [y], "r"), 6, 0.1, signed=0)
    f.node("Softmax", [f.node("Mul", [dense(f, y, 6, 4, 3), f.const("k", np.array(0.37, np.float32))], "l")], "y", axis=1)
    model, x = f.made("y"), RNG.normal(size=(400, 20)).astype(np.float32)
    with pytest.raises(DataError, match="its input 'x' has no quantizer and needs calibration data; pass --calibration"):
        import_quantized_model(model, "m")
    assumed = {}
    import_quantized_model(model, "m", assumed=assumed)
    assert 1 < assumed["x"] < 100
    graph, _ = run(model, x, calibrate=lambda entries: {"x": x})
    output = graph.outputs[0]
    codes = golden(graph, {"x": x})[output.value]
    (logits,) = qonnx_witness.run(model, x, "l")[1:]
    real = graph.values[output.value].quantized.dequantize(codes).reshape(logits.shape)
    assert (real.argmax(1) == logits.argmax(1)).mean() > 0.9
    assert np.abs(real - logits).max() < 0.1 * np.abs(logits).max()


def dynamic_bits():
    f = Few(["N", 4])
    operands = [f.const("s", np.array(1, np.float32)), f.const("z", np.array(0, np.float32)), f.node("ReduceMax", ["x"], "b", keepdims=0)]
    return f.made(f.node("Quant", ["x", *operands], "y"))


def quantized(bits=4, scale=1.0, zero_point=0.0, **attributes):
    f = Few(["N", 4])
    return f.made(dense(f, f.quant("x", bits, scale, zero_point, **attributes), 4, 3, 2))


def weights(bits=4, scale=1.0, shape=(4, 3)):
    f = Few(["N", 4])
    x = f.quant("x", 4)
    return f.made(f.node("MatMul", [x, f.quant(f.real("w", *shape), bits, scale)], "y"))


def unquantized_weights():
    f = Few(["N", 4])
    return f.made(f.node("MatMul", [f.quant("x", 4), f.real("w", 4, 3)], "y"))


def scaled_by_channel():
    f = Few(["N", 4, 5, 5])
    x = f.node("Mul", [f.quant("x", 4), f.const("k", np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1, 1))], "m")
    f.real("w", 2, 4, 3, 3)
    return f.made(f.node("Conv", [x, f.quant("w", 4)], "y", kernel_shape=[3, 3]))


REFUSED = {
    "bit_width_0": (quantized(bits=0), "input 3, a number of bits, must be 1..32, not 0"),
    "bit_width_33": (weights(bits=33), "input 3, a number of bits, must be 1..32, not 33"),
    "bit_width_2_and_a_half": (quantized(bits=2.5), r"a number of bits, must be one whole number, not \[2.5\]"),
    "bit_width_per_channel": (quantized(bits=[2, 2, 3, 4]), "a number of bits, must be one whole number"),
    "bit_width_computed": (dynamic_bits(), "input 3 must be a constant, 'b' is not"),
    "activation_of_16_bits": (quantized(bits=16), "activations must have at most 8 bits, not 16"),
    "weights_of_16_bits": (weights(bits=16, scale=1e-4), "its weights must be codes of at most 8 bits"),
    "zero_point_of_a_half": (quantized(zero_point=0.5), "the zero point, must be a whole number"),
    "rounding_unknown": (quantized(rounding_mode="STOCHASTIC"), "attribute rounding_mode must be one of ROUND, HALF_EVEN, FLOOR, CEIL"),
    "activation_scale_per_channel": (quantized(scale=[1, 2, 3, 4]), "activations must have one scale, not 4"),
    "weight_scales_of_wrong_length": (weights(scale=np.ones(5)), r"the scales of 'w', shape \[5\], must be one, or one for each index"),
    "weight_scales_along_inputs": (weights(scale=np.arange(1, 5).reshape(4, 1)), r"its weight scales must be one per output channel \(axis 1\)"),
    "float_weights": (unquantized_weights(), "its weights must be one quantized constant"),
    "scaled_by_input_channel": (scaled_by_channel(), "its input is scaled by other factors in each channel"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    model, reason = REFUSED[case]
    with pytest.raises(UnsupportedError, match=reason):
        import_quantized_model(model, "m")


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-40, np.inf])
def test_scales_that_are_no_positive_normal_number(scale):
    for model in (quantized(scale=scale), weights(scale=scale)):
        with pytest.raises(QuantizationError, match="the scale must be a positive normal float32"):
            import_quantized_model(model, "m")


def test_a_scale_that_is_no_number():
    with pytest.raises(HwgenError, match="must be finite, but holds NaN"):
        import_quantized_model(quantized(scale=np.nan), "m")


def test_missing_opset_import_of_the_domain_is_no_fault():
    """Brevitas exported QONNX so for years."""
    model = quantized()
    assert [entry.domain for entry in model.opset_import] == [""]
    check_model(model, "m")
    assert len(import_quantized_model(model, "m").nodes) == 2


def test_damaged_models_give_clear_errors():
    """Each operand of a quantizer replaced by numbers of other types, shapes and values."""
    base = quantized()
    for operand in range(1, 4):
        for array in (np.zeros(0, np.float32), np.array(7, np.int8), np.full((1, 4), 3, np.float32), np.full((9, 9), 2.0), np.array(True), np.array(1e30)):
            model = onnx.ModelProto()
            model.CopyFrom(base)
            name = model.graph.node[0].input[operand]
            kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
            del model.graph.initializer[:]
            model.graph.initializer.extend([*kept, numpy_helper.from_array(array, name)])
            try:
                import_quantized_model(model, "m")
            except HwgenError as error:
                assert len(str(error)) > 20


def test_packed_constants_with_dequantize_linear():
    for kind, low, high in ((TensorProto.INT4, -8, 8), (TensorProto.UINT4, 0, 16), (TensorProto.INT2, -2, 2), (TensorProto.UINT2, 0, 4)):
        f = Foreign(["N", 6])
        codes = RNG.integers(low, high, (6, 5))
        f.constants.append(helper.make_tensor("w", kind, [6, 5], codes.reshape(-1).tolist()))
        zero = helper.make_tensor("z", kind, [], [high - 1])
        f.constants.append(zero)
        w = f.node("DequantizeLinear", ["w", f.const("s", np.array(0.1, np.float32)), "z"], "w_dq")
        f.node("Identity", [f.qdq(f.node("MatMul", [f.qdq("x", 0.1), w], "m"), 0.2)], "y")
        (node,) = import_quantized_model(f.model(opset=21), "m").nodes
        np.testing.assert_array_equal(node.op.weight.reshape(5, 6), codes.T - (high - 1))
