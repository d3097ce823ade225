"""Train a network with ternary weights and 4-bit activations on scikit-learn's handwritten digits; writes model.onnx, in QDQ form.

    python tools/train_ternary.py [FOLDER]        (default: examples/ternary; about a minute on one core)

The network: two convolutions, the second with stride 2, and a fully connected layer. It is trained in real numbers first, then with quantized weights and
activations, whose gradients pass as if there were no rounding (straight-through estimator: Bengio et al., arXiv 1308.3432). A weight is
ternary by its size: 0 below 0.7 times the mean of its channel, else one scale per channel with its sign (Li et al., arXiv 1605.04711, section 3).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.train_example import TEST_IMAGES, Array, Labels, begin, conv, conv_gradients, cross_entropy_gradient, digits, train

FLOAT_EPOCHS, TERNARY_EPOCHS = 15, 30
SHAPES: dict[str, tuple[int, ...]] = {"first": (16, 1, 3, 3), "second": (32, 16, 3, 3), "logits": (10, 32, 4, 4)}
LEVELS = 15  # greatest code of an activation
THRESHOLD, TAIL = 0.7, 99.7  # of weights, see above; percentile of activations that is the greatest code
LOGIT_STEP = 0.18
STRIDE = 2  # of the second convolution

Steps = dict[str, float]  # of the activations' codes, by layer; without one they stay real


def ternary(weight: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """(C_out, ...) -> codes -1, 0, 1, and scales (C_out,)."""
    size = np.abs(weight).reshape(len(weight), -1)
    large = size > THRESHOLD * size.mean(1, keepdims=True)
    scale = (size * large).sum(1) / np.maximum(large.sum(1), 1)
    return (np.sign(weight) * large.reshape(weight.shape)).astype(np.int8), scale.astype(np.float32)


def quantized(p: dict[str, Array]) -> dict[str, Array]:
    """The parameters with ternary weights."""
    result = dict(p)
    for name in SHAPES:
        codes, scale = ternary(p[name])
        result[name] = codes * scale.reshape(-1, *(1,) * (codes.ndim - 1))
    return result


def limited(x: Array, step: float | None) -> Array:
    """ReLU, and codes of 4 bits where there is a step."""
    if step is None:
        return np.maximum(x, 0)
    return np.asarray(np.clip(np.rint(x / np.float32(step)), 0, LEVELS) * np.float32(step), np.float32)


def forward(x: Array, p: dict[str, Array], steps: Steps) -> dict[str, Array]:
    """Every activation by name; x is (N, 1, 8, 8) with values 0..16. `*_sum`: before ReLU and rounding."""
    a = {"x": x}
    a["first_sum"] = conv(x, p["first"], p["first_bias"])
    a["first"] = limited(a["first_sum"], steps.get("first"))
    a["second_sum"] = conv(a["first"], p["second"], p["second_bias"])[:, :, ::STRIDE, ::STRIDE]
    a["second"] = limited(a["second_sum"], steps.get("second"))
    a["logits"] = a["second"].reshape(len(x), -1) @ p["logits"].reshape(len(p["logits"]), -1).T + p["logits_bias"]
    return a


def gradients(x: Array, y: Labels, p: dict[str, Array], steps: Steps) -> dict[str, Array]:
    """Gradient of the mean cross entropy with respect to every parameter, as if nothing were rounded."""
    a = forward(x, p, steps)

    def passes(name: str) -> npt.NDArray[np.bool_]:
        return (a[f"{name}_sum"] > 0) & (a[f"{name}_sum"] < LEVELS * steps.get(name, np.inf))

    d = cross_entropy_gradient(a["logits"], y)
    g = {"logits": (d.T @ a["second"].reshape(len(x), -1)).reshape(p["logits"].shape), "logits_bias": d.sum(0)}
    d = (d @ p["logits"].reshape(len(p["logits"]), -1)).reshape(a["second"].shape) * passes("second")
    spread = np.zeros((*d.shape[:2], *x.shape[2:]), np.float32)
    spread[:, :, ::STRIDE, ::STRIDE] = d
    d, g["second"], g["second_bias"] = conv_gradients(a["first"], p["second"], spread)
    d = d * passes("first")
    _, g["first"], g["first_bias"] = conv_gradients(x, p["first"], d)
    return g


def measured_steps(x: Array, p: dict[str, Array]) -> Steps:
    """From activations that are not rounded yet, layer after layer."""
    steps: Steps = {}
    for name in ("first", "second"):
        found = forward(x, p, steps)[name]
        steps[name] = float(np.float32(np.percentile(found[found > 0], TAIL) / LEVELS))
    return steps


def rounded_slope(steps: Steps, p: dict[str, Array], x: Array, y: Labels) -> dict[str, Array]:
    return gradients(x, y, quantized(p), steps)


def retrain(p: dict[str, Array], x: Array, y: Labels, random: np.random.Generator) -> Steps:
    """Twice: the steps are measured, then trained with, and measured again on the weights that came of it."""
    steps: Steps = {}
    for _ in range(2):
        steps = measured_steps(x, quantized(p))
        train(p, x, y, partial(rounded_slope, steps), TERNARY_EPOCHS // 2, random)
    return steps


class Writer:
    """Nodes and constants of the QDQ model."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def real(self, name: str, value: npt.ArrayLike) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def integers(self, name: str, kind: int, value: npt.NDArray[np.integer]) -> str:
        self.constants.append(numpy_helper.from_array(value.astype(helper.tensor_dtype_to_np_dtype(kind)), name))
        return name

    def rounded(self, tensor: str, step: float, kind: int, zero_point: int = 0) -> str:
        """The tensor behind QuantizeLinear and DequantizeLinear."""
        pair = [self.real(f"{tensor}.scale", step), self.integers(f"{tensor}.zero_point", kind, np.array(zero_point))]
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [tensor, *pair], f"{tensor}.codes"), *pair], f"{tensor}.rounded")

    def parameters(self, name: str, p: dict[str, Array], step: float) -> list[str]:
        """Ternary weights as INT4, and biases in units of the products, behind DequantizeLinear."""
        codes, scale = ternary(p[name])
        unit = np.float32(step) * scale
        biases = np.rint(p[f"{name}_bias"] / unit)
        weight = [self.integers(name, TensorProto.INT4, codes), self.real(f"{name}.scale", scale)]
        bias = [self.integers(f"{name}.bias", TensorProto.INT32, biases), self.real(f"{name}.unit", unit)]
        return [self.node("DequantizeLinear", operands, f"{operands[0]}.real", axis=0) for operands in (weight, bias)]


