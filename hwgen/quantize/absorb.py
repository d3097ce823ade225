"""Absorption of high biases: what a channel always lies above zero moves into the next layer, so that its range needs not hold it.

Source: Nagel et al., "Data-Free Quantization", ICCV 2019, section 4.1.3; the offset is the least value seen, so that the activation function
between the layers is linear for every sample; without data the mean less three standard deviations, where batch normalization tells them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwgen.ir.graph import Graph
from hwgen.ops.base import channel_limits
from hwgen.ops.conv import Conv
from hwgen.optimize.rewrite import with_node
from hwgen.quantize.samples import Channels, Samples
from hwgen.quantize.streams import Stream, by_input, streams


def absorb(graph: Graph, samples: Samples) -> tuple[Graph, Samples]:
    """The network, and its values, with offsets moved; the same objects where no channel has one."""
    for stream in streams(graph, additions=False):
        if not _movable(graph, stream):
            continue
        name = stream.writers[0]
        offset = _offset(graph, samples, name)
        if offset.any():
            graph = _moved(graph, stream, offset)
            values = {**samples.values, name: (samples.values[name] - offset).astype(np.float32)}
            samples = replace(samples, values=values)
    return graph, samples


def _offset(graph: Graph, samples: Samples, name: str) -> Channels:
    """(C,) what each channel always lies above zero."""
    writer, value = graph.producer(name), samples.values[name]
    least = value.min(axis=(0, 1, 2)).astype(np.float64)
    if samples.made_up:
        assert writer is not None and isinstance(writer.op, Conv)
        moments = writer.op.moments
        least = np.zeros(value.shape[3]) if moments is None else np.minimum(moments[0] - 3.0 * moments[1], least)
    offset: Channels = np.maximum(least, 0.0)
    return offset


def _movable(graph: Graph, stream: Stream) -> bool:
    """One convolution with ReLU, read by convolutions that pad nothing (padding would have to become the offset)."""
    writer, readers = graph.producer(stream.writers[0]), [graph.producer(name) for name in stream.readers]
    if len(stream.values) != 1 or writer is None or not isinstance(writer.op, Conv) or np.any(writer.op.clamp[0]):
        return False
    return all(node is not None and isinstance(node.op, Conv) and not any(node.op.window.pads) for node in readers)


def _moved(graph: Graph, stream: Stream, offset: Channels) -> Graph:
    for node in graph.nodes:
        op = node.op
        if not isinstance(op, Conv):
            continue
        if node.output in stream.writers:
            low, high = op.clamp
            clamp = (low, channel_limits(np.broadcast_to(np.asarray(high, np.float64) - offset, offset.shape)))
            graph = with_node(graph, replace(node, op=replace(op, bias=(op.bias - offset).astype(np.float32), clamp=clamp, moments=None)))
        if node.output in stream.readers:
            added = (op.weight * by_input(op, offset)).sum(axis=(1, 2, 3))
            graph = with_node(graph, replace(node, op=replace(op, bias=(op.bias + added).astype(np.float32))))
    return graph
