"""Random small networks mean to hwgen what they mean to ONNX Runtime, before and after optimization."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import assert_equal_to_onnxruntime, model, node, normal, shape_of


class Network:
    """Grows a network from drawn choices; `shape` is (C, H, W) of the newest tensor."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Any] = {}
        self.shape = tuple(draw(st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))))
        self.input = self.shape
        self.newest = "x"
        self.seen = [("x", self.shape)]

    def choose(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def add(self, operator: str, *inputs: str, shape: tuple[int, ...] | None = None, **attributes: Any) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(node(operator, inputs or [self.newest], name, **attributes))
        self.newest, self.shape = name, shape or self.shape
        self.seen.append((name, self.shape))

    def window(self, kernel: tuple[int, int], dilation: int, pool: bool) -> tuple[dict[str, Any], tuple[int, int]] | None:
        """Attributes and the output's rows and columns; None when the kernel does not fit."""
        strides = [self.choose(1, 2, 3), self.choose(1, 2)]
        largest = [size - 1 if pool else 3 for size in kernel]
        pads = [self.draw(st.integers(0, min(largest[i % 2], 3))) for i in range(4)]
        spans = [self.shape[1 + i] + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilation - 1 for i in (0, 1)]
        if min(spans) < 0:
            return None
        attributes = {"strides": strides, "pads": pads} | ({} if dilation == 1 else {"dilations": [dilation, dilation]})
        return attributes, (spans[0] // strides[0] + 1, spans[1] // strides[1] + 1)

    def conv(self) -> None:
        channels = self.shape[0]
        group = self.choose(*(g for g in range(1, channels + 1) if channels % g == 0))
        outputs = group * self.draw(st.integers(1, 3))
        kernel = (self.choose(1, 2, 3), self.choose(1, 2, 3))
        found = self.window(kernel, self.choose(1, 1, 2), pool=False)
        if found is not None:
            weight = self.constant(normal(outputs, channels // group, *kernel))
            bias = [self.constant(normal(outputs))] if self.choose(True, False) else []
            self.add("Conv", self.newest, weight, *bias, shape=(outputs, *found[1]), group=group, **found[0])

    def pool(self) -> None:
        kernel = (self.choose(1, 2, 3), self.choose(1, 2, 3))
        found = self.window(kernel, 1, pool=True)
        if found is not None:
            operator = self.choose("MaxPool", "AveragePool")
            extra = {"count_include_pad": self.choose(0, 1)} if operator == "AveragePool" else {}
            self.add(operator, shape=(self.shape[0], *found[1]), kernel_shape=list(kernel), **extra, **found[0])

    def pointwise(self) -> None:
        operator = self.choose("Relu", "Clip", "Add", "Sub", "Mul", "BatchNormalization", "Identity")
        channels = self.shape[0]
        if operator == "Clip":
            self.add("Clip", self.newest, self.constant(np.float32(-0.5)), self.constant(np.float32(0.7)))
        elif operator == "BatchNormalization":
            parameters = [normal(channels), normal(channels, seed=1), normal(channels, seed=2), np.abs(normal(channels, seed=3)) + 0.1]
            self.add(operator, self.newest, *(self.constant(parameter) for parameter in parameters))
        elif operator in ("Relu", "Identity"):
            self.add(operator)
        else:
            operands = [self.newest, self.constant(normal(*self.choose((channels, 1, 1), (1, channels, 1, 1), (1,), ())))]
            self.add(operator, *(operands if self.choose(True, False) else operands[::-1]))

    def join(self) -> None:
        """A residual addition or a concatenation with an earlier tensor of the same shape."""
        name = self.choose(*(name for name, shape in self.seen if shape == self.shape))
        if self.choose(True, False):
            self.add("Add", self.newest, name)
        elif self.shape[0] <= 12:
            axis = self.choose(1, 2, 3)
            shape = tuple(size * (2 if i + 1 == axis else 1) for i, size in enumerate(self.shape))
            self.add("Concat", self.newest, name, axis=axis, shape=shape)

    def pad(self) -> None:
        pads = [self.draw(st.integers(0, 2)) for _ in range(4)]
        shape = (self.shape[0], self.shape[1] + pads[0] + pads[2], self.shape[2] + pads[1] + pads[3])
        self.add("Pad", self.newest, self.constant(shape_of(0, 0, *pads[:2], 0, 0, *pads[2:])), shape=shape)

    def finish(self) -> onnx.ModelProto:
        """Perhaps a flattening, in either order of dimensions, and a fully connected layer."""
        if self.choose(True, False):
            if self.choose(True, False):
                self.add("Transpose", perm=[0, 2, 3, 1])
            self.add("Flatten")
            self.add("Gemm", self.newest, self.constant(normal(int(np.prod(self.shape)), 3)), self.constant(normal(3)))
            if self.choose(True, False):
                self.add("Softmax", axis=1)
        self.add("Identity")
        return model(self.nodes, {"x": ["N", *self.input]}, self.constants, outputs=[self.newest])


@st.composite
def networks(draw: Any) -> onnx.ModelProto:
    network = Network(draw)
    network.conv()
    for _ in range(draw(st.integers(0, 7))):
        network.choose(network.conv, network.conv, network.pool, network.pointwise, network.pointwise, network.join, network.pad)()
    network.add("Relu")
    return network.finish()


@given(networks())
@settings(max_examples=150, deadline=None)
def test_random_network(proto: onnx.ModelProto) -> None:
    assert_equal_to_onnxruntime(proto, tolerance=1e-4)
