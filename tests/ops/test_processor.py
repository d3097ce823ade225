"""The processor's operators against exact rationals, and their float meaning within the stated error."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from hwgen.errors import ModelError, QuantizationError
from hwgen.ir.graph import Graph, GraphInput, GraphOutput, Node, Value
from hwgen.ir.host import Reshape, Take, Transpose
from hwgen.ir.types import Quantization, TensorType
from hwgen.ops.base import UNLIMITED, Operator
from hwgen.ops.check import check_quantized
from hwgen.ops.elementwise import Div, Extremum, Mul
from hwgen.ops.golden import golden_node
from hwgen.ops.integer import clamp_codes
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.matmul import MatMul
from hwgen.ops.move import Move
from hwgen.ops.normalize import Normalize
from hwgen.ops.processor import division_stage, exponentials, processor_error, product_stage, softmax_stage
from hwgen.ops.softmax import ArgExtremum, LogSoftmax, Softmax


def graph_of(op: Operator, types: tuple[TensorType, ...], scales: tuple[float, ...], zero_points: tuple[int, ...]) -> Graph:
    """One node; quantizations of the operands, then of the result."""
    kinds = (*types, op.infer(*types))
    names = [f"v{k}" for k in range(len(kinds))]
    values = {
        name: Value(name=name, type=kind, quantization=Quantization(scale=np.float32(scale), zero_point=zero))
        for name, kind, scale, zero in zip(names, kinds, scales, zero_points, strict=True)
    }
    return Graph(
        name="one",
        inputs=tuple(GraphInput(name=name, shape=(-1, *kind.shape), dtype="float32", value=name) for name, kind in zip(names, types, strict=False)),
        outputs=(GraphOutput(name="y", shape=(-1, *kinds[-1].shape), value=names[-1]),),
        nodes=(Node(name="n", op=op, inputs=tuple(names[:-1]), output=names[-1]),),
        values=values,
    )


def rounded(value: Fraction) -> int:
    """Ties to even."""
    return round(value)


def clipped(value: int, low: int = -128, high: int = 127) -> int:
    return min(max(value, low), high)


ALL = np.arange(-128, 128, dtype=np.int8)
A, B = (array.reshape(1, 1, 256, 256).astype(np.int8) for array in np.meshgrid(ALL, ALL, indexing="ij"))
PAIR = TensorType(1, 256, 256)


def cases(seed: int, count: int) -> list[tuple[tuple[float, float, float], tuple[int, int, int]]]:
    r = random.Random(seed)
    extremes = [((1.0, 1.0, 1.0), (0, 0, 0)), ((0.5, 0.25, 0.125), (-128, 127, -128)), ((1e-3, 1e-3, 1.0), (5, -7, 9))]
    drawn = [
        (
            (2.0 ** r.uniform(-9, 3), 2.0 ** r.uniform(-9, 3), 0.0),
            (r.choice([-128, 127, 0, r.randint(-128, 127)]), r.choice([-128, 127, 0, r.randint(-128, 127)]), r.randint(-128, 127)),
        )
        for _ in range(count)
    ]
    return extremes + [((a, b, a * b * 2.0 ** r.uniform(-3, 8)), zero) for (a, b, _), zero in drawn]


def test_products_of_all_pairs_of_codes_are_exact() -> None:
    for scales, zero_points in cases(1, 12):
        graph = graph_of(Mul(), (PAIR, PAIR), scales, zero_points)
        stage = product_stage(graph.nodes[0], graph)
        ratio = Fraction(int(stage.multiplier[0]), 1 << int(stage.shift[0]))
        real = np.float32(scales[0]) * np.float32(scales[1]) / np.float32(scales[2])
        assert abs(float(ratio) / float(real) - 1) < 2.0**-23
        found = golden_node(graph.nodes[0], graph, A, B).reshape(-1)
        for k in range(0, 65536, 97):
            a, b = int(A.reshape(-1)[k]) - zero_points[0], int(B.reshape(-1)[k]) - zero_points[1]
            assert found[k] == clipped(rounded(a * b * ratio) + zero_points[2]), (scales, zero_points, a, b)


def test_quotients_of_all_pairs_of_codes_are_exact() -> None:
    r = random.Random(2)
    for (a_scale, b_scale, _), zero_points in cases(3, 12):
        scales = (a_scale, b_scale, a_scale / b_scale * 2.0 ** r.uniform(-7, 7))
        graph = graph_of(Div(), (PAIR, PAIR), scales, zero_points)
        stage = division_stage(graph.nodes[0], graph)
        ratio = Fraction(stage.multiplier, 1 << stage.shift)
        found = golden_node(graph.nodes[0], graph, A, B).reshape(-1)
        for k in range(0, 65536, 53):
            a, b = int(A.reshape(-1)[k]) - zero_points[0], int(B.reshape(-1)[k]) - zero_points[1]
            by_zero = zero_points[2] if a == 0 else 127 if a > 0 else -128
            wanted = clipped(rounded(ratio * a / b) + zero_points[2]) if b else by_zero
            assert found[k] == wanted, (scales, zero_points, a, b)


def test_a_tie_of_a_quotient_goes_to_the_even_code() -> None:
    graph = graph_of(Div(), (PAIR, PAIR), (1.0, 1.0, 1.0), (0, 0, 0))
    kind = TensorType(1, 1, 4)
    graph = graph_of(Div(), (kind, kind), (1.0, 1.0, 1.0), (0, 0, 0))
    a, b = (np.array(values, np.int8).reshape(1, 1, 1, 4) for values in ([1, 3, -1, -3], [2, 2, 2, 2]))
    assert golden_node(graph.nodes[0], graph, a, b).reshape(-1).tolist() == [0, 2, 0, -2]


def test_clamps_limit_products_and_quotients() -> None:
    for op in (Mul(clamp=(0.0, 20.0)), Div(clamp=(0.0, 20.0))):
        graph = graph_of(op, (PAIR, PAIR), (1.0, 1.0, 1.0), (0, 0, -10))
        found = golden_node(graph.nodes[0], graph, A, B)
        assert (int(found.min()), int(found.max())) == (-10, 10)


@pytest.mark.parametrize("shapes", [((3, 2, 7), (3, 7, 4)), ((1, 2, 300), (5, 300, 3)), ((4, 1, 1), (1, 1, 1))])
def test_matrix_products_are_exact(shapes: tuple[tuple[int, int, int], tuple[int, int, int]]) -> None:
    rng = np.random.default_rng(4)
    types = (TensorType(*shapes[0]), TensorType(*shapes[1]))
    for zero_points in ((0, 0, 0), (-128, 127, 3), (127, -128, -5)):
        graph = graph_of(MatMul(), types, (0.01, 0.02, 0.01), zero_points)
        stage = product_stage(graph.nodes[0], graph)
        a, b = (rng.integers(-128, 128, (2, *kind.shape)).astype(np.int8) for kind in types)
        found = golden_node(graph.nodes[0], graph, a, b)
        sums = np.matmul(a.astype(object) - zero_points[0], b.astype(object) - zero_points[1])
        ratio = Fraction(int(stage.multiplier[0]), 1 << int(stage.shift[0]))
        wanted = np.vectorize(lambda total, ratio=ratio, zero=zero_points[2]: clipped(rounded(total * ratio) + zero))(sums)
        assert (found == wanted).all()


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_softmax_is_exact_on_its_table_and_close_to_the_float_one(axis: int) -> None:
    rng = np.random.default_rng(axis)
    kind = TensorType(3, 5, 7)
    for scale in (1e-3, 0.05, 1.0):
        graph = graph_of(Softmax(axis=axis), (kind,), (scale, 1 / 255), (3, -128))
        table, stage = exponentials(graph.nodes[0], graph), softmax_stage(graph.nodes[0], graph)
        x = rng.integers(-128, 128, (2, *kind.shape)).astype(np.int8)
        found = np.moveaxis(golden_node(graph.nodes[0], graph, x), axis, -1).reshape(-1, kind.shape[axis - 1])
        rows = np.moveaxis(x, axis, -1).reshape(-1, kind.shape[axis - 1]).astype(int)
        ratio = Fraction(stage.multiplier, 1 << stage.shift)
        for row, result in zip(rows, found, strict=True):
            terms = [int(table[row.max() - code]) for code in row]
            assert result.tolist() == [clipped(rounded(ratio * term / sum(terms)) - 128) for term in terms]
        real = graph.nodes[0].op.reference(graph.values["v0"].quantized.dequantize(x))
        y = graph.values["v1"].quantized
        assert np.abs(y.dequantize(golden_node(graph.nodes[0], graph, x)) - real).max() <= 0.51 * float(y.scale)


def real_of(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The operator in float64 on the codes' real values, in codes of the result, not rounded."""
    op, (x_q, y_q) = graph.nodes[0].op, (graph.values[name].quantized for name in ("v0", "v1"))
    real = (x.astype(np.float64) - x_q.zero_point) * float(x_q.scale)
    if isinstance(op, Normalize):
        centered = real - real.mean(axis=op.axes, keepdims=True) if op.centered else real
        deviation = np.maximum(np.sqrt((centered**2).mean(axis=op.axes, keepdims=True) + op.epsilon), op.least)
        y = np.clip(centered / np.where(deviation > 0, deviation, 1) * op.scale + op.offset, *op.clamp)
    elif isinstance(op, LocalResponse):
        squares = np.pad(real**2, [(0, 0)] * 3 + [(op.before, op.size)])
        sums = sum(squares[..., k : k + real.shape[3]] for k in range(op.size))
        y = real * (op.bias + op.alpha / op.size * sums) ** -op.beta
    else:
        top = real.max(axis=op.axis, keepdims=True)
        y = real - top - np.log(np.exp(real - top).sum(axis=op.axis, keepdims=True))
        y = np.exp(y) if isinstance(op, Softmax) else y
    return y / float(y_q.scale) + y_q.zero_point


