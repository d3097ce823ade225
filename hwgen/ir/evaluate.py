"""The float meaning of a graph, on whole data sets: what every later stage is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hwgen.blas import single_threaded
from hwgen.errors import DataError
from hwgen.ir.graph import Graph, GraphInput, GraphOutput
from hwgen.ir.host import HostStep, Softmax, run_steps
from hwgen.ir.types import FloatArray

BLOCK_BYTES = 1 << 22  # of one node's operands and patches: fits a cache, and is large enough for BLAS (ResNet-8: 1.4 times as fast as 16 MiB)


def evaluate(graph: Graph, arrays: Mapping[str, FloatArray], *, outside: bool = True, softmax: bool = True) -> dict[str, FloatArray]:
    """Run the float graph on the user's arrays, by input name, each (N, ...) as the ONNX model wants them.

    With `outside`: the outputs by output name, as the ONNX model returns them (without a final Softmax if `softmax` is false: the logits).
    Else: every value by value name, channels-last (N, H, W, C). Raises DataError when the arrays do not fit the inputs.
    """
    feeds = {graph_input.value: to_canonical(graph_input, array_of(graph_input, arrays)) for graph_input in graph.inputs}
    count = require_one_batch(feeds)
    parts: dict[str, list[FloatArray]] = {}
    for block in blocks(graph, count):
        with single_threaded():
            values = _run(graph, {name: feed[block] for name, feed in feeds.items()})
        if outside:
            values = {output.name: from_canonical(output, values[output.value], softmax=softmax) for output in graph.outputs}
        for name, value in values.items():
            parts.setdefault(name, []).append(value)
    return {name: np.concatenate(part) for name, part in parts.items()}


def array_of(graph_input: GraphInput, arrays: Mapping[str, FloatArray]) -> FloatArray:
    """The array of one input. Raises DataError when it is missing or misshapen."""
    if graph_input.name not in arrays:
        raise DataError(f"input {graph_input.name!r}: needs an array of shape {_shape_text(graph_input)}; given are {', '.join(sorted(arrays)) or 'none'}")
    array = np.asarray(arrays[graph_input.name])
    if array.shape[1:] != graph_input.shape[1:] or array.ndim != len(graph_input.shape):
        raise DataError(f"input {graph_input.name!r}: must have shape {_shape_text(graph_input)}, not {list(array.shape)}")
    if array.dtype.kind not in "fiub":
        raise DataError(f"input {graph_input.name!r}: must hold numbers, not {array.dtype}")
    if not len(array):
        raise DataError(f"input {graph_input.name!r}: must hold at least one input, but the batch is empty")
    return array


def require_one_batch(feeds: Mapping[str, FloatArray]) -> int:
    """The common batch size. Raises DataError when the arrays differ in it."""
    counts = {name: len(feed) for name, feed in feeds.items()}
    if len(set(counts.values())) != 1:
        raise DataError(f"inputs: must hold equally many inputs each, not {counts}")
    return next(iter(counts.values()))


def to_canonical(graph_input: GraphInput, array: FloatArray) -> FloatArray:
    """The user's array (N, ...) as float32 (N, H, W, C)."""
    return run_steps(graph_input.steps, np.asarray(array, np.float32))


def from_canonical(output: GraphOutput, array: FloatArray, *, softmax: bool = True) -> FloatArray:
    """Real (N, H, W, C) as the ONNX model returns it; without `softmax` the Softmax steps are skipped."""
    return run_steps(output.steps if softmax else without_softmax(output.steps), array)


def without_softmax(steps: tuple[HostStep, ...]) -> tuple[HostStep, ...]:
    return tuple(step for step in steps if not isinstance(step, Softmax))


def blocks(graph: Graph, count: int) -> Iterator[slice]:
    """The batch in parts whose largest node needs about BLOCK_BYTES."""
    largest = 1
    for node in graph.nodes:
        inputs = graph.input_types(node)
        output = graph.values[node.output].type
        patches = node.op.work(*inputs) // output.channels
        largest = max(largest, sum(kind.elements for kind in inputs) + output.elements + patches)
    size = max(1, BLOCK_BYTES // (4 * largest))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _run(graph: Graph, values: dict[str, FloatArray]) -> dict[str, FloatArray]:
    with np.errstate(over="ignore", invalid="ignore"):  # infinities stay visible in the result; whoever needs finite values checks them
        for node in graph.nodes:
            values[node.output] = node.op.reference(*(values[name] for name in node.inputs))
    return values


def _shape_text(graph_input: GraphInput) -> str:
    return "[" + ", ".join("N" if size < 0 else str(size) for size in graph_input.shape) + "]"
