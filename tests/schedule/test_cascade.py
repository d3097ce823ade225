"""Two operations computed together: everything is computed from what is there, fits, and has the golden model's values."""

import contextlib
import itertools

import pytest
from program_runner import random_codes, run_program
from random_graphs import Builder, separable
from schedule_support import cells, cheap_cascade, random_workload, small

from hwgen.config import SIDES
from hwgen.errors import CapacityError
from hwgen.ir.types import TensorType
from hwgen.isa.instructions import Conv
from hwgen.ops.base import Window
from hwgen.schedule import segments
from hwgen.schedule.box import whole
from hwgen.schedule.cascade import _estimate, _shaped, best_cascade, follows, stripes
from hwgen.schedule.compile import compile_network
from hwgen.schedule.footprint import conv_reads, conv_writes
from hwgen.schedule.segments import plan
from hwgen.schedule.tiling import COMMAND_CYCLES, sizes, words

ARRAYS = ("4x4", "8x8", "4x16", "16x4")


def loads(words_there, seeds=range(60)):
    for seed in seeds:
        yield random_workload(seed, small(ARRAYS[seed % 4], activation_words=words_there), graph=separable(seed))


def words_in(intervals):
    return {word for first, end in intervals for word in range(first, end)}


def inside(box, outer):
    return box.intersect(outer) == box


def test_stripes_hold_all_of_both_outputs_and_what_these_need():
    found, again = 0, 0
    for load in loads(256):
        above, below = load.works[0], load.works[1]
        assert follows(load, 0) == (below.operation.window.extent[0] >= below.operation.window.strides[0]) or not below.lane_wise
        if not follows(load, 0):
            continue
        middle, output = load.extent(above.operation.output), load.extent(below.operation.output)
        for rows, blocks in itertools.product((1, 2, 5, output.rows), (1, 2, output.blocks)):
            lines = list(stripes(load, 0, rows, blocks))
            parts = [part for line in lines for part in line.parts]
            assert sorted(cell for _, box in parts for cell in cells(box)) == sorted(cells(output)), "each result once"
            assert set().union(*(cells(box) for box, _ in parts)) == cells(middle), "also what nobody reads"
            for line in lines:
                for needed, box in line.parts:
                    assert inside(load.input_box(below, box), needed) and inside(load.input_box(above, needed), line.source)
                    assert box.rows <= rows and max(box.blocks, needed.blocks) <= blocks and inside(needed, middle)
            found, again = found + 1, again + (sum(len(cells(box)) for box, _ in parts) > len(cells(middle)))
    assert found > 200 and again > 50


def test_what_is_there_at_a_time_fits_its_side():
    kinds = set()
    for load in itertools.chain(loads(64), loads(128), loads(512)):
        cascade, side = best_cascade(load, 0), load.config.activation_words // SIDES
        if cascade is None:
            kinds.add("none")
            continue
        lines = list(stripes(load, 0, cascade.rows, cascade.blocks))
        assert (cascade.stripes, cascade.count) == (len(lines), sum(len(line.parts) for line in lines))
        assert cascade.inputs * words(cascade.input) <= side
        assert words(cascade.middle) + cascade.outputs * words(cascade.output) <= side
        for line in lines:
            middle, output = zip(*line.parts, strict=True)
            shaped = [(line.source, cascade.input), *((box, cascade.middle) for box in middle), *((box, cascade.output) for box in output)]
            for box, shape in shaped:
                assert box.rows <= shape[0] and box.columns <= shape[1] and box.blocks <= shape[2]
        kinds.add((cascade.inputs, cascade.outputs, cascade.groups > 1))
    assert {"none", (2, 2, True), (2, 2, False), (1, 1, False)} <= kinds


def test_estimates_count_what_is_computed_again():
    for load in loads(128):
        cascade, (above, below) = best_cascade(load, 0), load.works[:2]
        if cascade is None:
            continue
        lines = list(stripes(load, 0, cascade.rows, cascade.blocks))
        read, written = [load.bus_words(line.source) for line in lines], load.bus_words(load.extent(below.operation.output))
        stay = sum(job.weight_words(load.config) for work in (above, below) for job in work.jobs) <= load.config.weight_words
        weights = (above.weight_bytes + below.weight_bytes) // load.config.bus_bytes * (1 if stay else len(lines))
        share = sum(line.parts[0][0].rows for line in lines) / load.extent(above.operation.output).rows
        compute = int(above.cycles * share + 1e-6) + below.cycles + cascade.count * (len(above.jobs) + len(below.jobs)) * COMMAND_CYCLES
        together = max(compute, sum(read) + weights, written) + read[0] + written // cascade.count
        assert cascade.estimate == (together if cascade.double else max(compute, weights) + sum(read) + written)