def assert_within_the_stated_error(graph: Graph, x: np.ndarray) -> None:
    error, found = processor_error(graph.nodes[0], graph), golden_node(graph.nodes[0], graph, x)
    assert 0 < error < 0.5
    wanted = real_of(graph, x)
    low, high = clamp_codes(getattr(graph.nodes[0].op, "clamp", UNLIMITED), graph.values["v1"].quantized)
    assert np.abs(np.clip(wanted, low, high) - found).max() <= 0.5 + error
    nearest = np.clip(np.rint(wanted), low, high)
    assert np.abs(nearest - found).max() <= 1


ONE = np.ones((1, 1, 1), np.float32)
OF_PAIRS = {  # of the two channels of a pixel
    "layer": (Normalize(axes=(3,), epsilon=1e-5, scale=ONE, offset=0 * ONE), 1 / 100),
    "layer with factors": (Normalize(axes=(3,), epsilon=0.05, scale=np.float32([[[3, -0.1]]]), offset=np.float32([[[-2, 1]]]), clamp=(-1.5, np.inf)), 1 / 40),
    "layer without epsilon": (Normalize(axes=(3,), epsilon=0.0, scale=ONE, offset=ONE), 1 / 100),
    "mean square": (Normalize(axes=(3,), epsilon=1e-5, scale=np.float32([[[1.5, -0.7]]]), offset=0 * ONE, centered=False), 1 / 100),
    "mean square, at least": (Normalize(axes=(3,), epsilon=0.0, scale=ONE, offset=ONE, centered=False, least=0.3, clamp=(0.2, np.inf)), 1 / 90),
    "mean square, without anything": (Normalize(axes=(3,), epsilon=0.0, scale=ONE, offset=0 * ONE, centered=False), 1 / 90),
    "response": (LocalResponse(size=3, alpha=0.5, beta=0.75, bias=1.0), 1 / 60),
    "steep response": (LocalResponse(size=2, alpha=4.0, beta=1.0, bias=0.01), 1 / 20),
    "softmax": (Softmax(axis=3), 1 / 255),
    "logarithm of softmax": (LogSoftmax(axis=3), 1 / 16),
}


