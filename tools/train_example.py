"""Train the example network on scikit-learn's handwritten digits; writes model.onnx, calibration.npz and test.npz.

    python tools/train_example.py [FOLDER]        (default: examples/digits; about a minute on one core)

The network: convolution, then a residual block, maximum pooling, convolution, average pooling, fully connected, Softmax.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Slope = Callable[[dict[str, Array], Array, Labels], dict[str, Array]]  # parameters, images, labels -> gradients
EPOCHS, BATCH, RATE, TEST_IMAGES, CALIBRATION_IMAGES, SEED = 40, 32, 2e-3, 397, 64, 2
SHAPES = {"stem": (16, 1, 3, 3), "left": (16, 16, 3, 3), "right": (16, 16, 3, 3), "wide": (32, 16, 3, 3), "logits": (32, 10)}


def windows(x: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C * 9): the 3x3 neighbourhood of each pixel, zeros outside."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.ascontiguousarray(view.transpose(0, 2, 3, 1, 4, 5)).reshape(len(x), *x.shape[2:], -1)


def conv(x: Array, weight: Array, bias: Array) -> Array:
    return (windows(x) @ weight.reshape(len(weight), -1).T + bias).transpose(0, 3, 1, 2)


def conv_gradients(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Gradients of conv with respect to x, weight and bias."""
    rows = dy.transpose(0, 2, 3, 1).reshape(-1, len(weight))
    dweight = (rows.T @ windows(x).reshape(len(rows), -1)).reshape(weight.shape)
    turned = np.ascontiguousarray(weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    return conv(dy, turned, np.zeros(len(turned), np.float32)), dweight, rows.sum(0)


def pool_max(x: Array) -> Array:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


def forward(x: Array, p: dict[str, Array]) -> dict[str, Array]:
    """Every activation by name; x is (N, 1, 8, 8) with values 0..16."""
    a = {"x": x / np.float32(16)}
    a["stem"] = np.maximum(conv(a["x"], p["stem"], p["stem_bias"]), 0)
    a["left"] = np.maximum(conv(a["stem"], p["left"], p["left_bias"]), 0)
    a["sum"] = np.maximum(conv(a["left"], p["right"], p["right_bias"]) + a["stem"], 0)
    a["half"] = pool_max(a["sum"])
    a["wide"] = np.maximum(conv(a["half"], p["wide"], p["wide_bias"]), 0)
    a["mean"] = a["wide"].mean((2, 3))
    a["logits"] = a["mean"] @ p["logits"] + p["logits_bias"]
    return a


def cross_entropy_gradient(logits: Array, y: Labels) -> Array:
    """Of the mean cross entropy behind Softmax, with respect to the logits."""
    e = np.exp(logits - logits.max(1, keepdims=True))
    d = e / e.sum(1, keepdims=True)
    d[np.arange(len(y)), y] -= 1
    return np.asarray(d / len(y), np.float32)


def pool_gradient(x: Array, y: Array, dy: Array) -> Array:
    """Of pool_max, with respect to x; y is its result."""
    return np.repeat(np.repeat(dy, 2, 2), 2, 3) * (x == np.repeat(np.repeat(y, 2, 2), 2, 3))


def gradients(a: dict[str, Array], p: dict[str, Array], y: Labels) -> dict[str, Array]:
    """Gradient of the mean cross entropy with respect to every parameter."""
    d = cross_entropy_gradient(a["logits"], y)
    g = {"logits": a["mean"].T @ d, "logits_bias": d.sum(0)}
    d = np.broadcast_to((d @ p["logits"].T)[:, :, None, None] / np.float32(16), a["wide"].shape) * (a["wide"] > 0)
    d, g["wide"], g["wide_bias"] = conv_gradients(a["half"], p["wide"], d)
    d = pool_gradient(a["sum"], a["half"], d) * (a["sum"] > 0)
    skip = d
    d, g["right"], g["right_bias"] = conv_gradients(a["left"], p["right"], d)
    d, g["left"], g["left_bias"] = conv_gradients(a["stem"], p["left"], d * (a["left"] > 0))
    _, g["stem"], g["stem_bias"] = conv_gradients(a["x"], p["stem"], (d + skip) * (a["stem"] > 0))
    return g


def initial(shapes: dict[str, tuple[int, ...]], random: np.random.Generator) -> dict[str, Array]:
    """Weights of layers, a matrix (inputs, outputs) or (outputs, inputs, rows, columns), and biases."""
    p: dict[str, Array] = {}
    for name, shape in shapes.items():
        outputs, inputs = (shape[1], shape[0]) if len(shape) == 2 else (shape[0], int(np.prod(shape[1:])))
        p[name] = random.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)
        p[name + "_bias"] = np.zeros(outputs, np.float32)
    return p


