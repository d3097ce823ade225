"""Network inputs that are outputs too, of any shape; runs of operations that begin in the middle of a concatenation."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program_runner import random_codes, run_program
from random_graphs import Builder
from schedule_support import cells, random_workload, small, with_all_outputs

from hwgen.ir.types import TensorType
from hwgen.ops.base import Window
from hwgen.ops.concat import Concat
from hwgen.ops.max_pool import MaxPool
from hwgen.schedule.box import whole
from hwgen.schedule.compile import compile_network
from hwgen.schedule.emission import _parts
from hwgen.schedule.segments import plan


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


def test_a_run_begins_with_a_part_of_a_concatenation():
    """Its input comes from the middle of what lies in memory, while it is computed already."""
    builder, point, config = Builder(8), Window(kernel=(1, 1)), small("8x8", activation_words=256)
    builder.values.clear()
    image = builder.input = builder.value(TensorType(8, 8, 8), builder.quantization())
    parts = [builder.conv(image, point, 8, dense=True) for _ in range(2)]
    quantized = builder.values[parts[0]].quantized
    builder.values[parts[1]] = replace(builder.values[parts[1]], quantization=quantized)
    builder.refit(parts[1])
    builder.conv(image, point, 48, dense=True)  # too large for the buffer: what comes after it begins anew
    half = builder.conv(parts[1], Window(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), 8, dense=True)
    builder.conv(half, point, 8, dense=True)
    graph = builder.finish(builder.conv(builder.node(Concat(axis=2), tuple(parts), quantized), point, 8, dense=True))
    load = random_workload(0, config, graph=graph)
    runs = [segment for segment in plan(load) if segment.chunked]
    assert parts[1] in {load.works[segment.first].operation.input for segment in runs}
    network = compile_network(graph, config)
    assert run_program(network, random_codes(network, 1)) == []
