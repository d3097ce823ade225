"""Writes float ONNX networks with random weights that keep activations in range: He initialization, batch norms near the identity."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float32]
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """A tensor of the network: its ONNX name and its shape without the batch, (C, H, W) or (C,)."""

    name: str
    shape: tuple[int, ...]


def same_pads(size: int, kernel: int, stride: int) -> Pair:
    """Padding before and after so that ceil(size / stride) outputs result; the odd cell after, as TensorFlow places it."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@dataclass(kw_only=True)
class NetworkWriter:
    """Adds layers one after the other; each method returns the new activation. Weights follow from `seed` and the order of calls alone.

    `batch_norm`: convolutions have no bias and are followed by BatchNormalization, else they have a bias. `macs` counts products.
    """

    name: str
    seed: int = 0
    batch_norm: bool = True
    macs: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def _constant(self, suffix: str, value: npt.NDArray[Any]) -> str:
        name = f"c{len(self.constants)}_{suffix}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def _normal(self, shape: tuple[int, ...], deviation: float, mean: float = 0.0) -> Array:
        return (self._random.standard_normal(shape, np.float32) * np.float32(deviation) + np.float32(mean)).astype(np.float32)

    def _node(self, operator: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> Activation:
        name = f"n{len(self.nodes)}_{operator.lower()}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return Activation(name=name, shape=shape)

    def conv(self, x: Activation, channels: int, kernel: Pair, *, stride: int = 1, pads: int | None = None, depthwise: bool = False) -> Activation:
        """Convolution, with batch norm or bias. `pads` on all four sides; None: as many as `same_pads` says."""
        depth, *size = x.shape
        ends = [(pads, pads) if pads is not None else same_pads(s, k, stride) for s, k in zip(size, kernel, strict=True)]
        rows, columns = ((s + sum(p) - k) // stride + 1 for s, k, p in zip(size, kernel, ends, strict=True))
        fan_in = (1 if depthwise else depth) * math.prod(kernel)
        weight = self._constant("weight", self._normal((channels, 1 if depthwise else depth, *kernel), math.sqrt(2 / fan_in)))
        inputs = [x.name, weight] if self.batch_norm else [x.name, weight, self._constant("bias", self._normal((channels,), 0.1))]
        self.macs += rows * columns * channels * fan_in
        y = self._node(
            "Conv",
            inputs,
            (channels, rows, columns),
            kernel_shape=list(kernel),
            strides=[stride, stride],
            pads=[ends[0][0], ends[1][0], ends[0][1], ends[1][1]],
            group=depth if depthwise else 1,
        )
        return self.normalize(y) if self.batch_norm else y

    def normalize(self, x: Activation) -> Activation:
        """BatchNormalization near the identity."""
        count = x.shape[0]
        scale, variance = (np.maximum(self._normal((count,), 0.1, 1.0), np.float32(0.5)) for _ in range(2))
        offset, mean = self._normal((count,), 0.1), self._normal((count,), 0.1)
        parts = [self._constant(suffix, v) for suffix, v in (("scale", scale), ("offset", offset), ("mean", mean), ("variance", variance))]
        return self._node("BatchNormalization", [x.name, *parts], x.shape, epsilon=1e-3)

    def relu(self, x: Activation) -> Activation:
        return self._node("Relu", [x.name], x.shape)

    def relu6(self, x: Activation) -> Activation:
        limits = [self._constant(suffix, np.array(value, np.float32)) for suffix, value in (("low", 0.0), ("high", 6.0))]
        return self._node("Clip", [x.name, *limits], x.shape)

    def add(self, a: Activation, b: Activation) -> Activation:
        return self._node("Add", [a.name, b.name], a.shape)

    def concat(self, a: Activation, b: Activation) -> Activation:
        return self._node("Concat", [a.name, b.name], (a.shape[0] + b.shape[0], *a.shape[1:]), axis=1)

    def max_pool(self, x: Activation, kernel: int, *, stride: int, pads: int = 0, ceil: bool = False) -> Activation:
        rounded = math.ceil if ceil else math.floor
        size = tuple(rounded((s + 2 * pads - kernel) / stride) + 1 for s in x.shape[1:])
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pads] * 4, "ceil_mode": int(ceil)}
        return self._node("MaxPool", [x.name], (x.shape[0], *size), **attributes)

    def global_average(self, x: Activation) -> Activation:
        """(C, H, W) -> (C,)."""
        mean = self._node("GlobalAveragePool", [x.name], (x.shape[0], 1, 1))
        return self._node("Flatten", [mean.name], x.shape[:1])

    def dense(self, x: Activation, outputs: int, *, gain: float = 2.0) -> Activation:
        """Fully connected with bias."""
        (inputs,) = x.shape
        weight = self._constant("weight", self._normal((inputs, outputs), math.sqrt(gain / inputs)))
        bias = self._constant("bias", self._normal((outputs,), 0.1))
        self.macs += inputs * outputs
        return self._node("Gemm", [x.name, weight, bias], (outputs,))

    def model(self, x: Activation, y: Activation) -> onnx.ModelProto:
        """The whole network from input `x` to output `y`, batch symbolic, opset 13."""
        first, last = (helper.make_tensor_value_info(a.name, TensorProto.FLOAT, ["N", *a.shape]) for a in (x, y))
        graph = helper.make_graph(self.nodes, self.name, [first], [last], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="hwgen seeded networks", ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model