def train(p: dict[str, Array], x: Array, y: Labels, slope: Slope, epochs: int, random: np.random.Generator) -> None:
    """Adam with a falling rate, on `p` itself; each batch is shifted by up to one pixel."""
    first, second = ({name: np.zeros_like(value) for name, value in p.items()} for _ in range(2))
    step, steps = 0, epochs * (len(x) // BATCH)
    for _ in range(epochs):
        order = random.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            batch = np.roll(x[index], random.integers(-1, 2, 2), (2, 3))
            step += 1
            for name, g in slope(p, batch, y[index]).items():
                first[name] += 0.1 * (g - first[name])
                second[name] += 0.001 * (g * g - second[name])
                scale = RATE * (1 - step / (steps + 1)) / (1 - 0.9**step)
                p[name] -= (scale * first[name] / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)).astype(np.float32)


def digits() -> tuple[Array, Labels, Array, Labels]:
    """Images (N, 1, 8, 8) of 0..16 and labels: those to train on, those to test by."""
    found = load_digits()
    order = np.random.default_rng(SEED).permutation(len(found.target))
    x, y = found.images[order, None].astype(np.float32), found.target[order].astype(np.int64)
    return x[TEST_IMAGES:], y[TEST_IMAGES:], x[:TEST_IMAGES], y[:TEST_IMAGES]


def to_onnx(p: dict[str, Array]) -> onnx.ModelProto:
    """Opset 13, batch symbolic, input `image` (N, 1, 8, 8), output `probability` (N, 10)."""
    node, pads = helper.make_node, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Div", ["image", "sixteen"], ["scaled"], "normalize"),
        node("Conv", ["scaled", "stem", "stem_bias"], ["stem_sum"], "stem", **pads),
        node("Relu", ["stem_sum"], ["stem_out"], "stem_relu"),
        node("Conv", ["stem_out", "left", "left_bias"], ["left_sum"], "left", **pads),
        node("Relu", ["left_sum"], ["left_out"], "left_relu"),
        node("Conv", ["left_out", "right", "right_bias"], ["right_out"], "right", **pads),
        node("Add", ["right_out", "stem_out"], ["block_sum"], "add"),
        node("Relu", ["block_sum"], ["block_out"], "block_relu"),
        node("MaxPool", ["block_out"], ["half"], "halve", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["half", "wide", "wide_bias"], ["wide_sum"], "wide", **pads),
        node("Relu", ["wide_sum"], ["wide_out"], "wide_relu"),
        node("GlobalAveragePool", ["wide_out"], ["mean"], "mean"),
        node("Flatten", ["mean"], ["features"], "flatten"),
        node("Gemm", ["features", "logits", "logits_bias"], ["logits_out"], "classify"),
        node("Softmax", ["logits_out"], ["probability"], "softmax", axis=1),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in {**p, "sixteen": np.float32(16)}.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "digits", [image], [probability], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="hwgen example", ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def begin(folder: str, shapes: dict[str, tuple[int, ...]]) -> tuple[Path, np.random.Generator, dict[str, Array]]:
    """The folder for the results, which the command line may name; a source of random numbers; and parameters to start from."""
    place, random = Path(sys.argv[1] if len(sys.argv) > 1 else folder), np.random.default_rng(SEED)
    place.mkdir(parents=True, exist_ok=True)
    return place, random, initial(shapes, random)


def main() -> None:
    folder, random, p = begin("examples/digits", SHAPES)
    x, y, held, labels = digits()
    train(p, x, y, lambda p, batch, wanted: gradients(forward(batch, p), p, wanted), EPOCHS, random)
    accuracy = float((forward(held, p)["logits"].argmax(1) == labels).mean())
    onnx.save(to_onnx(p), folder / "model.onnx")
    np.savez_compressed(folder / "calibration.npz", image=x[:CALIBRATION_IMAGES])
    np.savez_compressed(folder / "test.npz", image=held.astype(np.uint8), y=labels.astype(np.uint8))
    print(f"accuracy {accuracy:.4f} on {TEST_IMAGES} images that were not trained on")


if __name__ == "__main__":
    main()
