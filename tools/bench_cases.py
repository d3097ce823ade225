"""Which network on which hardware `make bench` measures, and what it should reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hwgen.config import PRESETS, HardwareConfig, with_array
from tools.open_set import open_set
from tools.seeded_networks import SHAPES

SMALL_BUFFERS = {"activation_words": 4096, "weight_words": 512}  # at 16x16: 64 KiB of activations, 32 KiB of weights
RESIDENT = {"weight_words": 8192}  # at 16x16: 512 KiB, so that the autoencoder's weights stay on the chip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row. `most_cycles` is the goal, `stretch_cycles` the better one; None: nothing was promised."""

    network: str  # of SHAPES
    hardware: HardwareConfig
    trained: str | None = None  # in the open set
    most_cycles: int | None = None
    stretch_cycles: int | None = None

    @property
    def name(self) -> str:
        array = f"{self.hardware.out_lanes}x{self.hardware.in_lanes}"
        small = "@small" if self.hardware.activation_words == SMALL_BUFFERS["activation_words"] else ""
        return self.network + (small if array == "16x16" else f"@{array}")

    @property
    def at_least_cycles(self) -> int:
        """No hardware with so many multipliers takes fewer."""
        return -(-SHAPES[self.network].macs // self.hardware.multipliers)


TRAINED = {
    "resnet8": "resnet8_cifar10_nhwc",
    "mobilenetv1_025_96": "vww_mobilenetv1_025",
    "dscnn": "kws_dscnn",
    "autoencoder": "ad_autoencoder",
    "mobilenetv1_025_128": "mobilenetv1_025_128_imagenet",
    "squeezenet10": "squeezenet10_imagenet",
}


def at_utilization(network: str, hardware: HardwareConfig, share: float) -> int:
    """Cycles in which `share` of the multipliers' products are those of the network."""
    return int(SHAPES[network].macs / (share * hardware.multipliers))


def _case(network: str, array: str, goals: tuple[float, float] | tuple[float] | tuple[()] = (), changes: Mapping[str, Any] | None = None) -> Case:
    """Goals above 1 are cycles, others utilizations."""
    hardware = with_array(PRESETS["16x16"], array) if array not in PRESETS else PRESETS[array]
    if changes:
        hardware = replace(hardware, name=f"{array} with {', '.join(f'{key} {value}' for key, value in changes.items())}", **changes)
    cycles = [int(goal) if goal > 1 else at_utilization(network, hardware, goal) for goal in goals]
    most, stretch, *_ = [*cycles, None, None]
    return Case(network=network, hardware=hardware, trained=TRAINED.get(network), most_cycles=most, stretch_cycles=stretch)


def _cases() -> Iterator[Case]:
    yield _case("resnet8", "16x16", (51_400, 50_000))
    yield _case("mobilenetv1_025_96", "16x16", (45_000, 39_000))
    yield _case("dscnn", "16x16", (16_000, 13_800))
    yield _case("autoencoder", "16x16", (4_500, 4_300), RESIDENT)
    yield _case("mobilenetv1_025_128", "16x16", (0.65, 0.75))
    for network, goals in (("squeezenet10", (0.85, 0.88)), ("mobilenetv2_100_224", (0.75, 0.80)), ("resnet18", (0.90, 0.95)), ("mobilenetv1_100_224", (0.85,))):
        yield _case(network, "16x16", goals)
        yield _case(network, "16x16", goals, SMALL_BUFFERS)
    yield _case("resnet8", "8x16", (110_000,))
    yield _case("resnet8", "8x8")
    yield _case("mobilenetv1_025_96", "8x8", (0.70,))
    yield _case("dscnn", "8x8", (0.70,))
    yield _case("mobilenetv1_025_128", "8x8", (0.70,))
    for network in ("resnet8", "mobilenetv1_025_96", "dscnn", "mobilenetv1_025_128"):
        yield _case(network, "32x32")


CASES: dict[str, Case] = {case.name: case for case in _cases()}
LARGE = tuple(name for name, case in CASES.items() if SHAPES[case.network].macs > 100_000_000)


def is_trained(case: Case) -> bool:
    """Whether the trained network is at hand."""
    return case.trained is not None and open_set() is not None
