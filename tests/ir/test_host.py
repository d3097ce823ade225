"""Steps on the processor: their meaning, and that simplification keeps it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import normal

from hwgen.ir.host import Affine, HostStep, Reshape, Softmax, Transpose, run_steps, shape_after, simplified


@st.composite
def chains(draw: Any) -> tuple[tuple[int, ...], list[HostStep]]:
    start = shape = tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=1, max_size=4)))
    steps: list[HostStep] = []
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            steps.append(Transpose(permutation=(0, *draw(st.permutations(range(1, len(shape) + 1))))))
        elif draw(st.booleans()):
            cut = draw(st.integers(0, len(shape)))
            steps.append(Reshape(shape=(math.prod(shape[:cut]), 1, math.prod(shape[cut:]))))
        else:
            steps.append(Affine(scale=np.float32(2), offset=np.float32(1)))
        shape = shape_after(steps[-1], shape)
    return start, steps


@given(chains())
@settings(max_examples=200, deadline=None)
def test_simplification_keeps_the_meaning(chain: tuple[tuple[int, ...], list[HostStep]]) -> None:
    shape, steps = chain
    shorter = simplified(steps, shape)
    assert len(shorter) <= len(steps)
    x = normal(2, *shape)
    np.testing.assert_array_equal(run_steps(shorter, x), run_steps(steps, x))


def test_simplification_removes_what_moves_nothing() -> None:
    assert simplified([Transpose(permutation=(0, 3, 1, 2)), Transpose(permutation=(0, 2, 3, 1))], (4, 5, 6)) == ()
    assert simplified([Reshape(shape=(20,)), Reshape(shape=(4, 5))], (4, 5)) == ()
    assert simplified([Transpose(permutation=(0, 2, 3, 1))], (1, 5, 6)) == (Reshape(shape=(5, 6, 1)),)
    assert simplified([Transpose(permutation=(0, 2, 1))], (4, 5)) == (Transpose(permutation=(0, 2, 1)),)


def test_softmax_of_large_numbers() -> None:
    y = Softmax(axis=1).apply(np.array([[1000.0, 1000.0, -1000.0]], np.float32))
    np.testing.assert_allclose(y, [[0.5, 0.5, 0.0]])


def test_affine_broadcasts_against_the_batch() -> None:
    x = normal(2, 3, 4, 5)
    scale, offset = normal(3, 1, 1), normal(1, 1, 1, 5)
    y = Affine(scale=scale, offset=offset).apply(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x * scale + offset)
