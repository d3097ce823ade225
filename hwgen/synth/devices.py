"""The devices that `hwgen synth` knows: what they hold, how the tools call them, what a cell of a netlist takes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from hwgen.config import BANKS, PARAMETERS, HardwareConfig, Machine
from hwgen.errors import CapacityError, ConfigError

_LUTS_PER_MULTIPLIER = 60  # an int8 product without a DSP block; yosys needs 64 or more LUT4, so nothing that fits is refused


class Family(Enum):
    ECP5 = "ecp5"
    ICE40 = "ice40"
    XC7 = "xc7"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a netlist takes or a device holds. lut: LUT4 (xc7: LUT6), those of carry chains and small memories included; ram: blocks,
    of 18 Kbit (ECP5), 4 Kbit (iCE40), 36 Kbit (xc7, halves counted); large: blocks with one port, of 256 Kbit (iCE40 UltraPlus)."""

    lut: float = 0
    ff: float = 0
    dsp: float = 0
    ram: float = 0
    large: float = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def __sub__(self, other: Resources) -> Resources:
        return self + other.times(-1)

    def times(self, count: int) -> Resources:
        return Resources(**{name: value * count for name, value in vars(self).items()})

    def values(self) -> dict[str, float]:
        """By name, whole numbers as such; large blocks only where there are any."""
        return {name: int(value) if value == int(value) else value for name, value in vars(self).items() if value or name != "large"}


NAMES = {"lut": "LUTs", "ff": "flip-flops", "dsp": "DSP blocks", "ram": "RAM blocks"}
LARGE_NAME = "large RAM blocks"


@dataclass(frozen=True, kw_only=True)
class Device:
    """`capacity` None: no place and route, so nothing to fill. `flags`: how nextpnr is told the part. `grade`: the speed grade, one of
    `grades`, which the maker sells (higher is faster). `clock_pin`: a pin from which dedicated wires lead to the clock network (PCLKT0_0 of
    Project Trellis' database, github.com/YosysHQ/prjtrellis-db)."""

    name: str
    family: Family
    title: str
    capacity: Resources | None = None
    ram_kilobits: int = 0
    large_kilobits: int = 0
    flags: tuple[str, ...] = ()
    grade: int | None = None
    grades: tuple[int, ...] = ()
    clock_pin: str = ""

    @property
    def name_in_report(self) -> str:
        """So that other speed grades than the usual one stand beside it."""
        return self.name if self.grade == self.slowest.grade else f"{self.name}-{self.grade}"

    @property
    def title_with_grade(self) -> str:
        return self.title if self.grade is None else f"{self.title}, speed grade {self.grade}"

    @property
    def slowest(self) -> Device:
        """The same, of the speed grade that all others are at least as fast as."""
        return replace(self, grade=self.grades[0]) if self.grades else self

    @property
    def place_flags(self) -> tuple[str, ...]:
        return self.flags if self.grade is None else (*self.flags, "--speed", str(self.grade))

    def of_grade(self, grade: int) -> Device:
        """Raises ConfigError where it is not sold."""
        if grade not in self.grades:
            sold = f"one of {', '.join(map(str, self.grades))}" if self.grades else "left out"
            raise ConfigError(f"speed grade of {self.name}: must be {sold}, not {grade}")
        return replace(self, grade=grade)

    @property
    def place_tool(self) -> str | None:
        return None if self.family is Family.XC7 else f"nextpnr-{self.family.value}"


