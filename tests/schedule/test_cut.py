"""Pieces of jobs together are the job: run on the simulator with a small weight buffer, against the whole with a large one."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import Builder
from schedule_support import cells, random_workload, run_job, small

from hwgen.errors import CapacityError
from hwgen.isa.execute import check_conv
from hwgen.isa.machine import Memories
from hwgen.ops.base import Window
from hwgen.schedule.cut import _pixel_boxes, cut
from hwgen.schedule.place import Views, move, output_box
from hwgen.schedule.storage import View

ROOMY = {"activation_words": 1 << 14, "weight_words": 1 << 15, "parameter_words": 1 << 12}


def _apart(work):
    """The operation's tensors one behind the other, as `nominal` views shaped."""
    first, views = 0, {}
    for name, view in (("input", work.nominal.input), ("output", work.nominal.output), ("residual", work.nominal.residual)):
        if view is not None:
            views[name] = View(address=first, row_stride=view.row_stride, block_stride=view.block_stride, blocks=view.blocks)
            first += view.blocks * view.block_stride
    return Views(input=views["input"], output=views["output"], residual=views.get("residual"))


def _results(work, jobs, config):
    """The activation buffer after the jobs."""
    memories = Memories(config=config)
    memories.activation[...] = np.random.default_rng(4).integers(-128, 128, memories.activation.shape)
    for job in jobs:
        run_job(replace(job, command=move(job.command, work.nominal, _apart(work))), memories)
    return memories.activation


def test_pieces_together_are_the_job():
    r, kept, several = random.Random(1), 0, 0
    for seed in range(60):
        array = r.choice(["4x4", "8x8", "4x16", "16x4", "1x8"])
        roomy = small(array, **ROOMY)
        tight = replace(roomy, weight_words=1 << r.randint(5, 9), parameter_words=1 << r.randint(3, 7))
        share = r.choice([1, 2, 4])
        for work in random_workload(seed, roomy, nodes=2).works:
            for job in work.jobs:
                try:
                    pieces = list(cut(job, "n", tight, share))
                except CapacityError:
                    continue
                for piece in pieces:
                    check_conv(piece.command, tight)
                    assert piece.weight_words(tight) <= tight.weight_words and piece.parameter_words(tight) <= tight.parameter_words
                whole, parts = _results(work, [job], roomy), _results(work, pieces, replace(tight, weight_words=roomy.weight_words))
                assert (whole == parts).all(), (seed, work.operation)
                boxes = [output_box(p.command, work.nominal.output, tight) for p in pieces if not p.command.keep]
                written = [cell for box in boxes for cell in cells(box)]
                assert len(written) >= len(cells(output_box(job.command, work.nominal.output, tight)))
                kept += any(p.command.keep for p in pieces)
                several += len(pieces) > 1 and not any(p.command.keep for p in pieces)
    assert kept > 3 and several > 10


def test_what_fits_its_share_stays_whole():
    config = small("8x8", **ROOMY)
    job = _large(config).works[0].jobs[0]
    words = job.weight_words(config)
    assert words == 3 * 3 * 4 * 4 * 4  # kernel, input blocks, output tiles, words per set
    for share, pieces in ((1, 1), (2, 2), (4, 4), (8, 4)):  # a tile is the smallest piece
        tight = replace(config, weight_words=1 << (words - 1).bit_length())
        assert [p.command.output_tiles for p in cut(job, "n", tight, share)] == [4 // pieces] * pieces


def _large(config, channels=32):
    """One 3x3 convolution of 32 channels."""
    builder = Builder(1)
    kind = replace(builder.values[builder.input].type, height=5, width=7, channels=channels)
    builder.values[builder.input] = replace(builder.values[builder.input], type=kind)
    graph = builder.finish(builder.conv(builder.input, Window(kernel=(3, 3), pads=(1, 1, 1, 1)), channels, dense=True))
    return random_workload(0, config, graph=graph)


def test_sums_stay_between_pieces_of_a_tile_that_is_too_large():
    config = small("8x8", **ROOMY)
    work = _large(config).works[0]
    tight = replace(config, weight_words=64)  # a tile takes 9 * 4 * 4 = 144
    pieces = list(cut(work.jobs[0], "n", tight, 2))
    assert (_results(work, work.jobs, config) == _results(work, pieces, replace(tight, weight_words=config.weight_words))).all()
    by_tile = [p.command for p in pieces if p.command.output_address == pieces[0].command.output_address]
    assert [(c.resume, c.keep) for c in by_tile] == [(0, 1), (1, 1), (1, 1), (1, 0)]
    assert all(c.output_rows * c.output_columns <= tight.accumulator_depth for c in by_tile)


def test_one_block_too_large_for_the_weight_buffer():
    config = replace(small("8x8", **ROOMY), weight_words=32)  # a tile of one block takes 36
    with pytest.raises(
        CapacityError,
        match=r"^weight buffer: layer 'conv' needs 36 words for its smallest group of output channels, the hardware '8x8' has 32: "
        r"4 words too few; set weight_words to 64 or more$",
    ):
        list(cut(_large(config).works[0].jobs[0], "conv", config, 2))


def test_a_group_of_tiles_too_large_for_the_parameter_buffer():
    config = replace(small("1x16", **ROOMY), parameter_words=8)  # sixteen tiles share a word of the output
    with pytest.raises(CapacityError, match=r"^parameter buffer: layer 'conv' needs 16 words .* has 8: 8 words too few; set parameter_words to 16 or more$"):
        list(cut(_large(config).works[0].jobs[0], "conv", config, 2))


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 30))
def test_rectangles_of_pixels_cover_the_output_once(rows, columns, depth):
    boxes = list(_pixel_boxes(rows, columns, depth))
    assert sorted(cell for box in boxes for cell in cells(box)) == [(0, y, x) for y in range(rows) for x in range(columns)]
    assert all(box.pixels <= depth for box in boxes)
