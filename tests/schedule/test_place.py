"""Jobs moved to other tensors and cut to parts of their output, run on the simulator: what the whole job computes, each part from its own input only."""

import random

import numpy as np
import pytest
from schedule_support import cells, random_workload, run_job, small, words_of

from hwgen.isa.machine import Memories
from hwgen.layout import PackedLayout
from hwgen.schedule.box import Box
from hwgen.schedule.place import Views, cut_to, move, output_box
from hwgen.schedule.storage import View

ROOMY = {"activation_words": 1 << 14, "weight_words": 1 << 14, "parameter_words": 1 << 12}
ARRAYS = ["4x4", "8x8", "4x16", "16x4"]


def _values(work, load, rng):
    """(blocks, rows, columns, lanes) random contents of the values that an operation reads."""
    found = {}
    for name in work.operation.reads:
        box = load.extent(name)
        found[name] = rng.integers(-128, 128, (box.blocks, box.rows, box.columns, load.config.in_lanes)).astype(np.int8)
    return found


def _view(first, box, blocks, row_words):
    """A buffer from word `first` on that holds `box` only."""
    block_words = box.rows * row_words
    return View(address=first - box.top * row_words - box.left - box.first_block * block_words, row_stride=row_words, block_stride=block_words, blocks=blocks)


def _compute(work, load, values, box, gaps):
    """(blocks, rows, columns, lanes) of `box` as the operation's jobs leave it, where only what it needs of the inputs is there."""
    operation, config = work.operation, load.config
    memories = Memories(config=config)
    memories.fill_randomly(gaps)
    views, first = {}, 0
    needed = {operation.input: load.input_box(work, box), operation.output: box}
    if operation.residual is not None and operation.residual != operation.input:
        needed[operation.residual] = box
    elif operation.residual is not None:  # one tensor read twice: both parts
        a, b = needed[operation.input], box
        needed[operation.input] = Box(
            top=min(a.top, b.top), bottom=max(a.bottom, b.bottom), left=min(a.left, b.left), right=max(a.right, b.right),
            first_block=min(a.first_block, b.first_block), end_block=max(a.end_block, b.end_block),
        )  # fmt: skip
    for name, part in needed.items():
        row_words = part.columns
        if not isinstance(load.layouts[name], PackedLayout):  # elsewhere than in the nominal view, but rows in the same banks
            row_words += 4 * gaps + (load.pitch[load.origin[name].root] - part.columns) % 4
        views[name] = _view(first, part, load.extent(name).blocks, row_words)
        if name != operation.output:
            inner = values[name][part.first_block : part.end_block, part.top : part.bottom, part.left : part.right]
            memories.activation[words_of(views[name], part)] = inner
        first += part.rows * row_words * part.blocks + gaps
    assert first < config.activation_words
    places = Views(input=views[operation.input], output=views[operation.output], residual=views.get(operation.residual))
    written = set()
    for job, own in zip(work.jobs, work.boxes, strict=True):
        part = own.intersect(box)
        if part.empty:
            continue
        job = cut_to(job, part, own, config)
        assert output_box(job.command, work.nominal.output, config) == part
        assert not written & cells(part)
        written |= cells(part)
        run_job(type(job)(command=move(job.command, work.nominal, places), weights=job.weights, parameters=job.parameters), memories)
    assert written == cells(box)
    return memories.activation[words_of(views[operation.output], box)]


def _random_box(whole, lane_wise, rng):
    def limits(length):
        first = rng.randrange(length)
        return first, rng.randint(first + 1, length)

    (top, bottom), (left, right) = limits(whole.rows), limits(whole.columns)
    first, end = limits(whole.blocks) if lane_wise else (0, whole.blocks)
    return Box(top=top, bottom=bottom, left=left, right=right, first_block=first, end_block=end)



@pytest.mark.parametrize("array", ARRAYS)
def test_parts_are_what_the_whole_job_computes(array):
    config, rng, cut_blocks, residuals, packed = small(array, **ROOMY), random.Random(3), 0, 0, 0
    for seed in range(16):
        load = random_workload(seed, config)
        for work in load.works:
            values = _values(work, load, np.random.default_rng(seed))
            whole = load.extent(work.operation.output)
            expected = _compute(work, load, values, whole, 0)
            used = np.zeros(whole.blocks * config.in_lanes, bool)
            used[list(load.positions[work.operation.output])] = True
            used = used.reshape(whole.blocks, 1, 1, config.in_lanes)
            for _ in range(3):
                box = _random_box(whole, work.lane_wise, rng)
                found = _compute(work, load, values, box, rng.randint(1, 3))
                part = (slice(box.first_block, box.end_block), slice(box.top, box.bottom), slice(box.left, box.right))
                assert ((found == expected[part]) | ~used[part[0]]).all(), (seed, work.operation)
                cut_blocks += box.blocks < whole.blocks
            residuals += work.operation.residual is not None
            packed += isinstance(load.layouts[work.operation.input], PackedLayout)
    assert min(cut_blocks, residuals, packed) > 2