@pytest.mark.parametrize("case", OF_PAIRS)
def test_all_pairs_of_codes_give_the_real_result_within_the_stated_error(case: str) -> None:
    op, y_scale = OF_PAIRS[case]
    x = np.stack([A, B], axis=-1).reshape(1, 256, 256, 2)
    for x_scale, zero_points in ((0.02, (0, 5)), (0.0003, (-128, -128)), (0.7, (127, 100))):
        assert_within_the_stated_error(graph_of(op, (TensorType(256, 256, 2),), (x_scale, y_scale), zero_points), x)


def test_random_normalizations_are_within_the_stated_error() -> None:
    r, rng = random.Random(5), np.random.default_rng(5)
    for _ in range(150):
        kind = TensorType(*(r.choice([1, 2, 3, 7, 40]) for _ in range(3)))
        axes = tuple(sorted(r.sample([1, 2, 3], r.randint(1, 3))))
        scale, offset = (rng.normal(size=[r.choice([1, size]) for size in kind.shape]).astype(np.float32) for _ in range(2))
        for op in (
            Normalize(axes=axes, epsilon=10 ** r.uniform(-7, -1), scale=scale, offset=offset, clamp=r.choice([UNLIMITED, (0.0, 2.0)])),
            Normalize(axes=axes, epsilon=10 ** r.uniform(-7, -1), scale=scale, offset=offset, centered=False, least=r.choice([0.0, 1e-9, 0.5])),
            LocalResponse(size=r.randint(1, 9), alpha=10 ** r.uniform(-4, 1), beta=r.choice([0.5, 0.75, 1.0]), bias=10 ** r.uniform(-1, 1)),
            LogSoftmax(axis=r.randint(1, 3)),
        ):
            x_scale, zero_points = 10 ** r.uniform(-4, 0), (r.randint(-128, 127), r.randint(-128, 127))
            y_scale = x_scale if isinstance(op, LocalResponse) else 10 ** r.uniform(-2.5, -1)
            spread = r.choice([1, 3, 255])
            x = np.clip(rng.integers(-spread, spread + 1, (2, *kind.shape)) + zero_points[0], -128, 127).astype(np.int8)
            assert_within_the_stated_error(graph_of(op, (kind,), (x_scale, y_scale), zero_points), x)


