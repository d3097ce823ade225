"""Random quantized networks that go back and forth between accelerator and processor. The same seed gives the same network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from random_graphs import Builder

from hwgen.ir.graph import Graph, Value
from hwgen.ir.host import MovingStep, Reshape, Take, Transpose
from hwgen.ir.types import Quantization, TensorType
from hwgen.ops.base import Window
from hwgen.ops.elementwise import Div, Extremum, Mul
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.matmul import MatMul
from hwgen.ops.move import Move
from hwgen.ops.normalize import Normalize
from hwgen.ops.softmax import ArgExtremum, LogSoftmax, Softmax


class MixedBuilder(Builder):
    """Adds steps of the processor to those of the accelerator."""

    def near(self, scale: float) -> Quantization:
        """A quantization for results whose natural scale this is."""
        factor = 2.0 ** self.r.randint(0, 6) if not self.arithmetic.multiplier_bits else 2.0 ** self.r.uniform(0, 6)
        return Quantization(scale=np.float32(scale * factor), zero_point=self.quantization().zero_point)

    def partner(self, x: str) -> str:
        """A value that broadcasts with x: of its shape, or one number per channel (squeeze and excitation)."""
        kind = self.values[x].type
        if self.r.random() < 0.5:
            return self.same_shape(x)
        squeezed = self.conv(x, Window(kernel=(kind.height, kind.width)), kind.channels, dense=True)
        return self.clamp_node(squeezed)

    def mul(self, x: str) -> str:
        operands = [x, self.partner(x)]
        self.r.shuffle(operands)
        a, b = (self.values[name].quantized for name in operands)
        y = self.near(float(a.scale) * float(b.scale))
        return self.node(Mul(clamp=self.clamp(y)), tuple(operands), y)

    def div(self, x: str) -> str:
        operands = (x, self.partner(x))
        a, b = (self.values[name].quantized for name in operands)
        y = self.near(float(a.scale) / float(b.scale) / 64)
        return self.node(Div(clamp=self.clamp(y)), operands, y)

    def extremum(self, x: str) -> str:
        kind, q = self.values[x].type, self.values[x].quantized
        other = self.conv(x, Window(kernel=(1, 1)), kind.channels)
        self.values[other] = Value(name=other, type=self.values[other].type, quantization=q)
        self.refit(other)
        return self.node(Extremum(largest=self.r.random() < 0.5), (x, other), q)

    def matmul(self, x: str) -> str:
        """x by its own transpose."""
        kind, q = self.values[x].type, self.values[x].quantized
        turned = self.node(Move(steps=(Transpose(permutation=(0, 1, 3, 2)),)), (x,), q)
        y = self.near(float(q.scale) ** 2 * 16 * kind.channels**0.5)
        return self.node(MatMul(clamp=self.clamp(y)), (x, turned), y)

    def softmax(self, x: str) -> str:
        return self.node(Softmax(axis=self.r.randint(1, 3)), (x,), self.near(2.0**-9))

    def log_softmax(self, x: str) -> str:
        return self.node(LogSoftmax(axis=self.r.randint(1, 3)), (x,), self.near(2.0**-5))

    def arg_extremum(self, x: str) -> str:
        op = ArgExtremum(axis=self.r.randint(1, 3), largest=self.r.random() < 0.5, last=self.r.random() < 0.5)
        return self.node(op, (x,), self.near(2.0**-3))

    def normalize(self, x: str) -> str:
        """Layers, instances, or with factors of any shape; of small epsilon by the mean square, some with a least divisor."""
        kind = self.values[x].type
        axes = self.r.choice([(3,), (1, 2), tuple(sorted(self.r.sample([1, 2, 3], self.r.randint(1, 3))))])
        shapes = [(1, 1, kind.channels), tuple(self.r.choice([1, size]) for size in kind.shape)]
        scale, offset = (self.rng.normal(size=self.r.choice(shapes)).astype(np.float32) for _ in range(2))
        y = self.near(2.0**-6)
        op = Normalize(axes=axes, epsilon=10.0 ** self.r.uniform(-6, -1), scale=scale, offset=offset, clamp=self.clamp(y))
        if op.epsilon < 1e-3:
            least = float(self.values[x].quantized.scale) if op.epsilon < 1e-5 else 0.0
            op = replace(op, epsilon=0.0 if least else op.epsilon, centered=False, least=least)
        return self.node(op, (x,), y)

    def respond(self, x: str) -> str:
        q = self.values[x].quantized
        alpha = 10.0 ** self.r.uniform(-1, 1) / (64 * float(q.scale)) ** 2
        op = LocalResponse(size=self.r.choice([1, 3, 5, 7]), alpha=alpha, beta=self.r.choice([0.5, 0.75, 1.0]), bias=self.r.uniform(0.5, 2.0))
        return self.node(op, (x,), self.near(float(q.scale) / 16))

    def move(self, x: str) -> str:
        kind: TensorType = self.values[x].type
        order = (0, *self.r.sample([1, 2, 3], 3))
        axis = self.r.randint(1, 3)
        indices = tuple(self.r.randrange(kind.shape[axis - 1]) for _ in range(self.r.randint(1, 12)))
        ways: list[tuple[MovingStep, ...]] = [
            (Transpose(permutation=order),),
            (Take(axis=axis, indices=indices),),
            (Transpose(permutation=order), Reshape(shape=(1, kind.height, kind.width * kind.channels))),
        ]
        return self.node(Move(steps=self.r.choice(ways)), (x,), self.values[x].quantized)

    def grow(self, count: int) -> Graph:
        x = self.input
        accelerated = [self.conv, self.conv, self.add, self.max_pool, self.average_pool, self.concat, self.pad]
        processed = [self.mul, self.mul, self.div, self.extremum, self.matmul, self.softmax, self.move, self.move]
        processed += [self.normalize, self.normalize, self.respond, self.log_softmax, self.arg_extremum]
        for _ in range(count):
            if self.values[x].type.elements > 3000:
                break
            x = self.r.choice(self.r.choice([accelerated, processed]))(x)
        return self.finish(x)


def mixed_graph(seed: int, *, nodes: int = 5, multiplier_bits: int = 16, channels: int = 20) -> Graph:
    builder = MixedBuilder(seed, multiplier_bits=multiplier_bits, largest=6, channels=channels)
    return builder.grow(builder.r.randint(2, nodes))
