"""The cycles that docstrings of hwgen/rtl promise, which the compiler's cycle count is built from."""

from __future__ import annotations

from dataclasses import replace

import pytest
from system_bench import run

from hwgen.config import PRESETS, HardwareConfig
from hwgen.isa.fields import COMMAND_BYTES, Engine, Region
from hwgen.isa.instructions import Conv, End, Load, Store

SMALL = {"activation_words": 256, "weight_words": 64, "parameter_words": 64}
CONFIGS = [replace(PRESETS["16x16"], **SMALL), replace(PRESETS["4x4"], **SMALL)]
PAUSE = Conv(signal_load=1, signal_store=1, pixels_per_tile=300)  # until the fetch of the program has gone quiet


def load(config: HardwareConfig, beats: int, **fields: int) -> Load:
    return Load(region=Region.INPUT, row_bytes=beats * config.bus_bytes, **fields)


def store(config: HardwareConfig, beats: int, **fields: int) -> Store:
    return Store(region=Region.OUTPUT, row_bytes=beats * config.bus_bytes, **fields)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("latency", [1, 7])
def test_program_fetch_dispatch_and_end(config: HardwareConfig, latency: int) -> None:
    record = COMMAND_BYTES // config.bus_bytes
    happened = run([Conv(pixels_per_tile=400), Conv(), Conv(), End()], config, latency)
    first, second, third, end = happened.dispatched
    assert first == 6 + latency + record
    assert second - first == third - second == record + 1
    assert happened.accepted[Engine.COMPUTE][0] == first + 1
    assert end == happened.done[Engine.COMPUTE][-1] + 1
    assert happened.cycles == end + 1


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize(("latency", "beats"), [(1, 1), (20, 40)])
def test_load_alone(config: HardwareConfig, latency: int, beats: int) -> None:
    happened = run([PAUSE, load(config, beats, wait_compute=1), End()], config, latency)
    (accepted,), (done,) = happened.accepted[Engine.LOAD], happened.done[Engine.LOAD]
    assert accepted == happened.done[Engine.COMPUTE][0] + 1, "tokens take one cycle"
    assert done == accepted + 5 + latency + beats


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize(("latency", "beats"), [(1, 1), (20, 40)])
def test_store_alone(config: HardwareConfig, latency: int, beats: int) -> None:
    happened = run([PAUSE, store(config, beats, wait_compute=1), End()], config, latency)
    (accepted,), (done,) = happened.accepted[Engine.STORE], happened.done[Engine.STORE]
    assert done == accepted + 7 + latency + beats


@pytest.mark.parametrize(("latency", "beats"), [(1, 4), (20, 40)])
@pytest.mark.parametrize(("engine", "make"), [(Engine.LOAD, load), (Engine.STORE, store)])
def test_queued_transfers_follow_without_a_gap(engine: Engine, make: type, latency: int, beats: int) -> None:
    config = CONFIGS[0]
    happened = run([PAUSE, make(config, beats, wait_compute=1), make(config, beats), make(config, 40), End()], config, latency)
    first, second, third = happened.done[engine]
    assert (second - first, third - second) == (beats, 40)


@pytest.mark.parametrize(("engine", "make"), [(Engine.LOAD, load), (Engine.STORE, store)])
def test_rows_of_at_least_three_words_follow_without_a_gap(engine: Engine, make: type) -> None:
    config = CONFIGS[0]
    for beats, interval in ((1, 3), (2, 3), (3, 3), (5, 5)):
        rows = {"rows": 10, "memory_row_stride": config.bus_bytes * beats, "buffer_row_stride": beats}
        one, ten = (run([PAUSE, make(config, beats, wait_compute=1, **fields), End()], config).done[engine][0] for fields in ({}, rows))
        assert ten - one == 9 * interval