def test_the_longest_mean_does_not_overflow() -> None:
    kind = TensorType(256, 256, 1)
    x = np.where(np.arange(65536).reshape(1, 256, 256, 1) % 2, 127, -128).astype(np.int8)
    x[0, 0, 0, 0] = 127
    for codes in (x, np.full_like(x, -128), np.where(np.arange(65536).reshape(x.shape) == 7, 127, -128).astype(np.int8)):
        for op in (Normalize(axes=(1, 2), epsilon=1e-5, scale=ONE, offset=ONE, centered=centered) for centered in (True, False)):
            for zero_points in ((0, 0), (-128, 0), (127, 0)):
                assert_within_the_stated_error(graph_of(op, (kind,), (0.1, 1 / 30), zero_points), codes)


def test_long_softmax_keeps_its_error() -> None:
    """Sums of many small terms, each rounded."""
    kind = TensorType(1, 1, 50000)
    graph = graph_of(Softmax(axis=3), (kind,), (0.05, 1 / 255), (0, -128))
    x = np.full((1, 1, 1, 50000), -128, np.int8)
    x[..., 7] = 127
    assert processor_error(graph.nodes[0], graph) < 0.5
    real = graph.nodes[0].op.reference(graph.values["v0"].quantized.dequantize(x).astype(np.float64)) * 255 - 128
    assert np.abs(golden_node(graph.nodes[0], graph, x) - real).max() < 0.51


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_indices_of_extremes(largest: bool, last: bool) -> None:
    kind = TensorType(3, 4, 20)
    x = np.random.default_rng(0).integers(-3, 3, (5, *kind.shape)).astype(np.int8)
    graph = graph_of(ArgExtremum(axis=3, largest=largest, last=last), (kind,), (0.5, 0.5), (0, -100))
    found = golden_node(graph.nodes[0], graph, x)
    for place in np.ndindex(5, 3, 4):
        row = x[place].tolist()
        ends = [k for k, code in enumerate(row) if code == (max(row) if largest else min(row))]
        assert found[place][0] == clipped(2 * ends[-1 if last else 0] - 100)


def test_extremes_and_moves_keep_codes() -> None:
    graph = graph_of(Extremum(largest=True), (PAIR, PAIR), (0.5, 0.5, 0.5), (7, 7, 7))
    assert (golden_node(graph.nodes[0], graph, A, B) == np.maximum(A, B)).all()
    graph = graph_of(Extremum(largest=False), (PAIR, PAIR), (0.5, 0.5, 0.5), (7, 7, 7))
    assert (golden_node(graph.nodes[0], graph, A, B) == np.minimum(A, B)).all()
    kind = TensorType(4, 3, 2)
    op = Move(steps=(Reshape(shape=(2, 2, 3, 2)), Transpose(permutation=(0, 2, 4, 1, 3)), Take(axis=1, indices=(1, 0, 1)), Reshape(shape=(3, 4, 3))))
    x = np.random.default_rng(0).integers(-128, 128, (2, *kind.shape)).astype(np.int8)
    graph = graph_of(op, (kind,), (0.5, 0.5), (1, 1))
    found = golden_node(graph.nodes[0], graph, x)
    assert (found == x.reshape(2, -1)[:, op.sources(kind).reshape(-1)].reshape(2, 3, 4, 3)).all()


