"""Random float networks with data, for tests of the quantizer and of the ONNX forms. The same seed gives the same network."""

from __future__ import annotations

import numpy as np

from hwgen.ir.graph import Graph, GraphInput, GraphOutput, Node, Value
from hwgen.ir.host import Transpose
from hwgen.ir.types import TensorType
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import UNLIMITED, Window
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.lookup import Function, Lookup, Step, gelu, gelu_by_tanh, hard_swish, mish, swish
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.optimize import optimize
from hwgen.quantize.ranges import Observer
from hwgen.quantize.samples import Samples

RELU, RELU6 = (0.0, np.inf), (0.0, 6.0)
ELU = (Step(function=Function.ELU, parameters=(0.7,)),)
SHIFTED_SIGMOID = (Step(function=Function.OFFSET, parameters=(0.5,)), Step(function=Function.SIGMOID, operands=(1,)))
LOOKUPS = (swish(), swish(1.7), gelu(), gelu_by_tanh(), mish(), hard_swish(), ELU, SHIFTED_SIGMOID)


class FloatBuilder:
    """Adds nodes one by one over values named like their nodes."""

    def __init__(self, kind: TensorType, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.values = {"x": Value(name="x", type=kind)}
        self.nodes: list[Node] = []

    def node(self, op, *inputs: str) -> str:
        name = f"{type(op).__name__.lower()}{len(self.nodes)}"
        kind = op.infer(*(self.values[value].type for value in inputs))
        self.values[name] = Value(name=name, type=kind)
        self.nodes.append(Node(name=name, op=op, inputs=inputs, output=name, source=(name,)))
        return name

    def conv(self, x: str, channels: int, window: Window, *, group: int = 1, clamp: tuple[float, float] = UNLIMITED, gain: float = 1.0) -> str:
        shape = (channels, *window.kernel, self.values[x].type.channels // group)
        weight = self.rng.normal(size=shape) * gain / np.sqrt(np.prod(shape[1:]))
        bias = self.rng.normal(size=channels) * 0.3 * gain
        return self.node(Conv(weight=weight.astype(np.float32), bias=bias.astype(np.float32), window=window, group=group, clamp=clamp), x)

    def graph(self, *outputs: str, channels_first: bool = True) -> Graph:
        kind = self.values["x"].type
        shape = (-1, kind.channels, kind.height, kind.width) if channels_first else (-1, *kind.shape)
        steps = (Transpose(permutation=(0, 2, 3, 1)),) if channels_first else ()
        back = (Transpose(permutation=(0, 3, 1, 2)),)
        return Graph(
            name="net",
            inputs=(GraphInput(name="image", shape=shape, dtype="float32", value="x", steps=steps),),
            outputs=tuple(self._output(k, name, back) for k, name in enumerate(outputs)),
            nodes=tuple(self.nodes),
            values=self.values,
        )

    def _output(self, index: int, name: str, steps: tuple[Transpose, ...]) -> GraphOutput:
        kind = self.values[name].type
        return GraphOutput(name=f"y{index}", shape=(-1, kind.channels, kind.height, kind.width), value=name, steps=steps)


def random_float_graph(seed: int, *, tables: bool = False) -> Graph:
    """Every operator at least once over different seeds: dense, grouped and depthwise convolutions, residuals, poolings, joins; with
    `tables` a Lookup behind some of them."""
    rng = np.random.default_rng(seed)
    pick = lambda *options: options[rng.integers(len(options))]  # noqa: E731
    b = FloatBuilder(TensorType(int(rng.integers(4, 9)), int(rng.integers(4, 9)), int(rng.integers(1, 5))), seed)
    same = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    trunk = b.conv("x", int(rng.integers(2, 13)), same, clamp=pick(RELU, RELU6, UNLIMITED), gain=pick(0.01, 1.0, 30.0))
    for _ in range(int(rng.integers(1, 4))):
        channels = b.values[trunk].type.channels
        match rng.integers(7):
            case 0:
                branch = b.conv(trunk, channels, same, gain=pick(0.02, 1.0, 5.0))
                trunk = b.node(Add(clamp=pick(RELU, UNLIMITED)), trunk, branch)
            case 1:
                trunk = b.conv(trunk, channels, Window(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), group=channels, clamp=pick(RELU6, UNLIMITED))
            case 2:
                trunk = b.node(MaxPool(window=Window(kernel=(2, 2), pads=(0, 0, 1, 1)), clamp=pick(UNLIMITED, RELU)), trunk)
            case 3:
                window = Window(kernel=(2, 3), pads=(1, 1, 0, 1))
                trunk = b.node(AveragePool(window=window, counted_pads=pick((0, 0, 0, 0), window.pads)), trunk)
            case 4:
                other = b.conv(trunk, int(rng.integers(1, 5)), Window(kernel=(1, 1)), clamp=RELU)
                trunk = b.node(Concat(), trunk, other)
            case 5:
                trunk = b.node(Pad(pads=(1, 0, 2, 1), value=pick(0.0, 0.5)), trunk)
            case 6:
                trunk = b.node(Clamp(clamp=(-0.5, 1.5)), trunk)
        if tables and rng.random() < 0.6:
            trunk = b.node(Lookup(steps=LOOKUPS[rng.integers(len(LOOKUPS))]), trunk)
    kind = b.values[trunk].type
    pooled = b.node(AveragePool(window=Window(kernel=(kind.height, kind.width))), trunk)
    logits = b.conv(pooled, 5, Window(kernel=(1, 1)))
    return optimize(b.graph(logits, trunk))  # as a reader of the written model will have it


def data(graph: Graph, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {entry.name: rng.normal(size=(count, *entry.shape[1:])).astype(np.float32) for entry in graph.inputs}


def residual() -> Graph:
    """A convolution, a residual addition, an average and a classifier."""
    b, same = FloatBuilder(TensorType(8, 8, 3), 2), Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    trunk = b.conv("x", 8, same, clamp=RELU)
    trunk = b.node(Add(clamp=RELU), b.conv(trunk, 8, same), trunk)
    return b.graph(b.conv(b.node(AveragePool(window=Window(kernel=(8, 8))), trunk), 6, Window(kernel=(1, 1))))


def seen(graph: Graph, samples: Samples) -> dict[str, Observer]:
    """What calibration observes of each value, without histograms."""
    observers = {name: Observer(name, histogram=False) for name in graph.values}
    for name, observer in observers.items():
        observer.add(samples.values[name])
    return observers
