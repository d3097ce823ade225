"""Network inputs that are outputs too, of any shape."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program_runner import random_codes, run_program
from random_graphs import Builder
from schedule_support import cells, small, with_all_outputs

from hwgen.ir.types import TensorType
from hwgen.ops.base import Window
from hwgen.ops.max_pool import MaxPool
from hwgen.schedule.box import whole
from hwgen.schedule.compile import compile_network
from hwgen.schedule.emission import _parts


@pytest.mark.parametrize("shape", [(9, 9, 3), (3, 200, 4), (2, 3, 150), (4, 40, 30), (1, 1, 1)])
def test_an_input_that_is_an_output_is_copied(shape):
    """Through a buffer of 64 words of 4 channels: of many rows, of rows longer than a side, and of more blocks than it has words."""
    builder = Builder(1)
    builder.values.clear()
    image = builder.input = builder.value(TensorType(*shape), builder.quantization())
    graph = builder.finish(builder.node(MaxPool(window=Window(kernel=(1, 1), strides=(2, 2))), (image,), builder.values[image].quantized))
    network = compile_network(with_all_outputs(graph), small("4x4", activation_words=64))
    assert run_program(network, random_codes(network, 1)) == []


@given(*[st.integers(1, 6)] * 3, st.integers(1, 80))
def test_parts_are_all_and_fit(rows, columns, blocks, words):
    parts = list(_parts(whole(rows, columns, blocks), words))
    assert sorted(cell for box in parts for cell in cells(box)) == sorted(itertools.product(range(blocks), range(rows), range(columns)))
    assert all(box.pixels * box.blocks <= words for box in parts)
