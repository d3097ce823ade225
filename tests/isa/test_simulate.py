"""The simulator stops where the hardware would, with the same code."""

from dataclasses import replace

import numpy as np
import pytest

from hwgen.config import PRESETS
from hwgen.errors import HwgenError
from hwgen.isa.execute import check_conv, run_conv
from hwgen.isa.fields import TOKEN_LIMIT, Buffer, Mode, Reduce, Region
from hwgen.isa.instructions import Conv, End, Load, Store
from hwgen.isa.machine import Memories, ProgramError
from hwgen.isa.program import encode
from hwgen.isa.registers import ErrorCode
from hwgen.isa.simulate import simulate
from hwgen.packing import WeightFormat, unpack

LOAD = Load(region=Region.INPUT, row_bytes=32)


def run(*commands, tail=b"", size=64, config=PRESETS["16x16"]):
    memories = Memories(config=config)
    memories.regions = {region: np.arange(size, dtype=np.uint8) for region in Region}
    memories.regions[Region.PROGRAM] = np.frombuffer(encode(commands) + tail, np.uint8)
    simulate(memories)
    return memories


@pytest.mark.parametrize(
    ("command", "code", "detail"),
    [
        (replace(LOAD, row_bytes=80), ErrorCode.REGION, "region 3 holds 64 bytes, the row needs 80"),
        (replace(LOAD, memory_offset=0xFFFFFFF0), ErrorCode.REGION, "holds 64 bytes"),
        (replace(LOAD, region=7), ErrorCode.REGION, "region 7 holds 0 bytes"),
        (replace(LOAD, rows=3, memory_row_stride=32), ErrorCode.REGION, "holds 64 bytes"),
        (replace(LOAD, row_bytes=0), ErrorCode.ALIGNMENT, "multiples of 16 bytes"),
        (replace(LOAD, rows=0), ErrorCode.ALIGNMENT, "multiples of 16 bytes"),
        (replace(LOAD, memory_offset=8), ErrorCode.ALIGNMENT, "multiples of 16 bytes"),
        (replace(LOAD, buffer_address=16383), ErrorCode.BUFFER, "the buffer holds 16384 words, the row needs 16385"),
        (replace(LOAD, destination=3), ErrorCode.BUFFER, "destination must be one of 0, 1, 2, not 3"),
        (Store(region=Region.OUTPUT, row_bytes=80), ErrorCode.REGION, "holds 64 bytes"),
        (replace(LOAD, wait_store=1), ErrorCode.WATCHDOG, "no engine can go on"),
    ],
)
def test_errors_of_transfers(command, code, detail):
    with pytest.raises(ProgramError, match=detail) as caught:
        run(command, End())
    assert caught.value.code is code


PACKED = replace(PRESETS["16x16"], weight_decoder=True)
WEIGHTS = replace(LOAD, destination=Buffer.WEIGHT, row_bytes=16)


@pytest.mark.parametrize(
    ("changes", "code", "detail"),
    [
        ({"format": 5}, ErrorCode.FORMAT, "format must be 0"),
        ({"format": 3, "destination": Buffer.ACTIVATION}, ErrorCode.FORMAT, "format must be 0"),
        ({"format": 3, "destination": Buffer.PARAMETER, "row_bytes": 0}, ErrorCode.FORMAT, "format must be 0"),
        ({"format": 3, "destination": 3}, ErrorCode.BUFFER, "destination must be"),
        ({"format": 3, "row_bytes": 24}, ErrorCode.ALIGNMENT, "multiples of 16 bytes"),
        ({"format": 3, "row_bytes": 80}, ErrorCode.REGION, "the row needs 80"),
        ({"format": 3, "buffer_address": 4095}, ErrorCode.BUFFER, "the row needs 4097"),  # 80 bytes, words of 64
        ({"format": 4, "rows": 2, "buffer_address": 4093, "buffer_row_stride": 2}, ErrorCode.BUFFER, "the row needs 4097"),
    ],
)
def test_errors_of_packed_loads(changes, code, detail):
    with pytest.raises(ProgramError, match=detail) as caught:
        run(replace(WEIGHTS, **changes), End(), config=PACKED)
    assert caught.value.code is code


@pytest.mark.parametrize("kind", WeightFormat)
def test_packed_rows_fill_as_many_bus_words_as_a_byte_holds_weights(kind):
    memories = run(replace(WEIGHTS, format=kind, rows=2, memory_row_stride=32, buffer_address=3, buffer_row_stride=5), End(), config=PACKED)
    flat = memories.weight.reshape(-1)
    for row in range(2):
        found = unpack(np.arange(32 * row, 32 * row + 16, dtype=np.uint8), kind, 16)
        first = (3 + 5 * row) * 64
        assert (flat[first : first + len(found)] == found).all()
        assert not flat[first + len(found) : first + 5 * 64].any()


