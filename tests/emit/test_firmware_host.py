"""Quantization and host steps in C against their NumPy meaning."""

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_support import compile_c, firmware_input, write
from random_graphs import Builder

from hwgen.emit.firmware import emit_firmware
from hwgen.emit.firmware_host import work_half
from hwgen.emit.firmware_tables import float_literal
from hwgen.ir.graph import Graph
from hwgen.ir.host import Affine, HostStep, Reshape, Softmax, Transpose

RNG = np.random.default_rng(4)


def network(input_steps: tuple[HostStep, ...], input_shape: tuple[int, ...], output_steps: tuple[HostStep, ...], output_shape: tuple[int, ...]) -> Graph:
    """A small network of a 6x5x3 input whose ends have these steps."""
    builder = Builder(1)
    builder.values["v0"] = replace(builder.values["v0"], type=replace(builder.values["v0"].type, height=6, width=5, channels=3))
    graph = builder.finish(builder.clamp_node("v0"))
    inputs = (replace(graph.inputs[0], shape=(-1, *input_shape), steps=input_steps),)
    return replace(graph, inputs=inputs, outputs=(replace(graph.outputs[0], shape=(-1, *output_shape), steps=output_steps),))


def library(graph: Graph, folder: Path) -> ctypes.CDLL:
    write(emit_firmware(firmware_input(graph, prefix="p")), folder)
    return ctypes.CDLL(str(compile_c(folder, "p.so", "src/p_pre.c", flags="-O2 -shared -fPIC")))


def in_c(function: ctypes._CFuncPtr, x: np.ndarray, graph: Graph, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    x, work, y = np.ascontiguousarray(x), np.zeros(2 * work_half(graph), np.float32), np.zeros(shape, dtype)
    function(*(array.ctypes.data_as(ctypes.c_void_p) for array in (x, work, y)))
    return y


NHWC_TO_OUTSIDE = Transpose(permutation=(0, 3, 1, 2))
INPUTS = {
    "plain": ((), (6, 5, 3)),
    "transpose": ((Transpose(permutation=(0, 2, 3, 1)),), (3, 6, 5)),
    "reshape": ((Reshape(shape=(6, 5, 3)),), (90,)),
    "normalize": (
        (
            Affine(scale=np.float32(1 / 3), offset=RNG.normal(size=(3, 1, 1)).astype(np.float32)),
            Affine(scale=RNG.normal(size=(1, 3, 1, 1)).astype(np.float32), offset=np.float32(-0.5)),
            Transpose(permutation=(0, 2, 3, 1)),
        ),
        (3, 6, 5),
    ),
    "everything": (
        (
            Reshape(shape=(5, 18)),
            Transpose(permutation=(0, 2, 1)),
            Affine(scale=RNG.normal(size=(18, 5)).astype(np.float32), offset=RNG.normal(size=5).astype(np.float32)),
            Reshape(shape=(3, 6, 5)),
            Transpose(permutation=(0, 2, 3, 1)),
        ),
        (90,),
    ),
}


@pytest.mark.parametrize("case", INPUTS)
def test_quantized_input_equals_numpy(case: str, tmp_path: Path) -> None:
    steps, shape = INPUTS[case]
    graph = network(steps, shape, (), (6, 5, 3))
    quantization = graph.values[graph.inputs[0].value].quantized
    x = (RNG.normal(size=(1, *shape)) * 60 * quantization.scale).astype(np.float32)
    x.flat[:6] = [np.inf, -np.inf, 1e30, -1e30, 0.5 * quantization.scale, 1.5 * quantization.scale]
    real = x
    for step in steps:
        real = step.apply(real)
    assert real.shape == (1, 6, 5, 3)
    found = in_c(library(graph, tmp_path).p_quantize_input0, x, graph, (6, 5, 3), np.int8)
    np.testing.assert_array_equal(found, quantization.quantize(real)[0])
    assert len(set(found.reshape(-1).tolist())) > 10


OUTPUTS = {
    "plain": ((), (6, 5, 3)),
    "transpose": ((NHWC_TO_OUTSIDE,), (3, 6, 5)),
    "flatten": ((NHWC_TO_OUTSIDE, Reshape(shape=(90,))), (90,)),
    "softmax": ((Reshape(shape=(90,)), Softmax(axis=1)), (90,)),
    "softmax_inside": ((NHWC_TO_OUTSIDE, Softmax(axis=-2), Affine(scale=np.float32(2), offset=np.float32(1)), Reshape(shape=(18, 5))), (18, 5)),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_dequantized_output_equals_numpy(case: str, tmp_path: Path) -> None:
    steps, shape = OUTPUTS[case]
    graph = network((), (6, 5, 3), steps, shape)
    q = RNG.integers(-128, 128, (1, 6, 5, 3)).astype(np.int8)
    real = graph.values[graph.outputs[0].value].quantized.dequantize(q)
    for step in steps:
        real = step.apply(real)
    assert real.shape == (1, *shape)
    found = in_c(library(graph, tmp_path).p_dequantize_output0, q, graph, shape, np.float32)
    if any(isinstance(step, Softmax) for step in steps):
        np.testing.assert_allclose(found, real[0], rtol=2e-6, atol=1e-9)
    else:
        np.testing.assert_array_equal(found, real[0])


def test_not_a_number_gives_the_least_code(tmp_path: Path) -> None:
    graph = network((), (6, 5, 3), (), (6, 5, 3))
    found = in_c(library(graph, tmp_path).p_quantize_input0, np.full((6, 5, 3), np.nan, np.float32), graph, (6, 5, 3), np.int8)
    assert (found == -128).all()


def test_float_literals_give_the_same_float() -> None:
    values = [*RNG.normal(size=50).astype(np.float32), np.float32(1), np.float32(1e-45), np.float32(3.4028235e38), np.float32(-0.0), np.float32(0.1)]
    for value in values:
        text = float_literal(value)
        assert text.endswith("f") and "." in text
        assert np.float32(text[:-1]).tobytes() == value.tobytes()
    assert [float_literal(value) for value in (np.inf, -np.inf, np.nan)] == ["INFINITY", "-INFINITY", "NAN"]
