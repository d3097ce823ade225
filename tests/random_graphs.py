"""Random quantized networks for tests: odd shapes, all operators, extreme scales. The same seed gives the same network."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import numpy as np

from hwgen.arith import Rounding
from hwgen.errors import ModelError
from hwgen.ir.graph import Arithmetic, Graph, GraphInput, GraphOutput, Node, Value
from hwgen.ir.types import Quantization, TensorType
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import UNLIMITED, Window
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.lookup import Function, Lookup, Step, gelu, hard_swish, mish, swish
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.ops.resize import Resize
from hwgen.ops.slice import Slice
from hwgen.packing import WeightFormat


class Builder:
    """Grows a network node by node; every choice comes from one seeded generator."""

    def __init__(
        self,
        seed: int,
        *,
        multiplier_bits: int = 16,
        rounding: Rounding = Rounding.HALF_EVEN,
        largest: int = 10,
        channels: int = 40,
        tables: bool = False,
        moves: bool = False,
        gaps: bool = False,
    ) -> None:
        self.r = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.arithmetic = Arithmetic(multiplier_bits=multiplier_bits, rounding=rounding)
        self.largest_channels = channels
        self.tables, self.moves, self.gaps = tables, moves, gaps
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        kind = TensorType(self.r.randint(1, largest), self.r.randint(1, largest), self.channels())
        self.input = self.value(kind, self.quantization())

    def channels(self) -> int:
        return self.r.choice([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, self.r.randint(1, self.largest_channels)])

    def quantization(self) -> Quantization:
        exponent = self.r.randint(-8, 2)
        scale = 2.0**exponent if not self.arithmetic.multiplier_bits else 2.0**exponent * self.r.uniform(1, 2)
        zero_point = self.r.choice([-128, 127, 0, self.r.randint(-128, 127)]) if self.arithmetic.multiplier_bits else 0
        return Quantization(scale=np.float32(scale), zero_point=zero_point)

    def value(self, kind: TensorType, quantization: Quantization) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = Value(name=name, type=kind, quantization=quantization)
        return name

    def clamp(self, quantization: Quantization) -> tuple[float, float]:
        top = float(quantization.scale) * self.r.choice([6, 60, 400])
        return self.r.choice([UNLIMITED, UNLIMITED, (0.0, np.inf), (0.0, top), (-top, top)])

    def node(self, op: object, inputs: tuple[str, ...], quantization: Quantization) -> str:
        kind = op.infer(*(self.values[name].type for name in inputs))
        output = self.value(kind, quantization)
        self.nodes.append(Node(name=f"n{len(self.nodes)}", op=op, inputs=inputs, output=output))
        return output

    def window(self, kind: TensorType, *, dilated: bool = True, small_pads: bool = False) -> Window:
        """A window that fits; kernels may be larger than the image, pads asymmetric."""
        while True:
            kernel = (self.r.choice([1, 1, 2, 3, 3, 5, self.r.randint(1, 7)]), self.r.choice([1, 1, 2, 3, 3, 5, self.r.randint(1, 7)]))
            dilations = (self.r.choice([1, 1, 2, 3]), self.r.choice([1, 1, 2, 3, 4])) if dilated else (1, 1)
            limit = (kernel[0] - 1, kernel[1] - 1) if small_pads else (3, 3)
            pads = tuple(self.r.choice([0, self.r.randint(0, limit[k % 2])]) for k in range(4))
            window = Window(kernel=kernel, strides=(self.r.choice([1, 1, 2, 3]), self.r.choice([1, 1, 2, 3])), pads=pads, dilations=dilations)
            if min(window.output_size(kind.height, kind.width)) >= 1:
                return window

    def transposed(self, x: str) -> str:
        """A transposed convolution; what its kernel leaves out, and what its padding cuts off, included."""
        kind = self.values[x].type
        while True:
            kernel = (self.r.randint(1, 5), self.r.randint(1, 5))
            dilations, spread = (self.r.choice([1, 1, 2]), self.r.choice([1, 1, 2])), (self.r.choice([1, 2, 2, 3]), self.r.choice([2, 2, 3]))
            extent = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
            pads = tuple(self.r.choice([extent[k % 2] - 1, self.r.randint(0, extent[k % 2] - 1 + k // 2)]) for k in range(4))
            window = Window(kernel=kernel, pads=pads, dilations=dilations)
            with contextlib.suppress(ModelError):
                Conv(weight=np.zeros((1, *kernel, kind.channels)), bias=np.zeros(1), window=window, spread=spread).infer(kind)
                return self.conv(x, window, self.r.choice([1, 3, self.channels()]), dense=True, spread=spread)

    def conv(
        self,
        x: str,
        window: Window | None = None,
        channels: int | None = None,
        *,
        dense: bool = False,
        depthwise: bool = False,
        groups: int = 0,
        spread: tuple[int, int] = (1, 1),
    ) -> str:
        kind, source = self.values[x].type, self.values[x].quantized
        window = window or self.window(kind)
        group = self.r.choice([1, 1, 1, kind.channels, self.r.choice([g for g in range(1, kind.channels + 1) if kind.channels % g == 0])])
        outputs = channels or (group * self.r.choice([1, 1, 1, 2]) if group > 1 else self.channels())
        group = group if outputs % group == 0 and not dense else 1
        if depthwise or groups:
            group, outputs = groups or kind.channels, outputs if groups else kind.channels
        weight = self.rng.integers(-128, 128, (outputs, *window.kernel, kind.channels // group)).astype(np.int8)
        if self.r.random() < 0.2:
            weight[self.rng.integers(0, outputs)] = 0
        y = self.quantization()  # with multiplier_bits 0 the ratios below stay under one
        reach = max(1.0, float(np.sqrt(weight[0].size)) * 70 * 60)
        ratio = 2.0 ** self.rng.integers(-3, 4, outputs) * self.rng.uniform(0.5, 1, outputs) * 100 / reach
        if not self.arithmetic.multiplier_bits:
            ratio = 2.0 ** np.floor(np.log2(ratio))
        scale = (ratio * float(y.scale) / float(source.scale)).astype(np.float32)
        bias = self.rng.integers(-20000, 20000, outputs).astype(np.int32)
        return self.node(Conv(weight=weight, bias=bias, window=window, group=group, clamp=self.clamp(y), weight_scale=scale, spread=spread), (x,), y)

    def same_shape(self, x: str) -> str:
        """A value of x's shape: x itself or a convolution of it."""
        kind = self.values[x].type
        return self.r.choice([x, self.conv(x, Window(kernel=(3, 3), pads=(1, 1, 1, 1)), kind.channels), self.conv(x, Window(kernel=(1, 1)), kind.channels)])

    def add(self, x: str) -> str:
        a, b, y = self.same_shape(x), self.same_shape(x), self.quantization()
        largest = max(self.values[name].quantized.scale for name in (a, b))
        if not self.arithmetic.multiplier_bits:
            y = Quantization(scale=np.float32(largest * 2.0 ** self.r.randint(0, 3)), zero_point=0)
        elif self.r.random() < 0.3:  # a residual scale above 128 times the output's
            y = Quantization(scale=np.float32(largest / self.r.uniform(128, 250)), zero_point=y.zero_point)
        else:
            y = Quantization(scale=np.float32(largest * self.r.uniform(0.1, 4)), zero_point=y.zero_point)
        return self.node(Add(clamp=self.clamp(y)), self.r.choice([(a, b), (b, a)]), y)

    def pooling_window(self, kind: TensorType, *, dilated: bool) -> Window:
        """A window that meets the image everywhere."""
        while True:
            window = self.window(kind, dilated=dilated, small_pads=True)
            with contextlib.suppress(ModelError):
                MaxPool(window=window).infer(kind)
                return window

    def max_pool(self, x: str) -> str:
        q = self.values[x].quantized
        return self.node(MaxPool(window=self.pooling_window(self.values[x].type, dilated=True), clamp=self.clamp(q)), (x,), q)

    def average_pool(self, x: str) -> str:
        kind, q = self.values[x].type, self.quantization()
        if not self.arithmetic.multiplier_bits:  # shifts divide by powers of two only
            kernel = (min(2, kind.height), min(2, kind.width))
            q = Quantization(scale=np.float32(self.values[x].quantized.scale / self.r.choice([1, kernel[0] * kernel[1]])), zero_point=0)
            return self.node(AveragePool(window=Window(kernel=kernel, strides=kernel)), (x,), q)
        q = Quantization(scale=np.float32(self.values[x].quantized.scale * 2 ** self.r.uniform(-6, 3)), zero_point=q.zero_point)
        if self.r.random() < 0.4:
            return self.node(AveragePool(window=Window(kernel=(kind.height, kind.width))), (x,), q)
        window = self.pooling_window(kind, dilated=False)
        return self.node(AveragePool(window=window, counted_pads=self.r.choice([(0, 0, 0, 0), window.pads]), clamp=self.clamp(q)), (x,), q)

    def clamp_node(self, x: str) -> str:
        q = self.values[x].quantized
        return self.node(Clamp(clamp=self.clamp(q)), (x,), q)

    def lookup(self, x: str) -> str:
        """A table, behind anything; the range of its result fits its steps or does not."""
        sigmoid, tanh, absolute = (Step(function=function) for function in (Function.SIGMOID, Function.TANH, Function.ABS))
        leaky = Step(function=Function.LEAKY_RELU, parameters=(self.r.uniform(-0.5, 0.9),))
        steps = self.r.choice([(sigmoid,), (tanh,), (absolute,), (leaky,), swish(), gelu(), mish(), hard_swish()])
        return self.node(Lookup(steps=steps), (x,), self.quantization())

    def slice(self, x: str) -> str:
        """Rows, columns or channels, one or several of them."""
        kind = self.values[x].type
        starts, counts, steps = [], [], []
        for size in kind.shape:
            start, step = (self.r.randint(0, size - 1), self.r.choice([1, 1, 2, 3])) if self.r.random() < 0.5 else (0, 1)
            most = (size - start - 1) // step + 1
            starts.append(start)
            counts.append(self.r.choice([most, most, self.r.randint(1, most)]))
            steps.append(step)
        return self.node(Slice(starts=tuple(starts), counts=tuple(counts), steps=tuple(steps)), (x,), self.values[x].quantized)

    def resize(self, x: str) -> str:
        if self.values[x].type.channels % 4 == 0 and self.r.random() < 0.7:
            return self.node(DepthToSpace(block=2, together=self.r.random() < 0.5), (x,), self.values[x].quantized)
        return self.node(Resize(factors=(self.r.choice([1, 2, 2, 3]), self.r.choice([1, 2, 2, 4]))), (x,), self.values[x].quantized)

    def pad(self, x: str) -> str:
        q = self.values[x].quantized
        pads = tuple(self.r.randint(0, 2) for _ in range(4))
        return self.node(Pad(pads=pads, value=float(q.scale) * self.r.choice([0, 5])), (x,), q)

    def concat(self, x: str) -> str:
        """Branches from x, brought to one quantization, joined along any axis."""
        q, axis = self.values[x].quantized, self.r.choice([0, 1, 2, 2, 2])
        kind = self.values[x].type
        branches = [x]
        for _ in range(self.r.randint(1, 2)):
            b = self.conv(x, Window(kernel=(1, 1)), self.channels() if axis == 2 else kind.channels)
            self.values[b] = Value(name=b, type=self.values[b].type, quantization=q)
            self.refit(b)
            branches.append(b)
        self.r.shuffle(branches)
        return self.node(Concat(axis=axis), tuple(branches), q)

    def refit(self, name: str) -> None:
        """Choose the weight scale of the convolution that makes `name` again, after its quantization changed."""
        index = next(k for k, n in enumerate(self.nodes) if n.output == name)
        node, y = self.nodes[index], self.values[name].quantized
        op = node.op
        source = self.values[node.inputs[0]].quantized
        ratio = np.full(op.channels, 2.0**-8)
        scale = (ratio * float(y.scale) / float(source.scale)).astype(np.float32)
        fixed = Conv(weight=op.weight, bias=op.bias, window=op.window, group=op.group, clamp=UNLIMITED, weight_scale=scale)
        self.nodes[index] = Node(name=node.name, op=fixed, inputs=node.inputs, output=node.output)

    def grow(self, count: int) -> Graph:
        x = self.input
        steps = [self.conv, self.conv, self.conv, self.add, self.add, self.max_pool, self.average_pool, self.concat, self.clamp_node, self.pad]
        steps += [self.lookup] * 4 if self.tables else []
        steps += [self.slice] * 3 if self.moves else []
        steps += [self.resize, self.resize, self.transposed, self.transposed, self.transposed] if self.gaps else []
        for _ in range(count):
            if self.values[x].type.elements > 6000:
                break
            x = self.r.choice(steps)(x)
        return self.finish(x)

    def finish(self, x: str) -> Graph:
        used = {name for node in self.nodes for name in node.inputs}
        extra = [node.output for node in self.nodes if node.output not in used and node.output != x]
        kind = self.values[self.input].type
        outputs = tuple(GraphOutput(name=f"out{k}", shape=(-1, *self.values[v].type.shape), value=v) for k, v in enumerate([x, *extra]))
        return Graph(
            name="random",
            inputs=(GraphInput(name="x", shape=(-1, *kind.shape), dtype="float32", value=self.input),),
            outputs=outputs,
            nodes=tuple(self.nodes),
            values=self.values,
            arithmetic=self.arithmetic,
        )