def test_formats_need_a_decoder():
    with pytest.raises(HwgenError, match="needs hardware with weight_decoder"):
        run(replace(WEIGHTS, format=1), End())


def test_unknown_command_and_missing_end():
    with pytest.raises(ProgramError, match="opcode must be one of") as caught:
        run(LOAD, tail=b"\x55" + bytes(127))
    assert (caught.value.code, caught.value.command) == (ErrorCode.UNKNOWN_COMMAND, 1)
    with pytest.raises(ProgramError, match="ends without END"):
        run(LOAD)


def test_more_tokens_than_a_counter_holds():
    given = [replace(LOAD, signal_store=1)] * TOKEN_LIMIT
    run(*given, End())
    with pytest.raises(ProgramError, match="the load engine gives more than 255 tokens that nobody takes") as caught:
        run(*given, given[0], End())
    assert (caught.value.code, caught.value.command) == (ErrorCode.TOKENS, TOKEN_LIMIT)


def test_load_and_store_move_rows():
    memories = run(
        replace(LOAD, row_bytes=16, rows=2, memory_row_stride=32, buffer_address=5, buffer_row_stride=3, signal_store=1),
        Store(region=Region.OUTPUT, buffer_address=8, row_bytes=16, wait_load=1),
        End(),
    )
    assert memories.activation[5].tolist() == list(range(16)) and memories.activation[8].tolist() == list(range(32, 48))
    assert memories.regions[Region.OUTPUT][:16].tolist() == list(range(32, 48))


def test_sums_that_nobody_kept_are_a_compiler_error():
    memories = Memories(config=PRESETS["16x16"])
    point = Conv(input_rows=1, input_columns=1)
    run_conv(replace(point, keep=1), memories)
    run_conv(replace(point, resume=1), memories)
    with pytest.raises(HwgenError, match="resume needs 2 kept sums, there are 1"):
        run_conv(replace(point, resume=1, output_rows=2, pixels_per_tile=2), memories)
    run_conv(replace(point, kernel_rows=2), memories)
    with pytest.raises(HwgenError, match="resume needs 1 kept sums, there are 0"):
        run_conv(replace(point, resume=1), memories)


def test_weights_where_no_tap_lies_are_a_compiler_error():
    memories = Memories(config=PRESETS["16x16"])
    memories.weight[...] = 1
    with pytest.raises(HwgenError, match="weights of lanes without a tap must be 0; set 0 of"):
        run_conv(Conv(mode=Mode.DEPTHWISE), memories)


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        (Conv(reduce=Reduce.MAX), "maximum needs depthwise mode"),
        (Conv(mode=Mode.DEPTHWISE, input_blocks=2), "input_blocks must be 1"),
        (Conv(taps=2), "taps and tap_rows must be 1 outside depthwise mode"),
        (Conv(mode=Mode.DEPTHWISE, taps=17), "taps must be 1..16"),
        (Conv(mode=Mode.DEPTHWISE, kernel_row_step=1, tap_rows=2, taps=9), "taps must be 1..8"),
        (Conv(mode=Mode.DEPTHWISE, kernel_row_step=1, tap_rows=3, taps=5), "taps must be 1..4"),
        (Conv(mode=Mode.DEPTHWISE, reduce=Reduce.MAX, taps=2), "taps must be 1..1"),
        (Conv(mode=Mode.DEPTHWISE, tap_rows=0), "tap_rows must be 1..4 rows in different banks"),
        (Conv(mode=Mode.DEPTHWISE, kernel_row_step=2, tap_rows=3), "tap_rows must be 1..4 rows in different banks"),
        (Conv(pixels_per_tile=129, kernel_rows=2), "pixels_per_tile must be 1..128"),
        (Conv(pixels_per_tile=129, keep=1), "pixels_per_tile must be 1..128"),
        (Conv(pixels_per_tile=0), "pixels_per_tile must be 1..65535"),
        (Conv(keep=1, output_tiles=2), "keep and resume need one output tile"),
        (Conv(resume=1, output_rows=2), "keep and resume need one pixel tile"),
        (Conv(output_rows=0), "at least 1"),
        (Conv(mode=Mode.PACKED, origin_column=-1), "no left padding"),
    ],
)
def test_illegal_conv_commands_are_compiler_errors(command, rule):
    with pytest.raises(HwgenError, match=rule):
        check_conv(command, PRESETS["16x16"])
