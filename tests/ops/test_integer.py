"""Multipliers, stages, biases, bounds: the integers that golden, program and firmware share."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwgen.arith import AddRequantize, IntType, Requantize, Rounding
from hwgen.errors import QuantizationError
from hwgen.ir.graph import Arithmetic, Graph, Node, Value
from hwgen.ir.types import Quantization, TensorType
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.check import check_quantized
from hwgen.ops.conv import Conv
from hwgen.ops.integer import (
    OutputStage,
    accumulator_bounds,
    add_stage,
    average_stages,
    clamp_codes,
    folded_bias,
    identity_stage,
    multiplier_and_shift,
    output_stage,
)
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.staircase import agrees, exact_in_single_precision, single_precision_rule, steps


def q(scale=1.0, zero_point=0, unsigned=False):
    return Quantization(scale=np.float32(scale), zero_point=zero_point, unsigned=unsigned)


def graph_of(op, inputs, output, kind=None, bits=16):
    """A graph of one node."""
    kind = kind or TensorType(4, 4, 2)
    values = {f"x{k}": Value(name=f"x{k}", type=kind, quantization=each) for k, each in enumerate(inputs)}
    result = op.infer(*[kind] * len(inputs))
    values["y"] = Value(name="y", type=result, quantization=output)
    node = Node(name="n", op=op, inputs=tuple(f"x{k}" for k in range(len(inputs))), output="y")
    return node, Graph(name="g", inputs=(), outputs=(), nodes=(node,), values=values, arithmetic=Arithmetic(multiplier_bits=bits))


def conv(weight, bias, scale, clamp=(-np.inf, np.inf)):
    weight = np.asarray(weight, np.int8)
    return Conv(
        weight=weight,
        bias=np.asarray(bias, np.int32),
        window=Window(kernel=weight.shape[1:3]),
        weight_scale=np.asarray(scale, np.float32),
        clamp=clamp,
    )


@settings(deadline=None, max_examples=200)
@given(st.floats(2.0**-30, 2.0**7, exclude_max=True), st.sampled_from([8, 10, 12, 16, 24]))
def test_multiplier_is_normalized_and_nearest(ratio, bits):
    m, s = multiplier_and_shift(np.array([ratio]), Arithmetic(multiplier_bits=bits), "layer")
    assert 1 << (bits - 1) <= m[0] < 1 << bits and 0 <= s[0] <= 32 + bits
    assert abs(m[0] / 2.0 ** s[0] / ratio - 1) <= 2.0**-bits


@pytest.mark.parametrize(
    ("ratio", "bits", "message"),
    [
        (0.0, 16, "Conv 'c': the ratio of input to output scales must be positive and finite, not 0; choose moderate scales"),
        (np.nan, 16, "Conv 'c': the ratio of input to output scales must be positive and finite, not nan; choose moderate scales"),
        (np.inf, 16, "Conv 'c': the ratio of input to output scales must be positive and finite, not inf; choose moderate scales"),
        (70000.0, 16, "Conv 'c': the ratio of input to output scales must be below 2**16, not 70000; choose moderate scales"),
        (
            0.3,
            0,
            "Conv 'c': with multiplier_bits 0 the ratio of scales must be a power of two, not 0.3; "
            "quantize with the power-of-two scheme or build with a multiplier",
        ),
    ],
)
def test_bad_ratios_name_the_layer(ratio, bits, message):
    with pytest.raises(QuantizationError) as caught:
        multiplier_and_shift(np.array([1.0, ratio]), Arithmetic(multiplier_bits=bits), "Conv 'c'")
    assert str(caught.value) == message


@pytest.mark.parametrize("bits", [0, 8, 16, 24])
@pytest.mark.parametrize("rounding", Rounding)
def test_vanishing_ratio_gives_zero_for_every_accumulator(bits, rounding):
    arithmetic = Arithmetic(multiplier_bits=bits, rounding=rounding)
    m, s = multiplier_and_shift(np.array([2.0**-50]), arithmetic, "layer")
    one = np.ones(1, np.int64)
    stage = OutputStage(multiplier=m, shift=s, zero_point=3 * one, low=-128 * one, high=127 * one)
    assert (stage.apply(np.array([[-(2**31)], [2**31 - 1], [0]]), arithmetic) == 3).all()


@pytest.mark.parametrize("bits", [0, 8, 16, 24])
@pytest.mark.parametrize("rounding", Rounding)
def test_output_stage_equals_the_stages_of_arith(bits, rounding):
    rng = np.random.default_rng(bits)
    n = 500
    rule = Requantize(accumulator=IntType(32), multiplier_bits=bits, rounding=rounding)
    multiplier = rng.integers(1 << (bits - 1), 1 << bits, n) if bits else np.ones(n, np.int64)
    stage = OutputStage(
        multiplier=multiplier,
        shift=rng.integers(0, 32 + bits + 1, n),
        zero_point=rng.integers(-128, 128, n),
        low=rng.integers(-128, 1, n),
        high=rng.integers(0, 128, n),
    )
    acc = np.concatenate([rng.integers(-(2**31), 2**31, (20, n)), rng.integers(-300, 300, (20, n)), np.array([[-(2**31)] * n, [2**31 - 1] * n])])
    acc[:10] = acc[:10] >> 5 << 5  # ties
    expected = rule.compute(acc=acc, multiplier=stage.multiplier, shift=stage.shift, zero_point=stage.zero_point, low=stage.low, high=stage.high)
    found = stage.apply(acc, Arithmetic(multiplier_bits=bits, rounding=rounding))
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, expected)


def test_residual_scale_above_128_does_not_wrap():
    node, graph = graph_of(Add(), [q(200.0, 3), q(1.5, -7)], q(1.0, 5))
    stage = add_stage(node, graph)
    a, b = np.array([4, 3, 2], np.int8), np.array([10, 0, -100], np.int8)
    np.testing.assert_array_equal(stage.apply(a, b, graph.arithmetic), [127, 16, -128])


def test_zero_point_lies_inside_the_rounding_of_add_and_outside_that_of_conv():
    node, graph = graph_of(Add(), [q(0.5), q(0.5)], q(1.0, 1))
    found = add_stage(node, graph).apply(np.array([1], np.int8), np.array([0], np.int8), graph.arithmetic)
    assert found[0] == 2  # 0.5 + 1 = 1.5 to even
    node, graph = graph_of(conv([[[[1, 0]]]], [0], [0.5]), [q()], q(1.0, 1))
    assert output_stage(node, graph).apply(np.array([1]), graph.arithmetic)[0] == 1  # 0.5 to even is 0, then + 1


@settings(deadline=None, max_examples=25)
@given(st.floats(-12, 6), st.floats(-12, 6), st.integers(-128, 127), st.integers(-128, 127), st.integers(-128, 127))
def test_add_table_equals_the_stages_of_arith(log_a, log_b, zero_a, zero_b, zero_y):
    node, graph = graph_of(Add(clamp=(0.0, np.inf)), [q(2.0**log_a, zero_a), q(2.0**log_b, zero_b)], q(1.0, zero_y))
    stage = add_stage(node, graph)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-128, 128, (2, 300)).astype(np.int8)
    rule = AddRequantize(multiplier_bits=16)
    operands = {name: getattr(stage, name) for name in ("multiplier_a", "multiplier_b", "offset", "shift", "low", "high")}
    expected = rule.compute(a=a.astype(np.int64), b=b.astype(np.int64), **operands)
    np.testing.assert_array_equal(stage.apply(a, b, graph.arithmetic), expected)
    real = (a.astype(int) - zero_a) * 2.0**log_a + (b.astype(int) - zero_b) * 2.0**log_b
    wanted = np.clip(np.clip(real, 0, None) + zero_y, -128, 127)
    assert np.abs(expected - wanted).max() <= 0.51 + 2.0 ** (max(log_a, log_b) - 16) * 512


def test_add_with_unusable_ratios_names_the_node():
    node, graph = graph_of(Add(), [q(1e-12), q(1e-12)], q(1.0, 5))
    message = "Add 'n': the ratios of input to output scales must be within the adder's range, not 9.99999996e-13 and 9.99999996e-13; choose moderate scales"
    with pytest.raises(QuantizationError) as caught:
        add_stage(node, graph)
    assert str(caught.value) == message


def test_power_of_two_add_shifts_only():
    node, graph = graph_of(Add(), [q(0.25), q(2.0)], q(0.5), bits=0)
    stage = add_stage(node, graph)
    assert (stage.multiplier_a, stage.multiplier_b, stage.shift) == (0, 3, 1)
    assert stage.apply(np.array([3], np.int8), np.array([-5], np.int8), graph.arithmetic)[0] == -18  # 1.5 - 20 = -18.5 to even


def test_folded_bias_and_bounds_hold_for_all_inputs():
    rng = np.random.default_rng(4)
    weight = rng.integers(-128, 128, (3, 2, 2, 2))
    node, graph = graph_of(conv(weight, [5, -6, 7], [0.1] * 3), [q(1.0, -9)], q())
    low, high = accumulator_bounds(node, graph)
    x = rng.integers(-128, 128, (2000, 2, 2, 2))
    extremes = [np.where(w > 0, end, -1 - end) for w in weight for end in (127, -128)]
    acc = np.concatenate([x, extremes]).reshape(-1, 8) @ weight.reshape(3, 8).T + folded_bias(node, graph)
    assert (acc >= low).all() and (acc <= high).all()
    np.testing.assert_array_equal(acc[-6:].max(0), high)
    np.testing.assert_array_equal(acc[-6:].min(0), low)
    np.testing.assert_array_equal(folded_bias(node, graph), [5, -6, 7] + 9 * weight.reshape(3, -1).sum(1))


def test_average_pool_divides_by_each_count():
    op = AveragePool(window=Window(kernel=(2, 2), pads=(1, 1, 0, 0), strides=(2, 2)))
    node, graph = graph_of(op, [q(1.0, 4)], q(0.5), TensorType(3, 3, 2))
    counts, stages = average_stages(node, graph)
    assert counts.tolist() == [[1, 2], [2, 4]] and set(stages) == {1, 2, 4}
    for count, stage in stages.items():
        np.testing.assert_array_equal(stage.ratio, [2 / count] * 2)
    np.testing.assert_array_equal(folded_bias(node, graph), [-16, -16])
    low, high = accumulator_bounds(node, graph)
    assert (low[0], high[0]) == (-16 - 512, -16 + 508)


def test_clamps_round_as_quantize_linear_and_stay_in_int8():
    assert clamp_codes((0.0, 6.0), q(6 / 255, -128)) == (-128, 127)
    assert clamp_codes((0.0, np.inf), q(0.1, 0)) == (0, 127)
    assert clamp_codes((-0.25, 0.35), q(0.1, 10)) == (8, 14)  # -2.5 and 3.5 to even
    assert clamp_codes((-np.inf, np.inf), q(1e-30, 0)) == (-128, 127)
    assert clamp_codes((5.0, 6.0), q(1e-3, 0)) == (127, 127)


def test_identity_stage_keeps_codes():
    for bits in (0, 8, 16):
        node, graph = graph_of(MaxPool(window=Window(kernel=(1, 1)), clamp=(0.0, np.inf)), [q(0.5, -3)], q(0.5, -3), bits=bits)
        x = np.arange(-128, 128).repeat(2).reshape(-1, 2)
        np.testing.assert_array_equal(identity_stage(node, graph).apply(x, graph.arithmetic), np.maximum(x, -3))


@pytest.mark.parametrize("rounding", Rounding)
def test_steps_are_where_the_output_changes(rounding):
    arithmetic = Arithmetic(multiplier_bits=8, rounding=rounding)
    one = np.ones(4, np.int64)
    stage = OutputStage(multiplier=np.array([128, 200, 255, 129]), shift=np.array([9, 11, 0, 8]), zero_point=one * 3, low=-128 * one, high=127 * one)
    first = steps(stage, rounding)
    for channel in range(4):
        part = OutputStage(**{name: getattr(stage, name)[channel : channel + 1] for name in ("multiplier", "shift", "zero_point", "low", "high")})
        at, before = (part.apply(first[channel][:, None] + d, arithmetic)[:, 0] for d in (0, -1))
        reached = np.arange(-127, 128)
        assert (at >= reached).all() and (before < reached).all()


def test_agreement_is_that_of_every_accumulator():
    rng = np.random.default_rng(1)
    n, arithmetic = 60, Arithmetic(multiplier_bits=16)
    full = np.ones(n, np.int64)
    stage = OutputStage(
        multiplier=rng.integers(1 << 15, 1 << 16, n), shift=rng.integers(20, 26, n), zero_point=rng.integers(-128, 128, n), low=-128 * full, high=127 * full
    )
    ratio = (stage.ratio * (1 + rng.normal(size=n) * 2e-7)).astype(np.float32)
    low, high = -60000 - rng.integers(0, 9, n), 60000 + rng.integers(0, 9, n)
    verdict = agrees(stage, Rounding.HALF_EVEN, single_precision_rule(ratio), low, high)
    assert 5 < verdict.sum() < n - 5
    for c in range(n):
        acc = np.arange(low[c], high[c] + 1)
        part = OutputStage(**{name: getattr(stage, name)[c : c + 1] for name in ("multiplier", "shift", "zero_point", "low", "high")})
        other = np.clip(np.rint(acc.astype(np.float32) * ratio[c]) + stage.zero_point[c], -128, 127)
        assert verdict[c] == (part.apply(acc[:, None], arithmetic)[:, 0] == other).all()


def test_single_precision_is_refused_beyond_2_to_the_24():
    one = np.ones(1, np.int64)
    stage = OutputStage(multiplier=one << 15, shift=one * 20, zero_point=0 * one, low=-128 * one, high=127 * one)
    assert exact_in_single_precision(stage, Rounding.HALF_EVEN, -one, one << 24)
    assert not exact_in_single_precision(stage, Rounding.HALF_EVEN, -one, (one << 24) + 1)
    assert not exact_in_single_precision(stage, Rounding.HALF_UP, -one * 100000, one * 100000)


@pytest.mark.parametrize("scale", [0.0, -0.1, np.nan, np.inf, 1e-42])
def test_scale_zero_negative_nan_denormal_is_refused(scale):
    node, graph = graph_of(MaxPool(window=Window(kernel=(1, 1))), [q(scale)], q(scale))
    with pytest.raises(QuantizationError, match=r"value 'x0': the scale must be a positive normal float32, not .*; quantize again"):
        check_quantized(graph)
    weight_scales = conv([[[[1, 1]]]], [0], [scale])
    with pytest.raises(QuantizationError, match=r"weights of Conv 'n': the scale must be a positive normal float32, not .*; quantize again"):
        check_quantized(graph_of(weight_scales, [q()], q())[1])


def test_zero_point_out_of_range_is_refused():
    node, graph = graph_of(MaxPool(window=Window(kernel=(1, 1))), [q(1.0, 128)], q(1.0, 128))
    with pytest.raises(QuantizationError, match=r"value 'x0': the zero point must lie in -128..127, not 128; quantize again"):
        check_quantized(graph)
    node, graph = graph_of(MaxPool(window=Window(kernel=(1, 1))), [q(1.0, -129, True)], q(1.0, -129, True))
    with pytest.raises(QuantizationError, match=r"value 'x0': the zero point must lie in 0..255, not -1; quantize again"):
        check_quantized(graph)


def test_missing_quantization_is_refused():
    node, graph = graph_of(MaxPool(window=Window(kernel=(1, 1))), [q()], q())
    bare = {**graph.values, "y": replace(graph.values["y"], quantization=None)}
    with pytest.raises(QuantizationError, match="value 'y': must have a quantization, has none; quantize the whole graph"):
        check_quantized(replace(graph, values=bare))


def test_operators_that_copy_codes_need_one_quantization():
    node, graph = graph_of(MaxPool(window=Window(kernel=(1, 1))), [q(1.0, 3)], q(1.0, 4))
    with pytest.raises(QuantizationError, match=r"MaxPool 'n': inputs and output must share one quantization, not 1 / 3 and 1 / 4; give them"):
        check_quantized(graph)


def test_float_weights_are_refused():
    op = Conv(weight=np.ones((1, 1, 1, 2), np.float32), bias=np.zeros(1, np.float32), window=Window(kernel=(1, 1)))
    with pytest.raises(QuantizationError, match="Conv 'n': weights must be int8 and bias int32, not float32 and float32; quantize the graph"):
        check_quantized(graph_of(op, [q()], q())[1])


def test_accumulator_beyond_int32_is_refused():
    op = conv(np.full((1, 2, 2, 2), 127), [2**31 - 1], [0.01])
    with pytest.raises(QuantizationError, match=r"Conv 'n': the accumulator must fit int32, reaches \d+..\d+; use a larger weight scale"):
        check_quantized(graph_of(op, [q()], q())[1])