@pytest.mark.parametrize("words_there", [128, 256, 512])
def test_programs_with_cascades_compute_what_the_golden_model_does(words_there, monkeypatch):
    """Cascades wherever they fit, also where tiles would be faster."""
    monkeypatch.setattr(segments, "best_cascade", cheap_cascade)
    used = again = 0
    for seed in range(100):
        graph, config = separable(seed), small(ARRAYS[seed % 4], activation_words=words_there, weight_words=128)
        with contextlib.suppress(CapacityError):
            found = [segment.cascade for segment in plan(random_workload(seed, config, graph=graph)) if segment.cascade]
            if found:
                network = compile_network(graph, config)
                assert run_program(network, random_codes(network, seed)) == []
                for command in network.commands:
                    if isinstance(command, Conv):
                        assert words_in(conv_reads(command, config)).isdisjoint(words_in(conv_writes(command, config)))
                used, again = used + 1, again + (found[0].stripes > 1)
    assert used > 10 and again > 5


def test_what_others_read_or_the_host_sees_is_no_cascade():
    """Between an expansion and its depthwise convolution: a second reader, a network output, a concatenation."""
    builder = Builder(3)
    builder.values.clear()
    image = builder.input = builder.value(TensorType(20, 20, 8), builder.quantization())
    point, window = Window(kernel=(1, 1)), Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    middle = builder.conv(image, point, 16, dense=True)
    deep = builder.conv(middle, window, depthwise=True)
    alone = builder.finish(deep)
    config = small("8x8", activation_words=256)
    assert follows(random_workload(0, config, graph=alone), 0)
    second = builder.conv(middle, point, 8, dense=True)
    load = random_workload(0, config, graph=builder.finish(builder.conv(second, point, 8, dense=True)))
    step = next(k for k, work in enumerate(load.works) if work.operation.output == middle)
    assert not follows(load, step)


def test_a_window_that_leaves_rows_out_is_no_cascade():
    builder = Builder(4)
    builder.values.clear()
    image = builder.input = builder.value(TensorType(20, 20, 8), builder.quantization())
    middle = builder.conv(image, Window(kernel=(1, 1)), 16, dense=True)
    graph = builder.finish(builder.conv(middle, Window(kernel=(1, 1), strides=(2, 2)), depthwise=True))
    load = random_workload(0, small("8x8", activation_words=256), graph=graph)
    assert load.works[1].lane_wise and not follows(load, 0)
    assert load.extent(middle) == whole(20, 20, 2)


def test_groups_of_blocks_cut_the_commands_of_grouped_convolutions(monkeypatch):
    """Each of two groups computes two blocks, which a cascade takes one at a time."""
    monkeypatch.setattr(segments, "best_cascade", cheap_cascade)
    builder = Builder(5)
    builder.values.clear()
    image = builder.input = builder.value(TensorType(24, 12, 16), builder.quantization())
    middle = builder.conv(image, Window(kernel=(1, 1)), 32, groups=2)
    graph = builder.finish(builder.conv(middle, Window(kernel=(5, 5), pads=(2, 2, 2, 2)), depthwise=True))
    config = small("8x8", activation_words=512)
    load = random_workload(0, config, graph=graph)
    (segment,) = plan(load)
    assert [box.blocks for box in load.works[0].boxes] == [2, 2] and segment.cascade.blocks == 1
    network = compile_network(graph, config)
    assert run_program(network, random_codes(network, 1)) == []
    assert {part.box.blocks for layer in network.layers for part in layer.parts} == {1}


def test_the_tallest_stripes_that_fit_are_found():
    """Halving finds what trying all heights finds, from the highest stripes down."""
    several = 0
    for load in itertools.chain(loads(64), loads(256)):
        if not follows(load, 0):
            continue
        whole_output, found = load.extent(load.works[1].operation.output), []
        for double, blocks in itertools.product((True, False), sizes(whole_output.blocks)):
            if blocks < whole_output.blocks and load.config.out_lanes > load.config.in_lanes:
                continue
            for rows in sizes(whole_output.rows):
                lines = list(stripes(load, 0, rows, whole_output.blocks))
                cascade = _shaped(load, 0, rows, blocks, double, lines)
                if cascade.fits(load.config.activation_words // SIDES):
                    found.append(_estimate(cascade, lines, load, 0))
                    break
        best = best_cascade(load, 0)
        assert min(found, default=None) == (best and best.estimate)
        several += len(set(found)) > 2
    assert several > 20