def random_graph(
    seed: int,
    *,
    nodes: int = 4,
    multiplier_bits: int = 16,
    rounding: Rounding = Rounding.HALF_EVEN,
    tables: bool = False,
    moves: bool = False,
    gaps: bool = False,
) -> Graph:
    """`tables`, `moves`, `gaps`: whether functions of one value, parts of an image, enlargements may be among the nodes."""
    builder = Builder(seed, multiplier_bits=multiplier_bits, rounding=rounding, tables=tables, moves=moves, gaps=gaps)
    return builder.grow(builder.r.randint(1, nodes))


def with_few_bits(graph: Graph, seed: int = 0) -> Graph:
    """The same network with weights of any format, a convolution each."""
    rng = np.random.default_rng(seed)
    nodes = []
    for node in graph.nodes:
        kind = WeightFormat(int(rng.integers(len(WeightFormat))))
        if isinstance(node.op, Conv) and kind is not WeightFormat.INT8:
            levels = [level for level in range(kind.low, kind.high + 1) if level or kind is not WeightFormat.BINARY]
            node = replace(node, op=replace(node.op, weight=rng.choice(np.array(levels, np.int8), node.op.weight.shape)))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def with_wide_weights(graph: Graph, seed: int = 0) -> Graph:
    """The same network with 9-bit weights, as 8-bit codes less a zero point are, in all convolutions but some."""
    rng = np.random.default_rng(seed)
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, Conv) and rng.random() < 0.8:
            codes, zero_point = rng.integers(0, 256, node.op.weight.shape), rng.choice([0, 1, 100, 140, 255])
            node = replace(node, op=replace(node.op, weight=(codes - zero_point).astype(np.int16)))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def separable(seed: int) -> Graph:
    """A convolution of any window, and behind it one channel by channel; larger than small buffers."""
    builder = Builder(seed)
    builder.values.clear()
    r = builder.r
    shape = TensorType(r.randint(6, 24), r.randint(4, 12), r.choice([3, 16, 20, 32]))
    image = builder.input = builder.value(shape, builder.quantization())
    first = Window(kernel=(1, 1)) if r.random() < 0.5 else builder.window(shape, small_pads=True)
    channels = 8 * r.randint(2, 6) if shape.channels % 8 == 0 else r.randint(1, 24)
    middle = builder.conv(image, first, channels, dense=r.random() < 0.4)
    return builder.finish(builder.conv(middle, builder.window(builder.values[middle].type), depthwise=True))
