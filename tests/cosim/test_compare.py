"""A planted fault in any word of any layer is found and named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwgen.cosim.compare import LayerExpectation, PartExpectation, compare, compare_layer, compute_ordinals
from hwgen.cosim.job import Trace
from hwgen.isa.instructions import Conv, End, Load, Store
from hwgen.schedule.box import whole
from hwgen.schedule.storage import View

LANES, BUFFER_WORDS = 4, 256
COUNT, HEIGHT, WIDTH, CHANNELS = 2, 3, 5, 6
VIEW = View(address=40, row_stride=WIDTH, block_stride=HEIGHT * WIDTH, blocks=2)
POSITIONS = (0, 1, 2, 5, 6, 7)  # channels 3..5 lie in lanes 1..3 of the second block


def expectation(command: int = 1, view: View = VIEW) -> LayerExpectation:
    golden = np.random.default_rng(3).integers(-128, 128, (COUNT, HEIGHT, WIDTH, CHANNELS)).astype(np.int8)
    part = PartExpectation(command=command, box=whole(HEIGHT, WIDTH, view.blocks), view=view)
    return LayerExpectation(name="layer", parts=(part,), positions=POSITIONS, golden=golden)


def right_trace(wanted: LayerExpectation) -> Trace:
    """What a right accelerator writes: word after word, padding lanes hold anything."""
    rows = []
    for inference in range(COUNT):
        for block in range(VIEW.blocks):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    data = np.full(LANES, 77, np.int8)
                    for channel, position in enumerate(POSITIONS):
                        if position // LANES == block:
                            data[position % LANES] = wanted.golden[inference, y, x, channel]
                    rows.append((inference, VIEW.address + block * VIEW.block_stride + y * VIEW.row_stride + x, data))
    zero = np.zeros(len(rows), np.int64)
    return Trace(
        inference=np.array([r[0] for r in rows]),
        command=zero + wanted.parts[0].command,
        cycle=zero,
        address=np.array([r[1] for r in rows]),
        mask=np.ones((len(rows), LANES), bool),
        data=np.stack([r[2] for r in rows]),
    )


def without(trace: Trace, index: int) -> Trace:
    return Trace(**{name: np.delete(getattr(trace, name), index, axis=0) for name in ("inference", "command", "cycle", "address", "mask", "data")})


def test_a_right_trace_has_no_mismatch() -> None:
    wanted = expectation()
    (found,) = compare([wanted], right_trace(wanted), BUFFER_WORDS)
    assert (found.elements, found.mismatches, found.missing, found.stray_words, found.first) == (wanted.golden.size, 0, 0, 0, None)
    assert found.equal


def test_every_single_wrong_element_is_found_and_named() -> None:
    wanted = expectation()
    right = right_trace(wanted)
    for record in range(len(right.data)):
        for lane in range(LANES):
            data = right.data.copy()
            data[record, lane] ^= 1
            found = compare_layer(wanted, replace(right, data=data), BUFFER_WORDS)
            block = (right.address[record] - VIEW.address) // VIEW.block_stride
            if block * LANES + lane not in POSITIONS:
                assert found.equal
                continue
            assert (found.mismatches, found.missing, found.equal) == (1, 0, False)
            first = found.first
            assert first is not None
            expected = int(wanted.golden[first.inference, first.row, first.column, first.channel])
            assert (first.inference, first.expected, first.found) == (right.inference[record], expected, data[record, lane])
            assert POSITIONS[first.channel] == block * LANES + lane


def test_the_message_names_layer_place_and_values() -> None:
    wanted = expectation()
    right = right_trace(wanted)
    right.data[7, 2] ^= 64
    found = compare_layer(wanted, right, BUFFER_WORDS).first
    value = int(wanted.golden[0, 1, 2, 2])
    assert str(found) == f"layer 'layer', inference 0, row 1, column 2, channel 2: must be {value}, is {right.data[7, 2]}"


def test_a_word_that_was_never_written_counts_all_its_elements() -> None:
    wanted = expectation()
    found = compare_layer(wanted, without(right_trace(wanted), 3), BUFFER_WORDS)
    assert (found.mismatches, found.missing) == (3, 3)
    assert str(found.first).endswith("was never written")


def test_a_masked_lane_does_not_count_as_written() -> None:
    wanted = expectation()
    trace = right_trace(wanted)
    trace.mask[0, 1] = False
    assert compare_layer(wanted, trace, BUFFER_WORDS).missing == 1


def test_a_word_outside_the_tensor_is_stray() -> None:
    wanted = expectation()
    trace = right_trace(wanted)
    trace.address[0] = VIEW.address - 1
    found = compare_layer(wanted, trace, BUFFER_WORDS)
    assert (found.stray_words, found.missing, found.equal) == (1, 3, False)


def test_an_element_that_was_wrong_once_and_overwritten_is_a_mismatch() -> None:
    wanted = expectation()
    right = right_trace(wanted)
    both = {name: np.concatenate([getattr(right, name)[:1], getattr(right, name)]) for name in ("inference", "command", "cycle", "address", "mask", "data")}
    both["data"][0, 0] ^= 1
    assert compare_layer(wanted, Trace(**both), BUFFER_WORDS).mismatches == 1


def test_writes_of_other_commands_do_not_count() -> None:
    wanted = expectation()
    trace = right_trace(wanted)
    found = compare_layer(expectation(2), trace, BUFFER_WORDS)
    assert (found.missing, found.stray_words) == (wanted.golden.size, 0)


def test_addresses_wrap_at_the_end_of_the_buffer() -> None:
    wanted = expectation()
    trace = right_trace(wanted)
    moved = expectation(view=replace(VIEW, address=VIEW.address + BUFFER_WORDS))
    assert compare_layer(moved, trace, BUFFER_WORDS).equal


def test_an_empty_trace_misses_everything() -> None:
    wanted = expectation()
    found = compare_layer(wanted, replace(right_trace(wanted), command=np.full(COUNT * 30, 9)), BUFFER_WORDS)
    assert found.missing == found.elements
    assert found.first is not None


def test_ordinals_count_compute_commands_only() -> None:
    commands = [Load(), Conv(), Store(), Conv(), Load(), Conv(), End()]
    assert compute_ordinals(commands) == {1: 0, 3: 1, 5: 2}


def test_parts_may_lie_in_one_place_one_after_the_other() -> None:
    """Two commands, the upper and the lower rows, through the same words; what one leaves out the other does not excuse."""
    wanted = expectation()
    right = right_trace(wanted)
    (part,) = wanted.parts
    upper = replace(part, box=replace(part.box, bottom=1))
    lower = replace(part, command=2, box=replace(part.box, top=1), view=replace(VIEW, address=VIEW.address - VIEW.row_stride))
    rows = (right.address - VIEW.address) % VIEW.block_stride // VIEW.row_stride
    moved = replace(right, command=np.where(rows == 0, 1, 2), address=np.where(rows == 0, right.address, right.address - VIEW.row_stride))
    both = replace(wanted, parts=(upper, lower))
    assert compare_layer(both, moved, BUFFER_WORDS).equal
    assert compare_layer(replace(wanted, parts=(upper,)), moved, BUFFER_WORDS).missing == COUNT * (HEIGHT - 1) * WIDTH * CHANNELS
    assert compare_layer(both, replace(moved, command=3 - moved.command), BUFFER_WORDS).stray_words > 0
