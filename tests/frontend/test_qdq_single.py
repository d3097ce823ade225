"""One operator between quantizers of another tool: ONNX Runtime's code or one beside it, and the same integers when written and read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import onnxruntime
import pytest
from foreign_models import Foreign

from hwgen.config import PRESETS
from hwgen.emit.onnx import to_qdq
from hwgen.errors import UnsupportedError
from hwgen.frontend.onnx_file import check_model
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.evaluate import from_canonical
from hwgen.ir.graph import Arithmetic, Graph
from hwgen.ops.golden import golden
from hwgen.schedule.compile import compile_network

EXACT = Arithmetic(multiplier_bits=24)
SLOPES = np.float32([0.1, -0.5, 1.7, 0.25]).reshape(4, 1, 1)
SCALE, BIAS = np.float32([1, 2, 3, 0.5]), np.float32([0, 1, -1, 0.5])


def one(operator: str, *constants: np.ndarray, scale: float = 0.0437, zero_point: int = 100, **attributes: object) -> Foreign:
    """An operator on the input and constants."""
    f = Foreign(["N", 4, 6, 6])
    f.node(operator, [f.qdq("x", 0.05, 128), *(f.const(f"c{k}", array) for k, array in enumerate(constants))], "r", **attributes)
    f.node("Identity", [f.qdq("r", scale, zero_point)], "y")
    return f


def halves(f: Foreign) -> tuple[list[str], list[str]]:
    """Two activations of two channels: codes, then real values."""
    f.qdq("x", 0.05, 128)
    codes, reals = [], []
    for k in range(2):
        ends = [f.const(f"{name}{k}", np.array([value])) for name, value in (("begin", 2 * k), ("end", 2 * k + 2), ("axis", 1))]
        codes.append(f.node("Slice", ["x_q", *ends], f"half{k}_q"))
        reals.append(f.node("DequantizeLinear", [codes[-1], "x_s", "x_z"], f"half{k}"))
    return codes, reals


def two(operator: str, scale: float = 0.0437, zero_point: int = 100) -> Foreign:
    """Of two activations."""
    f = Foreign(["N", 4, 6, 6])
    f.node(operator, halves(f)[1], "r")
    f.node("Identity", [f.qdq("r", scale, zero_point)], "y")
    return f


def integer_product() -> Foreign:
    f = Foreign(["N", 4, 6, 6])
    a, b = halves(f)[0]
    result = f.pair("m", 0.0313, 120)
    f.node("QLinearMul", [a, "x_s", "x_z", b, "x_s", "x_z", *result], "m_q", domain="com.microsoft")
    f.node("DequantizeLinear", ["m_q", *result], "y")
    return f


def limited_pool(scale: float, zero_point: int, stride: int) -> Foreign:
    f = Foreign(["N", 4, 6, 6])
    f.node("AveragePool", [f.qdq("x", 0.05, 128)], "r", kernel_shape=[1, 1], strides=[stride, stride])
    f.node("Clip", ["r", f.const("low", np.float32(-1)), f.const("high", np.float32(2))], "c")
    f.node("Identity", [f.qdq("c", scale, zero_point)], "y")
    return f


def scaled_sum(factor: np.ndarray, offset: np.ndarray) -> Foreign:
    f = Foreign(["N", 4, 6, 6])
    f.node("ReduceSum", [f.qdq("x", 0.05, 128), f.const("axes", np.array([2, 3]))], "r")
    f.node("Add", [f.node("Mul", ["r", f.const("k", factor)], "m"), f.const("o", offset)], "a")
    f.node("Identity", [f.qdq("a", 0.3737, 100)], "y")
    return f


def factors_in_codes(operator: str, **attributes: object) -> Foreign:
    f = Foreign(["N", 4, 6, 6])
    parameters = [f.weight("s", np.uint8([10, 20, 100, 5]), 0.02, np.uint8(2)), f.weight("b", np.int32([100, 200, -100, 5]), 0.01)]
    f.node("Transpose", [f.qdq("x", 0.05, 128)], "t", perm=[0, 1, 3, 2] if operator == "InstanceNormalization" else [0, 2, 3, 1])
    f.node(operator, ["t", *parameters[: 1 if operator == "RMSNormalization" else 2]], "r", **attributes)
    f.node("Identity", [f.qdq("r", 0.0437, 100)], "y")
    return f


def written_out() -> Foreign:
    """LayerNormalization as exporters write it, real between two quantizers."""
    f = Foreign(["N", 4, 6, 6])
    x = f.qdq("x", 0.05, 128)
    f.node("Sub", [x, f.node("ReduceMean", [x], "m", axes=[1])], "d")
    f.node("ReduceMean", [f.node("Pow", ["d", f.const("two", np.float32(2))], "q")], "v", axes=[1])
    f.node("Sqrt", [f.node("Add", ["v", f.const("e", np.float32(1e-3))], "ve")], "t")
    f.node("Mul", [f.node("Div", ["d", "t"], "n"), f.const("s", SCALE.reshape(4, 1, 1))], "r")
    f.node("Identity", [f.qdq("r", 0.0437, 100)], "y")
    return f


def slopes_in_codes() -> Foreign:
    f = Foreign(["N", 4, 6, 6])
    f.node("PRelu", [f.qdq("x", 0.05, 128), f.weight("s", np.int8([10, -50, 100, 25]).reshape(4, 1, 1), 0.01)], "r")
    f.node("Identity", [f.qdq("r", 0.0437, 100)], "y")
    return f


def in_the_middle(operator: str, scale: float, zero_point: int, integer: bool = False) -> Foreign:
    f = Foreign(["N", 4, 6, 6])
    x, pair = f.qdq("x", 0.05, 128), f.pair("s", scale, zero_point)
    if integer:
        f.node("QLinearSoftmax", ["x_q", "x_s", "x_z", *pair], "s_q", domain="com.microsoft", axis=1, opset=13)
    else:
        f.node("QuantizeLinear", [f.node(operator, [x], "s", axis=1), *pair], "s_q")
    f.node("MaxPool", [f.node("DequantizeLinear", ["s_q", *pair], "d")], "t", kernel_shape=[2, 2])
    f.node("Identity", [f.qdq("t", scale, zero_point)], "y")
    return f


CODES = np.random.default_rng(0).integers(-127, 128, (3, 4, 1, 1)).astype(np.int8)
ONES = np.ones((4, 1, 1, 1), np.int8)
VECTOR = np.float32([0.5, -0.2, 2]).reshape(3, 1, 1)


@dataclass
class Line:
    """A network in one line, from the quantized input to a quantized result."""

    f: Foreign = field(default_factory=lambda: Foreign(["N", 4, 6, 6]))
    current: str = ""
    count: int = 0

    def __post_init__(self) -> None:
        self.current = self.f.qdq("x", 0.05, 128)

    def then(self, operator: str, *operands: str | np.ndarray | np.float32, first: bool = False, **attributes: object) -> Line:
        """`first`: constants stand before the tensor."""
        self.count += 1
        name = f"{operator}{self.count}"
        others = [operand if isinstance(operand, str) else self.f.const(f"{name}{k}", operand) for k, operand in enumerate(operands)]
        self.current = self.f.node(operator, [*others, self.current] if first else [self.current, *others], name, **attributes)
        return self

    def rounded(self, scale: float, zero_point: int = 100) -> Line:
        self.current = self.f.qdq(self.current, scale, zero_point)
        return self

    def conv(self, bias: bool = False, codes: np.ndarray = CODES, scale: float = 0.01, **attributes: object) -> Line:
        weight = self.f.weight(f"w{self.count}", codes, scale)
        return self.then("Conv", weight, *([self.f.weight(f"b{self.count}", np.int32([900, -700, 50]), 0.05 * scale)] if bias else []), **attributes)

    def end(self, scale: float = 0.0437, zero_point: int = 100) -> Foreign:
        self.f.node("Identity", [self.rounded(scale, zero_point).current], "y")
        return self.f


C = np.float32(0.37)
FACTORS: dict[str, Callable[[], Foreign]] = {
    "softmax, factor, rounded, convolution": lambda: Line().then("Softmax", axis=1).then("Mul", C).rounded(0.37 / 255, 0).conv().end(0.005),
    "softmax, rounded, factor, convolution": lambda: Line().then("Softmax", axis=1).rounded(1 / 255, 0).then("Mul", C).conv().end(0.005),
    "softmax, quotient, rounded": lambda: Line().then("Softmax", axis=1).then("Div", C).rounded(0.02, 0).then("MaxPool", kernel_shape=[2, 2]).end(0.02, 0),
    "factor, convolution": lambda: Line().then("Mul", C).conv().end(),
    "pool, factor, convolution": lambda: Line().then("MaxPool", kernel_shape=[2, 2]).then("Mul", C, first=True).conv(bias=True).end(),
    "convolution, factor": lambda: Line().conv(bias=True).then("Mul", C).end(),
    "convolution, quotient": lambda: Line().conv(bias=True).then("Div", C).end(0.2),
    "convolution, negative factor": lambda: Line().conv(bias=True).then("Mul", -C, first=True).end(),
    "convolution, factors of channels": lambda: Line().conv(bias=True).then("Mul", VECTOR).end(),
    "convolution, factor, offset": lambda: Line().conv(bias=True).then("Mul", C).then("Add", VECTOR).end(),
    "convolution, offset, factor, limit": lambda: Line().conv().then("Add", VECTOR).then("Mul", VECTOR).then("Relu").end(0.0437, 0),
    "convolution, rounded, factor, convolution": lambda: Line().conv().rounded(0.05).then("Mul", C).conv(codes=CODES[:, :3], scale=0.02).end(0.07),
    "factor, softmax": lambda: Line().then("Mul", C).then("Softmax", axis=1).rounded(1 / 255, 0).then("Relu").end(1 / 255, 0),
    "neighbours, factor": lambda: Line().then("LRN", size=3).then("Mul", C).end(),
    "neighbours, factor, limit": lambda: Line().then("LRN", size=3).then("Mul", C).then("Relu").end(0.0437, 0),
    "average, factor": lambda: Line().then("AveragePool", kernel_shape=[2, 2]).then("Mul", C).end(),
    "sigmoid, factor": lambda: Line().then("Sigmoid").then("Mul", C).end(0.37 / 255, 0),
    "weights of one code": lambda: Line().then("LRN", size=3).rounded(0.05, 128).conv(codes=ONES, scale=0.37, group=4).then("Relu").end(0.02, 0),
}

CASES: dict[str, Callable[[], Foreign]] = {
    **FACTORS,
    "mean over channels": lambda: one("ReduceMean", scale=0.0137, axes=[1]),
    "mean over all": lambda: one("ReduceMean", scale=0.0037, axes=[1, 2, 3]),
    "sum over channels": lambda: one("ReduceSum", np.array([1]), scale=0.0937),
    "sum over rows and columns": lambda: one("ReduceSum", np.array([2, 3]), scale=0.37, keepdims=0),
    "sum with factor and offset": lambda: scaled_sum(SLOPES, SLOPES),
    "slopes": lambda: one("PRelu", SLOPES),
    "slopes of a scale": slopes_in_codes,
    "neighbours": lambda: one("LRN", size=3, alpha=0.1),
    "instances": lambda: one("InstanceNormalization", SCALE, BIAS),
    "instances, factors in codes": lambda: factors_in_codes("InstanceNormalization"),
    "layers": lambda: one("LayerNormalization", np.float32([1, 2, 3, 0.5, 1, -1]), np.float32([0, 1, -1, 0.5, 0, 0])),
    "layers, factors in codes": lambda: factors_in_codes("LayerNormalization"),
    "layers, written out": written_out,
    "mean squares, factors in codes": lambda: factors_in_codes("RMSNormalization"),
    "lengths": lambda: one("LpNormalization", scale=0.0078, zero_point=128, axis=1),
    "difference": lambda: two("Sub", scale=0.0737),
    "mean of two": lambda: two("Mean"),
    "product of codes": integer_product,
    "factor of the input": lambda: one("Mul", np.float32(1.7), scale=0.0737),
    "one pixel, limited": lambda: limited_pool(0.05, 128, 1),
    "one pixel, limited, another scale": lambda: limited_pool(0.03, 50, 1),
    "every second pixel, limited": lambda: limited_pool(0.03, 50, 2),
    "softmax": lambda: in_the_middle("Softmax", 1 / 256, 0),
    "softmax of codes": lambda: in_the_middle("Softmax", 1 / 256, 0, integer=True),
    "logarithm of softmax": lambda: in_the_middle("LogSoftmax", 0.0437, 255),
}


def real(graph: Graph, x: np.ndarray) -> np.ndarray:
    output = graph.outputs[0]
    return from_canonical(output, graph.values[output.value].quantized.dequantize(golden(graph, {"x": x})[output.value]))


@pytest.mark.parametrize("case", CASES)
def test_one_operator(case: str) -> None:
    proto = CASES[case]().model(opset={"layers": 17, "mean squares": 23}.get(case.split(",")[0], 13))
    check_model(proto, "single")
    graph = import_quantized_model(proto, "single", arithmetic=EXACT)
    x = np.random.default_rng(1).normal(size=(7, 4, 6, 6)).astype(np.float32) * 3
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (wanted,) = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    found = real(graph, x)
    difference = np.abs(found - wanted) / graph.values[graph.outputs[0].value].quantized.scale
    assert difference.max() < 1.01
    assert (difference > 0.5).mean() < 0.01
    assert len(np.unique(found)) > 4
    assert (real(import_quantized_model(to_qdq(graph), "again", arithmetic=EXACT), x) == found).all()
    compile_network(graph, replace(PRESETS["8x8"], multiplier_bits=24))


def test_a_softmax_that_means_other_dimensions_is_refused() -> None:
    f = in_the_middle("Softmax", 1 / 256, 0, integer=True)
    node = next(node for node in f.nodes if node.op_type == "QLinearSoftmax")
    next(attribute for attribute in node.attribute if attribute.name == "opset").i = 12
    message = r"QLinearSoftmax 'QLinearSoftmax_s_q': attribute opset must be of the same kind as the model's opset 13, below 13 or not, but is 12"
    with pytest.raises(UnsupportedError, match=message):
        import_quantized_model(f.model(), "single")


REFUSED: dict[str, tuple[Callable[[], Foreign], str]] = {
    "real values between three": (
        lambda: Line().then("Softmax", axis=1).then("Mul", C).conv().end(0.005),
        "Softmax 'Softmax_Softmax1': its result must be quantized, but is read as real values; quantize the whole model",
    ),
    "factor that is 0": (lambda: Line().conv().then("Mul", 0 * C).end(), "it must be multiplied by one number other than 0, or one per channel"),
    "negative factor of the input": (lambda: Line().then("Mul", -C).conv().end(), "Lookup 'Mul_Mul1': its result must be quantized"),
    "factors that vary": (lambda: Line().conv().then("Mul", np.float32(np.arange(1, 7))).end(), "Conv"),
    "offset before the convolution": (
        lambda: Line().then("MaxPool", kernel_shape=[2, 2]).then("Add", C).conv().end(),
        "its bias must come from a constant that is added to it, and from nothing else",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_factors_that_are_not_exact_are_refused(case: str) -> None:
    source, message = REFUSED[case]
    with pytest.raises(UnsupportedError) as caught:
        import_quantized_model(source().model(), "single")
    assert message in str(caught.value)