_SINGLE_FF = Resources(ff=1)
_LUT = Resources(lut=1)
# Cells of yosys that take resources. A CCU2C is two LUTs with a carry, a TRELLIS_DPR16X4 four and the two of its write port; a LUT5 to
# LUT8 of ECP5 is several LUT4 and free multiplexers, which yosys counts one by one.
CELLS: Mapping[Family, Mapping[str, Resources]] = {
    Family.ECP5: {
        "LUT4": _LUT,
        "CCU2C": Resources(lut=2),
        "TRELLIS_DPR16X4": Resources(lut=6),
        "TRELLIS_FF": _SINGLE_FF,
        "MULT18X18D": Resources(dsp=1),
        "DP16KD": Resources(ram=1),
    },
    Family.ICE40: {
        "SB_LUT4": _LUT,
        **{f"SB_DFF{kind}": _SINGLE_FF for kind in ("", "E", "SR", "R", "SS", "S", "ESR", "ER", "ESS", "ES")},
        "SB_MAC16": Resources(dsp=1),
        "SB_RAM40_4K": Resources(ram=1),
        "SB_SPRAM256KA": Resources(large=1),
    },
    Family.XC7: {
        **{f"LUT{inputs}": _LUT for inputs in range(1, 7)},
        "INV": Resources(),
        **{name: _SINGLE_FF for name in ("FDRE", "FDSE", "FDCE", "FDPE")},
        "RAM32M": Resources(lut=4),
        "RAM64M": Resources(lut=4),
        "RAM32X1D": Resources(lut=2),
        "RAM64X1D": Resources(lut=2),
        "RAM128X1D": Resources(lut=4),
        "SRL16E": _LUT,
        "SRLC32E": _LUT,
        "DSP48E1": Resources(dsp=1),
        "RAMB36E1": Resources(ram=1),
        "RAMB18E1": Resources(ram=0.5),
    },
}

# Names of nextpnr's utilization.
PLACED: Mapping[Family, Mapping[str, str]] = {
    Family.ECP5: {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D", "ram": "DP16KD"},
    Family.ICE40: {"lut": "ICESTORM_LC", "dsp": "ICESTORM_DSP", "ram": "ICESTORM_RAM", "large": "ICESTORM_SPRAM"},
}

_ECP5_GRADES = (6, 7, 8)

DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        Device(
            name="ecp5-85k",
            family=Family.ECP5,
            title="Lattice ECP5 LFE5U-85F",
            capacity=Resources(lut=83640, ff=83640, dsp=156, ram=208),
            ram_kilobits=18,
            flags=("--85k", "--package", "CABGA756"),
            grade=_ECP5_GRADES[0],
            grades=_ECP5_GRADES,
            clock_pin="C17",
        ),
        Device(
            name="ecp5-45k",
            family=Family.ECP5,
            title="Lattice ECP5 LFE5U-45F",
            capacity=Resources(lut=43848, ff=43848, dsp=72, ram=108),
            ram_kilobits=18,
            flags=("--45k", "--package", "CABGA554"),
            grade=_ECP5_GRADES[0],
            grades=_ECP5_GRADES,
            clock_pin="A12",
        ),
        Device(
            name="up5k",
            family=Family.ICE40,
            title="Lattice iCE40 UP5K",
            capacity=Resources(lut=5280, ff=5280, dsp=8, ram=30, large=4),
            ram_kilobits=4,
            large_kilobits=256,
            flags=("--up5k", "--package", "sg48"),
        ),
        Device(name="xc7", family=Family.XC7, title="Xilinx 7 series (synthesis only)"),
    )
}


def buffer_bits(config: HardwareConfig, device: Device | None = None) -> int:
    """Bits of all memories that are too large for LUTs, but those that go to the device's large blocks."""
    record = sum(kind.bits for name, kind in PARAMETERS.items() if name != "multiplier") - 32 + config.accumulator_bits + config.multiplier_bits
    activation = 8 * config.in_lanes * max(config.activation_words, BANKS)
    weight = 8 * config.weight_word_bytes * config.weight_words
    if device is not None and device.large_kilobits and config.machine is Machine.SERIAL:
        activation = 0
    return activation + weight + record * config.weight_rows * config.parameter_words


def check_capacity(config: HardwareConfig, device: Device) -> None:
    """Raises CapacityError at once for what cannot fit by far, before tools work on it for an hour."""
    if device.capacity is None:
        return
    what = f"hardware {config.name!r} on {device.name}"
    most_bits = 1024 * device.ram_kilobits * int(device.capacity.ram)
    if buffer_bits(config, device) > most_bits:
        rule = f"buffers must fit {most_bits // 8192} KiB of block RAM, they hold {-(-buffer_bits(config, device) // 8192)} KiB"
        raise CapacityError(f"{what}: {rule}; take fewer activation_words, weight_words or parameter_words")
    luts = (config.multipliers - int(device.capacity.dsp)) * _LUTS_PER_MULTIPLIER
    if luts > device.capacity.lut:
        rule = f"multipliers must fit {int(device.capacity.dsp)} DSP blocks and {int(device.capacity.lut)} LUTs, there are {config.multipliers}"
        raise CapacityError(f"{what}: {rule}; take a smaller --array or a larger device")
