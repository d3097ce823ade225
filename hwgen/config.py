"""The hardware's parameters: one frozen value that the compiler, the simulator and the RTL generator share."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

from hwgen.arith import INT8, MULTIPLIER_BITS, SHIFT, AddRequantize, IntType, Requantize, Rounding
from hwgen.errors import ConfigError

BANKS = 4  # of each side of the activation buffer: word address modulo 4
WINDOW_TAPS = (4, 8, 16)  # lanes that may hold taps of one channel in depthwise mode
SIDES = 2  # halves of the activation buffer, by the top bit of the word address, each with ports of its own
TABLE_ENTRIES = 256  # of an activation table: one for each int8 code
TABLE_LANES = 4  # entries in a word of the table buffer
ACTIVATION_TABLES = (0, 1, 2, 4, 8)  # that hardware can be built with
PARAMETER_BYTES = 16  # one record per output channel, in memory
PARAMETERS = {"bias": IntType(32), "multiplier": IntType(24, False), "shift": SHIFT, "low": INT8, "high": INT8, "zero_point": INT8}
PARAMETER_OFFSETS = {"bias": 0, "multiplier": 4, "shift": 8, "low": 9, "high": 10, "zero_point": 11}  # bytes in the record, little endian


class Bus(Enum):
    """Protocol of the memory port and of the registers."""

    AXI4 = "axi4"
    WISHBONE = "wishbone"


class Machine(Enum):
    """Which implementation of the instruction set: engines side by side, or one small machine that does one thing after the other."""

    PARALLEL = "parallel"
    SERIAL = "serial"


# Parameters that name nothing while they have these values: hardware with them is the same as before they existed.
OPTIONS: Mapping[str, object] = {"activation_tables": 0, "output_gaps": False, "weight_decoder": False, "machine": Machine.PARALLEL}


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """One accelerator. Sizes in words of the memory in question; see docs/accelerator.md.

    out_lanes (M): output channels computed at once. in_lanes (N): products per output channel and cycle; also the bytes of an
    activation word. A weight word holds `weight_rows` rows of N bytes, a parameter word `weight_rows` records. counters: where the
    cycles went can be read off the machine; without them only `cycles` and `commands` count. activation_tables: how many tables of 256
    codes lie on chip at once; 0 builds none. output_gaps: results may be written with gaps between columns, for enlargements.
    weight_decoder: weights of few bits lie packed in memory and are unpacked on their way into the weight buffer. machine: see
    docs/accelerator.md, "the serial machine".
    """

    name: str = "custom"
    out_lanes: int = 16
    in_lanes: int = 16
    activation_words: int = 16384
    weight_words: int = 2048
    parameter_words: int = 1024
    accumulator_depth: int = 128
    accumulator_bits: int = 32
    requantize_lanes: int = 0  # 0: min(out_lanes, in_lanes)
    window_taps: int = 0  # 0: min(in_lanes, 16)
    multiplier_bits: int = 16
    rounding: Rounding = Rounding.HALF_EVEN
    bus: Bus = Bus.AXI4
    bus_bits: int = 0  # 0: 8 * in_lanes, at most 128
    address_bits: int = 32
    watchdog_bits: int = 32
    counters: bool = True
    activation_tables: int = 0
    output_gaps: bool = False
    weight_decoder: bool = False
    machine: Machine = Machine.PARALLEL

    def __post_init__(self) -> None:
        if not self.requantize_lanes:
            object.__setattr__(self, "requantize_lanes", min(self.out_lanes, self.in_lanes))
        if not self.bus_bits:
            object.__setattr__(self, "bus_bits", min(128, 8 * self.in_lanes))
        if not self.window_taps:
            object.__setattr__(self, "window_taps", min(self.in_lanes, WINDOW_TAPS[-1]))
        bits = ", ".join(map(str, MULTIPLIER_BITS[1:]))
        lanes, most_bus_bits = self.depthwise_lanes, min(8 * self.in_lanes, 8 * self.parameter_word_bytes)
        rules: list[tuple[str, bool, str]] = [
            ("out_lanes", _is_power_of_two(self.out_lanes) and 1 <= self.out_lanes <= 64, "a power of two from 1 to 64"),
            ("in_lanes", _is_power_of_two(self.in_lanes) and 4 <= self.in_lanes <= 64, "a power of two from 4 to 64"),
            ("activation_words", _is_power_of_two(self.activation_words) and 64 <= self.activation_words <= 1 << 20, "a power of two from 64 to 1048576"),
            ("weight_words", _is_power_of_two(self.weight_words) and 16 <= self.weight_words <= 1 << 20, "a power of two from 16 to 1048576"),
            ("parameter_words", _is_power_of_two(self.parameter_words) and 8 <= self.parameter_words <= 1 << 16, "a power of two from 8 to 65536"),
            ("accumulator_depth", _is_power_of_two(self.accumulator_depth) and 8 <= self.accumulator_depth <= 4096, "a power of two from 8 to 4096"),
            ("accumulator_bits", 20 <= self.accumulator_bits <= 32, "from 20 to 32"),
            ("requantize_lanes", _is_power_of_two(self.requantize_lanes) and self.requantize_lanes <= lanes, f"a power of two, at most {lanes}"),
            ("window_taps", self.window_taps in WINDOW_TAPS and self.window_taps <= self.in_lanes, f"4, 8 or 16, and at most {self.in_lanes}"),
            ("multiplier_bits", self.multiplier_bits in MULTIPLIER_BITS, f"one of {MULTIPLIER_BITS[0]} (power-of-two scales only), {bits}"),
            ("bus_bits", self.bus_bits in (32, 64, 128, 256, 512) and self.bus_bits <= most_bus_bits, f"32, 64, 128, 256 or 512, and at most {most_bus_bits}"),
            ("address_bits", 32 <= self.address_bits <= 64, "from 32 to 64"),
            ("activation_tables", self.activation_tables in ACTIVATION_TABLES, "0, 1, 2, 4 or 8"),
            ("watchdog_bits", 8 <= self.watchdog_bits <= 32, "from 8 to 32"),
            *(self._serial_rules() if self.machine is Machine.SERIAL else ()),
        ]
        for field, holds, rule in rules:
            if not holds:
                raise ConfigError(f"hardware {self.name!r}: {field} must be {rule}, not {getattr(self, field)}")

    def _serial_rules(self) -> list[tuple[str, bool, str]]:
        """What the serial machine is built for."""
        return [
            ("out_lanes", self.out_lanes == 1, "1 in the serial machine"),
            ("in_lanes", self.in_lanes == 4, "4 in the serial machine"),
            ("multiplier_bits", 8 <= self.multiplier_bits <= 16, "from 8 to 16 in the serial machine"),
            ("bus", self.bus is Bus.WISHBONE, "wishbone in the serial machine"),
            ("address_bits", self.address_bits == 32, "32 in the serial machine"),
            ("watchdog_bits", self.watchdog_bits == 32, "32 in the serial machine"),
            ("counters", not self.counters, "false in the serial machine"),
            ("activation_tables", not self.activation_tables, "0 in the serial machine"),
            ("weight_decoder", not self.weight_decoder, "false in the serial machine"),
        ]

    @property
    def weight_rows(self) -> int:
        """Weight rows (and parameter records) that move into the array per cycle."""
        return max(1, self.out_lanes // 4)

    @property
    def weight_load_cycles(self) -> int:
        """Cycles to fill one set of weight registers."""
        return self.out_lanes // self.weight_rows

    @property
    def depthwise_lanes(self) -> int:
        """Channels per tile in depthwise mode."""
        return min(self.out_lanes, self.in_lanes)

    @property
    def tiles_per_word(self) -> int:
        """Output tiles whose channels share an activation word, where M < N."""
        return max(1, self.in_lanes // self.out_lanes)

    @property
    def slices(self) -> int:
        """Requantization beats per pixel of a full tile."""
        return self.out_lanes // self.requantize_lanes

    @property
    def weight_word_bytes(self) -> int:
        return self.weight_rows * self.in_lanes

    @property
    def parameter_word_bytes(self) -> int:
        return self.weight_rows * PARAMETER_BYTES

    @property
    def table_words(self) -> int:
        """Words of the table buffer. In memory each takes a bus word, of which the lowest TABLE_LANES bytes count."""
        return self.activation_tables * TABLE_ENTRIES // TABLE_LANES

    @property
    def bus_bytes(self) -> int:
        return self.bus_bits // 8

    @property
    def multipliers(self) -> int:
        return self.out_lanes * self.in_lanes

    @property
    def accumulator(self) -> IntType:
        return IntType(self.accumulator_bits)

    @property
    def requantize(self) -> Requantize:
        return Requantize(accumulator=self.accumulator, multiplier_bits=self.multiplier_bits, rounding=self.rounding)

    @property
    def add_requantize(self) -> AddRequantize:
        return AddRequantize(multiplier_bits=self.multiplier_bits, rounding=self.rounding)

    def values(self) -> dict[str, Any]:
        """Every parameter as JSON knows it, the name first; without options that are as if they did not exist."""
        known = {key: (value.value if isinstance(value, Enum) else value) for key, value in asdict(self).items()}
        return {key: value for key, value in known.items() if getattr(self, key) != OPTIONS.get(key)}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> HardwareConfig:
        """The configuration that `values()` describes; keys that are no parameters are left out. Raises ValueError, TypeError, ConfigError."""
        kinds: dict[str, type[Any]] = {field.name: type(field.default) for field in fields(cls)}
        return cls(**{key: kinds[key](value) if issubclass(kinds[key], Enum) else value for key, value in values.items() if key in kinds})

    def hash(self) -> str:
        """SHA-256 over every parameter except the name: equal hashes mean equal hardware."""
        content = {key: value for key, value in self.values().items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def short_hash(self) -> int:
        """The last 32 bits of the hash: what register config_hash holds, and firmware compares."""
        return int(self.hash()[-8:], 16)


PRESETS = {
    config.name: config
    for config in (
        HardwareConfig(name="4x4", out_lanes=4, in_lanes=4, activation_words=16384, weight_words=16384, parameter_words=4096, accumulator_depth=64),
        HardwareConfig(name="8x8", out_lanes=8, in_lanes=8, activation_words=16384, weight_words=8192, parameter_words=2048, accumulator_depth=64),
        HardwareConfig(name="16x16", out_lanes=16, in_lanes=16, activation_words=16384, weight_words=4096, parameter_words=1024),
        HardwareConfig(name="32x32", out_lanes=32, in_lanes=32, activation_words=16384, weight_words=1024, parameter_words=512),
        HardwareConfig(
            name="up5k",
            machine=Machine.SERIAL,
            out_lanes=1,
            in_lanes=4,
            activation_words=16384,
            weight_words=2048,
            parameter_words=128,
            accumulator_depth=64,
            bus=Bus.WISHBONE,
            counters=False,
        ),
    )
}
DEFAULT_PRESET = "16x16"


def with_array(config: HardwareConfig, array: str) -> HardwareConfig:
    """`config` with the array shape `OUTxIN`; memories keep their bytes where the rules allow it."""
    parts = array.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"array {array!r}: must be OUTxIN, two numbers, for example 16x16")
    out_lanes, in_lanes = int(parts[0]), int(parts[1])
    if not (out_lanes and in_lanes):
        raise ConfigError(f"array {array!r}: must be OUTxIN with both at least 1")
    if (out_lanes, in_lanes) == (config.out_lanes, config.in_lanes):
        return config
    rows = max(1, out_lanes // 4)
    return replace(
        config,
        name=f"{out_lanes}x{in_lanes}",
        out_lanes=out_lanes,
        in_lanes=in_lanes,
        activation_words=max(64, config.activation_words * config.in_lanes // in_lanes),
        weight_words=max(16, config.weight_words * config.weight_word_bytes // (rows * in_lanes)),
        parameter_words=max(8, config.parameter_words * config.weight_rows // rows),
        requantize_lanes=0,
        window_taps=0,
        bus_bits=0,
    )


def from_toml(path: Path) -> HardwareConfig:
    """Read a configuration file: keys as in HardwareConfig, optionally `preset` to start from."""
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"hardware file {path.name!r}: cannot be read ({error.strerror}); name a preset ({', '.join(PRESETS)}) or a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"hardware file {path.name!r}: is not TOML ({error})") from error
    preset = content.pop("preset", DEFAULT_PRESET)
    if preset not in PRESETS:
        raise ConfigError(f"hardware file {path.name!r}: preset must be one of {', '.join(PRESETS)}, not {preset!r}")
    return _replaced(PRESETS[preset], {"name": path.stem, **content}, f"hardware file {path.name!r}")


def way_to_pack(config: HardwareConfig) -> str | None:
    """The argument that makes `config` store weights of few bits packed; None where it does already, or cannot."""
    return None if config.weight_decoder or config.machine is Machine.SERIAL else "--set weight_decoder=true"


def with_settings(config: HardwareConfig, settings: Sequence[str]) -> HardwareConfig:
    """`config` with parameters given as `NAME=VALUE`, values as in a TOML file but without quotes; the name tells of them."""
    content: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or key == "name" or key in content:
            raise ConfigError(f"setting {setting!r}: must be NAME=VALUE, a parameter of the hardware, each once; for example weight_decoder=true")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
        content[key] = {"true": True, "false": False}.get(text, number)
    name = f"{config.name} with {', '.join(settings)}" if settings else config.name
    return _replaced(config, {"name": name, **content}, "settings")


def _replaced(base: HardwareConfig, content: Mapping[str, Any], source: str) -> HardwareConfig:
    """`base` with other parameters; raises ConfigError, naming the source, for what is no parameter or of another type."""
    known, found = [field.name for field in fields(HardwareConfig)], dict(content)
    for key, value in content.items():
        if key not in known:
            raise ConfigError(f"{source}: unknown key {key!r}; known keys: {', '.join(known)}")
        kind = type(getattr(base, key))
        if issubclass(kind, Enum):
            choices = [member.value for member in kind]
            if value not in choices:
                raise ConfigError(f"{source}: {key} must be {' or '.join(choices)}, not {value!r}")
            found[key] = kind(value)
        elif not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            rule = "true or false" if kind is bool else f"of type {kind.__name__}"
            raise ConfigError(f"{source}: {key} must be {rule}, not {value!r}")
    if "in_lanes" in content or "out_lanes" in content:
        found = {"requantize_lanes": 0, "window_taps": 0, "bus_bits": 0, **found}
    return replace(base, **found)


def load_hardware(hardware: str | None, array: str | None = None, settings: Sequence[str] = ()) -> HardwareConfig:
    """A preset's name or a TOML file (None: the default preset), optionally with another array shape, and then with other parameters."""
    hardware = hardware or DEFAULT_PRESET
    config = PRESETS[hardware] if hardware in PRESETS else from_toml(Path(hardware))
    return with_settings(with_array(config, array) if array else config, settings)
