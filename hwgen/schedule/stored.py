"""How much memory weights take: as they are stored, and as they would be with and without a decoder before the weight buffer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hwgen.config import HardwareConfig
from hwgen.layout import Int8Array, narrowest_image, weight_bytes
from hwgen.packing import WeightFormat, pack


@dataclass(frozen=True, kw_only=True)
class WeightMemory:
    """Bytes of weights in memory, without parameters. `formats`: in which they are stored, `stored_bytes` what they take so; `packed_bytes`
    and `int8_bytes` with and without a decoder."""

    formats: tuple[WeightFormat, ...]
    stored_bytes: int
    packed_bytes: int
    int8_bytes: int


def weight_memory(weights: Iterable[Int8Array], config: HardwareConfig) -> WeightMemory:
    """Of all the weight sets (sets, M, N) of LOADs together, also for hardware that stores them as int8; equal images lie in memory once."""
    plain = {weight_bytes(sets): sets for sets in weights}
    packed = set()
    for data, sets in plain.items():
        kind, _ = narrowest_image(sets, config)
        packed.add((kind, pack(sets, kind, config.bus_bytes) if kind else data))
    packed_bytes, int8_bytes = sum(len(data) for _, data in packed), sum(map(len, plain))
    if config.weight_decoder:
        return WeightMemory(formats=tuple(sorted({kind for kind, _ in packed})), stored_bytes=packed_bytes, packed_bytes=packed_bytes, int8_bytes=int8_bytes)
    formats = (WeightFormat.INT8,) if plain else ()
    return WeightMemory(formats=formats, stored_bytes=int8_bytes, packed_bytes=packed_bytes, int8_bytes=int8_bytes)