def to_onnx(p: dict[str, Array], steps: Steps) -> onnx.ModelProto:
    """Opset 21, batch symbolic, input `image` (N, 1, 8, 8), output `score` (N, 10)."""
    w = Writer()
    codes = w.rounded("image", 1.0, TensorProto.UINT8)
    for name, step, stride in (("first", 1.0, 1), ("second", steps["first"], STRIDE)):
        w.node("Conv", [codes, *w.parameters(name, p, step)], f"{name}_sum", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride])
        codes = w.rounded(w.node("Relu", [f"{name}_sum"], f"{name}_out"), steps[name], TensorProto.UINT4)
    w.node("Conv", [codes, *w.parameters("logits", p, steps["second"])], "logits_sum", kernel_shape=[4, 4])
    w.node("Flatten", [w.rounded("logits_sum", LOGIT_STEP, TensorProto.INT8)], "score")
    entry = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    result = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(w.nodes, "ternary", [entry], [result], w.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], producer_name="hwgen example", ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(logits: Array, y: Labels) -> float:
    return float((logits.argmax(1) == y).mean())


def main() -> None:
    folder, random, p = begin("examples/ternary", SHAPES)
    x, y, held, labels = digits()
    train(p, x, y, lambda p, batch, wanted: gradients(batch, wanted, p, {}), FLOAT_EPOCHS, random)
    print(f"real numbers: accuracy {accuracy(forward(held, p, {})['logits'], labels):.4f} on {TEST_IMAGES} images that were not trained on")
    print(f"rounded without retraining: {accuracy(forward(held, quantized(p), measured_steps(x, quantized(p)))['logits'], labels):.4f}")
    steps = retrain(p, x, y, random)
    print(f"ternary weights, 4-bit activations, retrained: {accuracy(forward(held, quantized(p), steps)['logits'], labels):.4f}")
    onnx.save(to_onnx(p, steps), folder / "model.onnx")


if __name__ == "__main__":
    main()
