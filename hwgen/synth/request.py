"""What is synthesized, for which device, and how much is tried for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hwgen.config import HardwareConfig
from hwgen.errors import CapacityError
from hwgen.synth.devices import Device, Family

Stage = Callable[[str], None]  # told the name of each stage that begins
_SEED = {Family.ECP5: 2, Family.ICE40: 1, Family.XC7: 1}  # ECP5: with it preset 8x8 is routed to the end


@dataclass(frozen=True, kw_only=True)
class SynthesisRequest:
    """`frequency_mhz` is what place and route work towards. `blocks`: keep the blocks apart, and count each; costs some optimization.
    `seed`: of the placer's random numbers; None: the one of the device's family. `tries`: so many seeds, from `seed` on, are placed, and those
    with the best estimates routed until one comes to its end. `clock_pin`: of the board; None: any."""

    verilog: str
    config: HardwareConfig
    device: Device
    frequency_mhz: float
    blocks: bool = False
    seed: int | None = None
    tries: int = 1
    clock_pin: str | None = None

    @property
    def seeds(self) -> range:
        first = _SEED[self.device.family] if self.seed is None else self.seed
        return range(first, first + self.tries)

    def too_large(self, short: tuple[str, ...]) -> CapacityError:
        """`short`: each thing of which the device has too few."""
        what, where = f"hardware {self.config.name!r}", self.device.title_with_grade
        return CapacityError(f"{what}: must fit {where}, needs {'; '.join(short)}; take a smaller --array, smaller buffers or a larger device")
