"""Hardware configurations: rules, presets, files."""

import re
from dataclasses import replace

import pytest

from hwgen.config import PRESETS, Bus, HardwareConfig, Machine, from_toml, load_hardware, with_array
from hwgen.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("out_lanes", 12, "a power of two from 1 to 64"),
        ("out_lanes", 128, "a power of two from 1 to 64"),
        ("in_lanes", 2, "a power of two from 4 to 64"),
        ("activation_words", 100, "a power of two from 64"),
        ("weight_words", 8, "a power of two from 16"),
        ("parameter_words", 4, "a power of two from 8"),
        ("accumulator_depth", 4, "a power of two from 8 to 4096"),
        ("accumulator_bits", 33, "from 20 to 32"),
        ("requantize_lanes", 32, "a power of two, at most 16"),
        ("window_taps", 12, "4, 8 or 16, and at most 16"),
        ("window_taps", 32, "4, 8 or 16, and at most 16"),
        ("multiplier_bits", 9, "one of 0"),
        ("bus_bits", 256, "at most 128"),
        ("address_bits", 16, "from 32 to 64"),
        ("watchdog_bits", 4, "from 8 to 32"),
        ("activation_tables", 3, "0, 1, 2, 4 or 8"),
    ],
)
def test_illegal_values_name_the_rule(field, value, rule):
    with pytest.raises(ConfigError, match=f"hardware '16x16': {field} must be .*{rule}.*, not {value}"):
        replace(PRESETS["16x16"], **{field: value})


def test_what_is_not_built_leaves_no_trace():
    """Hardware without tables is what it was before there were any: the same hash, the same header of the Verilog."""
    assert "activation_tables" not in HardwareConfig().values()
    assert HardwareConfig(activation_tables=2).values()["activation_tables"] == 2
    assert HardwareConfig(activation_tables=2).hash() != HardwareConfig().hash()
    assert HardwareConfig.from_values(HardwareConfig(activation_tables=2).values()) == HardwareConfig(activation_tables=2)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("out_lanes", 2, "1 in the serial machine"),
        ("in_lanes", 8, "4 in the serial machine"),
        ("multiplier_bits", 24, "from 8 to 16 in the serial machine"),
        ("multiplier_bits", 0, "from 8 to 16 in the serial machine"),
        ("bus", Bus.AXI4, "wishbone in the serial machine"),
        ("address_bits", 40, "32 in the serial machine"),
        ("watchdog_bits", 16, "32 in the serial machine"),
        ("counters", True, "false in the serial machine"),
        ("activation_tables", 1, "0 in the serial machine"),
    ],
)
def test_the_serial_machine_is_built_for_few_values(field, value, rule):
    with pytest.raises(ConfigError, match=f"hardware 'up5k': {field} must be {rule}"):
        replace(PRESETS["up5k"], **{field: value})


def test_the_parallel_machine_is_as_before_there_was_another():
    parallel, serial = PRESETS["4x4"], PRESETS["up5k"]
    assert "machine" not in parallel.values() and serial.values()["machine"] == "serial"
    assert all(HardwareConfig.from_values(config.values()) == config for config in (parallel, serial))
    assert serial.hash() != replace(serial, machine=Machine.PARALLEL).hash()


def test_hash_ignores_the_name_and_sees_everything_else():
    base = HardwareConfig(name="a")
    assert base.hash() == replace(base, name="b").hash()
    assert base.hash() != replace(base, accumulator_depth=64).hash()


@pytest.mark.parametrize("array", ["4x4", "8x8", "16x16", "8x16", "16x8", "32x32", "1x4", "64x64"])
def test_other_arrays_keep_the_memories_bytes(array):
    base = PRESETS["16x16"]
    other = with_array(base, array)
    assert other.activation_words * other.in_lanes == base.activation_words * base.in_lanes
    assert other.weight_words * other.weight_word_bytes == base.weight_words * base.weight_word_bytes
    assert f"{other.out_lanes}x{other.in_lanes}" == array


@pytest.mark.parametrize("array", ["16", "16x", "axb", "0x16", "16x16x2", "-1x4"])
def test_bad_arrays_are_refused(array):
    with pytest.raises(ConfigError, match="must be OUTxIN"):
        with_array(PRESETS["16x16"], array)


def test_toml_file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text('preset = "8x8"\naccumulator_depth = 32\nrounding = "half_up"\n')
    config = from_toml(path)
    assert (config.name, config.out_lanes, config.accumulator_depth, config.rounding.value) == ("small", 8, 32, "half_up")
    path.write_text("out_lanes = 8\nin_lanes = 4\n")
    assert load_hardware(str(path)).requantize_lanes == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lanes = 3", "unknown key 'lanes'; known keys: name, out_lanes"),
        ('preset = "9x9"', "preset must be one of 4x4"),
        ("out_lanes = [", "is not TOML"),
        ('rounding = "up"', "rounding must be half_even or half_up"),
        ('out_lanes = "8"', "out_lanes must be of type int"),
        ("out_lanes = true", "out_lanes must be of type int"),
    ],
)
def test_bad_toml_is_refused(tmp_path, text, message):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        from_toml(path)


def test_settings():
    config = load_hardware("8x8", "4x8", ["weight_decoder=true", "bus=wishbone", "accumulator_depth = 32"])
    assert (config.weight_decoder, config.bus, config.accumulator_depth) == (True, Bus.WISHBONE, 32)
    assert (config.out_lanes, config.in_lanes, config.name) == (4, 8, "4x8 with weight_decoder=true, bus=wishbone, accumulator_depth = 32")
    assert load_hardware("8x8", None, ["in_lanes=4"]).window_taps == 4
    assert load_hardware("8x8") == load_hardware("8x8", None, []) == PRESETS["8x8"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["weight_decoder"], "setting 'weight_decoder': must be NAME=VALUE, a parameter of the hardware, each once; for example weight_decoder=true"),
        (["name=x"], "setting 'name=x': must be NAME=VALUE"),
        (["bus_bits=32", "bus_bits=64"], "setting 'bus_bits=64': must be NAME=VALUE, a parameter of the hardware, each once"),
        (["decoder=true"], "settings: unknown key 'decoder'; known keys: name, out_lanes"),
        (["weight_decoder=1"], "settings: weight_decoder must be true or false, not 1"),
        (["bus=pci"], "settings: bus must be axi4 or wishbone, not 'pci'"),
        (["out_lanes=-4"], "settings: out_lanes must be of type int, not '-4'"),
        (["out_lanes=5"], "hardware '16x16 with out_lanes=5': out_lanes must be a power of two from 1 to 64, not 5"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        load_hardware(None, None, settings)


def test_missing_file_names_the_presets():
    with pytest.raises(ConfigError, match="cannot be read .* name a preset .4x4, 8x8, 16x16, 32x32, up5k. or a TOML file"):
        load_hardware("nowhere.toml")
