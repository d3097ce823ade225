"""Tiles cover the output once, and what they need fits."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from schedule_support import cells, random_workload, small

from hwgen.config import SIDES
from hwgen.isa.instructions import in_different_banks
from hwgen.layout import PackedLayout
from hwgen.schedule.box import Box, whole
from hwgen.schedule.tiling import COMMAND_CYCLES, Tiling, best_tiling, tiles, weights_fit, words

NOTHING = (0, 0, 0)


def _tiling(rows, columns, blocks):
    return Tiling(rows=rows, columns=columns, blocks=blocks, double=False, input=NOTHING, residual=NOTHING, output=NOTHING, count=0, estimate=0)


@given(*[st.integers(1, 7)] * 3, *[st.integers(1, 9)] * 3)
def test_tiles_cover_the_output_exactly_once(height, width, blocks, rows, columns, deep):
    found = list(tiles(whole(height, width, blocks), _tiling(rows, columns, deep)))
    covered = [cell for box in found for cell in cells(box)]
    assert sorted(covered) == sorted(itertools.product(range(blocks), range(height), range(width)))
    assert all(box.rows <= rows and box.columns <= columns and box.blocks <= deep for box in found)


def _works(words_there):
    for seed in range(40):
        array = ("4x4", "8x8", "4x16", "16x4")[seed % 4]
        load = random_workload(seed, small(array, activation_words=words_there))
        for work in load.works:
            yield load, work


def _smallest(load, work):
    """Words of input and residual, and of output, that the needier of the smallest tiles takes."""
    output = load.extent(work.operation.output)
    deep = 1 if work.lane_wise else output.blocks
    wide = output.right if isinstance(load.layouts[work.operation.input], PackedLayout) else 1
    taken = [0, 0]
    for top, left, block in itertools.product(range(output.rows), range(0, output.columns, wide), range(0, output.blocks, deep)):
        box = Box(top=top, bottom=top + 1, left=left, right=left + wide, first_block=block, end_block=block + deep)
        source = load.input_box(work, box)
        taken[0] = max(taken[0], source.pixels * source.blocks + (box.pixels * box.blocks if work.operation.residual else 0))
        taken[1] = max(taken[1], box.pixels * box.blocks)
    return taken


def test_every_tile_and_what_it_reads_fits_its_buffer():
    found, doubled, split, refused = 0, 0, set(), 0
    for load, work in _works(128):
        tiling, side, output = best_tiling(work, load), load.config.activation_words // SIDES, load.extent(work.operation.output)
        if tiling is None:
            refused += 1
            assert max(_smallest(load, work)) > side - 48  # banks and gaps between rows take a few words
            continue
        boxes = list(tiles(output, tiling))
        found, doubled = found + 1, doubled + tiling.double
        assert tiling.count == len(boxes)
        assert tiling.buffers * (words(tiling.input) + words(tiling.residual)) <= side and tiling.buffers * words(tiling.output) <= side
        sizes = (("r", tiling.rows, output.rows), ("c", tiling.columns, output.columns), ("b", tiling.blocks, output.blocks))
        split |= {kind for kind, size, most in sizes if size < most}
        for box in boxes:
            source = load.input_box(work, box)
            for shape, part in ((tiling.input, source), (tiling.output, box), *([(tiling.residual, box)] if work.operation.residual else [])):
                assert part.rows <= shape[0] and part.columns <= shape[1] and part.blocks <= shape[2]
    assert found > 60 and doubled > 10 and split == {"r", "c", "b"} and refused > 0


def test_a_part_no_larger_than_the_smallest_fits_whenever_there_is_room():
    """The other way round: with twice the room of the smallest tile a tiling is found."""
    for load, work in _works(1024):
        if 2 * max(_smallest(load, work)) + 48 < load.config.activation_words // SIDES:
            assert best_tiling(work, load) is not None


def test_rows_that_are_read_in_one_cycle_lie_in_different_banks():
    several = 0
    for load, work in _works(128):
        tiling = best_tiling(work, load)
        for job in work.jobs if tiling else ():
            step = job.command.dilation_rows * tiling.input[1]
            assert in_different_banks(job.command.tap_rows, step), (work.operation, tiling)
            several += job.command.tap_rows > 1 and tiling.columns < load.extent(work.operation.output).columns
    assert several > 0


def test_blocks_are_parted_only_where_channels_stay_in_their_lanes():
    for load, work in _works(128):
        tiling = best_tiling(work, load)
        assert tiling is None or work.lane_wise or tiling.blocks == load.extent(work.operation.output).blocks


def test_words_are_a_multiple_of_the_banks():
    assert [words((1, 1, 1)), words((3, 5, 2)), words((2, 2, 2)), words(NOTHING)] == [4, 32, 8, 0]


def test_weights_fit_where_all_jobs_do():
    load = random_workload(3, small("8x8"))
    for work in load.works:
        needed = sum(job.weight_words(load.config) for job in work.jobs)
        assert weights_fit(work, small("8x8", weight_words=max(16, 1 << (needed - 1).bit_length()) if needed else 16))
        if needed > 16:
            assert not weights_fit(work, small("8x8", weight_words=1 << (needed - 1).bit_length() - 1))


def test_estimates_count_what_every_tile_reads():
    """Rows, columns and blocks are added up apart; here tile by tile."""
    kinds = set()
    for load, work in _works(128):
        tiling, output = best_tiling(work, load), load.extent(work.operation.output)
        if tiling is None:
            continue
        boxes = list(tiles(output, tiling))
        own = [load.bus_words(box) for box in boxes]
        reads = [load.bus_words(load.input_box(work, box)) + (words_out if work.operation.residual else 0) for box, words_out in zip(boxes, own, strict=True)]
        spatial = max(1, len(boxes) // -(-output.blocks // tiling.blocks))
        weights = work.weight_bytes // load.config.bus_bytes * (1 if weights_fit(work, load.config) else spatial)
        compute = work.cycles + len(boxes) * COMMAND_CYCLES * len(work.jobs)
        overlapped = max(compute, sum(reads) + weights, sum(own)) + reads[0] + sum(own) // len(boxes)
        assert tiling.estimate == (overlapped if tiling.double else max(compute, weights) + sum(reads) + sum(own))
        assert tiling.count == len(boxes)
        kinds.add((tiling.double, len(boxes) > 1, work.operation.residual is not None))
    assert len(kinds) >= 5