ILLEGAL = {
    "long_sum": (
        MatMul(),
        (TensorType(1, 1, 40000), TensorType(1, 40000, 1)),
        (0.1, 0.1, 1.0),
        "MatMul 'n': a sum must have at most 33025 products to fit int32, not 40000; split the matrices",
    ),
    "coarse_softmax": (Softmax(axis=3), (TensorType(1, 1, 4),), (0.1, 64.0), "Softmax 'n': the scale of its result must be at most 4, not 64; quantize again"),
    "tiny_scale_beside_epsilon": (
        Normalize(axes=(3,), epsilon=1.0, scale=np.ones((1, 1, 1), np.float32), offset=np.zeros((1, 1, 1), np.float32)),
        (TensorType(1, 1, 4),),
        (1e-10, 1.0),
        "Normalize 'n': the scale of its operand must not be so small against epsilon 1, 1.00000001e-10; quantize again",
    ),
    "tiny_scale_beside_the_least_divisor": (
        Normalize(axes=(3,), epsilon=0.0, scale=np.ones((1, 1, 1), np.float32), offset=np.zeros((1, 1, 1), np.float32), centered=False, least=1.0),
        (TensorType(1, 1, 4),),
        (1e-10, 1.0),
        "Normalize 'n': the scale of its operand must not be so small against epsilon 0 and the least divisor 1, 1.00000001e-10; quantize again",
    ),
    "tiny_scale_beside_factors": (
        Normalize(axes=(3,), epsilon=1e-5, scale=np.full((1, 1, 1), 1e30, np.float32), offset=np.zeros((1, 1, 1), np.float32)),
        (TensorType(1, 1, 4),),
        (1.0, 1e-30),
        "Normalize 'n': the scale of its result must not be so small against its factors, 1e-30; quantize again",
    ),
    "result_of_less_than_half_a_code": (
        Normalize(axes=(3,), epsilon=1e-5, scale=np.float32([[[1, 1, 1, 1e6]]]), offset=np.float32([[[1e6, 0, 0, 0]]])),
        (TensorType(1, 1, 4),),
        (1.0, 0.01),
        "Normalize 'n': its scales must give the result to half a code, not to 165",
    ),
    "response_of_immoderate_scales": (
        LocalResponse(size=3, alpha=1.0, beta=1.0),
        (TensorType(1, 1, 4),),
        (1.0, 1e-6),
        "LocalResponse 'n': its scales 1 and 9.99999997e-07 must be moderate; quantize again",
    ),
    "logarithm_of_large_values": (
        LogSoftmax(axis=3),
        (TensorType(1, 1, 4),),
        (64.0, 1.0),
        "LogSoftmax 'n': the scales 64 and 1 must be moderate; quantize again",
    ),
    "fine_product": (
        Mul(),
        (TensorType(1, 1, 4), TensorType(1, 1, 4)),
        (1024.0, 1024.0, 2.0**-10),
        "Mul 'n': the ratio of input to output scales must be below 2**24, not 1.07374182e+09; choose moderate scales",
    ),
    "extremes_of_two_scales": (
        Extremum(largest=True),
        (TensorType(1, 1, 4), TensorType(1, 1, 4)),
        (0.5, 0.25, 0.5),
        "Extremum 'n': inputs and output must share one quantization, not 0.25 / 0 and 0.5 / 0; give them equal scales and zero points",
    ),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_scales_that_cannot_be_expressed_are_refused(case: str) -> None:
    op, types, scales, message = ILLEGAL[case]
    with pytest.raises(QuantizationError) as caught:
        check_quantized(graph_of(op, types, scales, (0,) * len(scales)))
    assert str(caught.value).startswith(message)


SHAPES = {
    "mul": (Mul(), (TensorType(2, 3, 4), TensorType(2, 2, 4)), "Mul: the sizes of (2, 3, 4) and (2, 2, 4) must be equal or 1"),
    "min": (Extremum(largest=False), (TensorType(2, 3, 4), TensorType(2, 3, 5)), "Min: the sizes of (2, 3, 4) and (2, 3, 5) must be equal or 1"),
    "matmul": (MatMul(), (TensorType(2, 3, 4), TensorType(2, 3, 4)), "MatMul: (B, M, K) and (B, K, P) must agree, not (2, 3, 4) and (2, 3, 4)"),
    "batches": (MatMul(), (TensorType(2, 3, 4), TensorType(3, 4, 4)), "MatMul: (B, M, K) and (B, K, P) must agree, not (2, 3, 4) and (3, 4, 4)"),
    "softmax": (Softmax(axis=0), (TensorType(1, 1, 3),), "Softmax: axis must be 1, 2 or 3, not 0"),
    "softmax_length": (Softmax(axis=3), (TensorType(1, 1, 70000),), "Softmax: must run over at most 65536 elements, not 70000"),
    "logarithm": (LogSoftmax(axis=4), (TensorType(1, 1, 3),), "LogSoftmax: axis must be 1, 2 or 3, not 4"),
    "index": (ArgExtremum(axis=0), (TensorType(1, 1, 3),), "ArgExtremum: axis must be 1, 2 or 3, not 0"),
    "normalize_axes": (
        Normalize(axes=(2, 1), epsilon=0.1, scale=ONE, offset=ONE),
        (TensorType(2, 2, 3),),
        "Normalize: axes must be some of 1, 2, 3 in this order, not (2, 1)",
    ),
    "normalize_length": (
        Normalize(axes=(1, 2), epsilon=0.1, scale=ONE, offset=ONE),
        (TensorType(300, 300, 1),),
        "Normalize: at most 65536 elements may share a mean, not 90000",
    ),
    "normalize_epsilon": (
        Normalize(axes=(3,), epsilon=-1.0, scale=ONE, offset=ONE),
        (TensorType(2, 2, 3),),
        "Normalize: epsilon must be a number of at least 0, not -1",
    ),
    "normalize_least": (
        Normalize(axes=(3,), epsilon=0.1, scale=ONE, offset=ONE, least=0.5),
        (TensorType(2, 2, 3),),
        "Normalize: the least divisor must be a number of at least 0, and 0 where the mean is taken away, not 0.5",
    ),
    "normalize_infinite_least": (
        Normalize(axes=(3,), epsilon=0.1, scale=ONE, offset=ONE, centered=False, least=np.inf),
        (TensorType(2, 2, 3),),
        "Normalize: the least divisor must be a number of at least 0, and 0 where the mean is taken away, not inf",
    ),
    "normalize_scale": (
        Normalize(axes=(3,), epsilon=0.1, scale=np.ones((1, 1, 2), np.float32), offset=ONE),
        (TensorType(2, 2, 3),),
        "Normalize: the scale must broadcast to (2, 2, 3), not be of shape (1, 1, 2)",
    ),
    "normalize_infinity": (
        Normalize(axes=(3,), epsilon=0.1, scale=ONE, offset=np.inf * ONE),
        (TensorType(2, 2, 3),),
        "Normalize: the offset must be finite",
    ),
    "reshape": (Move(steps=(Reshape(shape=(5,)),)), (TensorType(1, 1, 6),), "Move: Reshape(shape=(5,)) must fit arrays of shape ['N', 1, 1, 6]"),
    "transpose": (
        Move(steps=(Transpose(permutation=(0, 2, 1)),)),
        (TensorType(1, 1, 6),),
        "Move: Transpose(permutation=(0, 2, 1)) must fit arrays of shape ['N', 1, 1, 6]",
    ),
    "take": (Move(steps=(Take(axis=3, indices=(6,)),)), (TensorType(1, 1, 6),), "Move: Take(axis=3, indices=(6,)) must fit arrays of shape ['N', 1, 1, 6]"),
    "rank": (Move(steps=(Reshape(shape=(6,)),)), (TensorType(1, 1, 6),), "Move: the result must have 3 dimensions without the batch, not [6]"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_operands_that_do_not_fit_are_refused(case: str) -> None:
    op, types, message = SHAPES[case]
    with pytest.raises(ModelError) as caught:
        op.infer(*types)
    assert str(caught.value) == message
