"""What can be known of a network's values without data: made-up inputs over the range of the inputs, run through the float network, and
moved to the statistics of batch normalization wherever these were kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwgen.errors import DataError
from hwgen.ir.evaluate import to_canonical
from hwgen.ir.graph import Graph, GraphInput
from hwgen.ir.types import FloatArray
from hwgen.ops.base import UNLIMITED, limit
from hwgen.ops.conv import Conv
from hwgen.quantize.options import QuantizeOptions
from hwgen.quantize.samples import MOST_BYTES, Samples

INPUTS = 32
GREATEST_CONTRAST = 3.0  # of made-up inputs; 1: only single elements reach the ends of the range
SMOOTH_AXIS = 8  # axes at least this long are taken as space or time, along which natural data are smooth


def make_up(graph: Graph, options: QuantizeOptions) -> Samples:
    """Samples without data, the same on every run. Raises DataError where the range of an input is not known."""
    per_input = 4 * sum(value.type.elements for value in graph.values.values())
    count = max(2, min(INPUTS, MOST_BYTES // per_input))
    arrays = {entry.name: _fields(entry, input_range(entry, options), count, seed) for seed, entry in enumerate(graph.inputs)}
    values = {entry.value: to_canonical(entry, arrays[entry.name]) for entry in graph.inputs}
    with np.errstate(over="ignore", invalid="ignore"):
        for node in graph.nodes:
            operands = [values[name] for name in node.inputs]
            if isinstance(node.op, Conv) and node.op.moments is not None:
                values[node.output] = limit(moved(replace(node.op, clamp=UNLIMITED).reference(*operands), node.op.moments), node.op.clamp)
            else:
                values[node.output] = node.op.reference(*operands)
    return Samples(arrays=arrays, values=values, made_up=True)


def input_range(entry: GraphInput, options: QuantizeOptions) -> tuple[float, float]:
    """What the elements of a network input lie in: as the user says, else by its integer type."""
    if options.input_range is not None:
        return options.input_range
    if np.dtype(entry.dtype).kind in "iu" and np.dtype(entry.dtype).itemsize == 1:
        kind = np.iinfo(np.dtype(entry.dtype))
        return float(kind.min), float(kind.max)
    raise DataError(
        f"input {entry.name!r}: without calibration data its range must be known, but {entry.dtype} has none; "
        "pass --input-range LOW,HIGH, or --calibration X.npz"
    )


def moved(values: FloatArray, moments: tuple[FloatArray, FloatArray]) -> FloatArray:
    """(N, H, W, C) with the given mean and standard deviation per channel (C,); channels without deviation get the mean alone."""
    mean, deviation = (getattr(values, name)(axis=(0, 1, 2), dtype=np.float64) for name in ("mean", "std"))
    factor = np.where(deviation > 0, moments[1] / np.maximum(deviation, np.finfo(np.float64).tiny), 0.0)
    result: FloatArray = ((values - mean) * factor + moments[0]).astype(np.float32)
    return result


def _fields(entry: GraphInput, ends: tuple[float, float], count: int, seed: int) -> FloatArray:
    """(count, ...) random fields that fill the range, with equal power in each octave along the long axes, as natural images have. Short
    axes (colors) go from independent in the first to equal in the last of them, because data may be either; the contrast of some is so
    great that parts of them lie at the ends of the range."""
    rng = np.random.default_rng(seed)
    shape = (count, *entry.shape[1:])
    common = (count, *(length if length >= SMOOTH_AXIS else 1 for length in shape[1:]))
    alone = (count, *(1 for _ in shape[1:]))
    share = np.linspace(0.0, 1.0, count).reshape(alone)  # of the power that short axes have in common
    contrast = rng.permutation(np.linspace(1.0, GREATEST_CONTRAST, count)).reshape(alone)
    total, size = np.zeros(shape), 1
    longest = max((length for length in shape[1:] if length >= SMOOTH_AXIS), default=1)
    while size <= longest:
        total += np.sqrt(share) * _octave(rng, common, size) + np.sqrt(1 - share) * _octave(rng, shape, size)
        size *= 2
    inner = tuple(range(1, len(shape)))
    low, high = total.min(inner, keepdims=True), total.max(inner, keepdims=True)
    filled = (total - low) / np.maximum(high - low, np.finfo(np.float64).tiny)
    filled = np.clip((filled - 0.5) * contrast + 0.5, 0.0, 1.0)
    fields: FloatArray = (ends[0] + filled * (ends[1] - ends[0])).astype(np.float32)
    return fields


def _octave(rng: np.random.Generator, shape: tuple[int, ...], size: int) -> FloatArray:
    """Noise that is constant over `size` cells of each long axis."""
    coarse = tuple(-(-length // size) if axis and length >= SMOOTH_AXIS else length for axis, length in enumerate(shape))
    noise: FloatArray = rng.normal(size=coarse)
    for axis, length in enumerate(shape):
        if coarse[axis] != length:
            noise = np.repeat(noise, size, axis=axis).take(np.arange(length), axis=axis)
    return noise
