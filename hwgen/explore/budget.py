"""Budgets of a mixed-precision search: `weights=40KiB`, `cycles=50000`, `sqnr=30dB`, `agreement=99%`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from hwgen.errors import ConfigError

_FORM = re.compile(r"(?P<kind>[a-z]+)=(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>[A-Za-z%]*)", re.ASCII)


class Limit(Enum):
    """What a budget limits: two costs that may not be exceeded, two qualities that must be reached."""

    WEIGHTS = "weights"  # bytes of weights and parameters in memory
    CYCLES = "cycles"  # of one inference
    SQNR = "sqnr"  # dB of the outputs
    AGREEMENT = "agreement"  # share of inputs with the same greatest output

    @property
    def is_cost(self) -> bool:
        return self in (Limit.WEIGHTS, Limit.CYCLES)


_UNITS = {
    Limit.WEIGHTS: {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "KiB": 1024.0, "MiB": 1024.0**2},
    Limit.CYCLES: {"": 1.0, "k": 1e3, "M": 1e6},
    Limit.SQNR: {"": 1.0, "dB": 1.0},
    Limit.AGREEMENT: {"": 1.0, "%": 0.01},
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one assignment of formats costs and reaches, measured. `cycles` by the cycle model."""

    weight_bytes: int
    cycles: int
    sqnr_db: float
    agreement: float

    def of(self, limit: Limit) -> float:
        """The number that a budget of this kind limits."""
        return float({Limit.WEIGHTS: self.weight_bytes, Limit.CYCLES: self.cycles, Limit.SQNR: self.sqnr_db, Limit.AGREEMENT: self.agreement}[limit])


@dataclass(frozen=True, kw_only=True)
class Budget:
    """`limit` at most (costs) or at least (qualities) `value`."""

    limit: Limit
    value: float

    def met(self, point: Point) -> bool:
        value = point.of(self.limit)
        return value <= self.value if self.limit.is_cost else value >= self.value

    @property
    def cost(self) -> Limit:
        """The cost that the search saves: the limited one, or bytes of weights."""
        return self.limit if self.limit.is_cost else Limit.WEIGHTS

    def text(self, value: float | None = None) -> str:
        """The budget's value, or another number of its kind, in words."""
        number = self.value if value is None else value
        forms = {Limit.WEIGHTS: "{:,.0f} bytes", Limit.CYCLES: "{:,.0f} cycles", Limit.SQNR: "{:.2f} dB", Limit.AGREEMENT: "{:.2%} agreement"}
        return forms[self.limit].format(number)


def parse_budget(text: str) -> Budget:
    """Raises ConfigError for anything but KIND=NUMBER[UNIT]."""
    found = _FORM.fullmatch(text)
    kinds = {limit.value: limit for limit in Limit}
    if not found or found["kind"] not in kinds:
        raise ConfigError(f"budget {text!r}: must be {'=..., '.join(kinds)}=..., for example weights=40KiB, cycles=50000, sqnr=30dB or agreement=99%")
    limit = kinds[found["kind"]]
    if found["unit"] not in _UNITS[limit]:
        units = ", ".join(unit for unit in _UNITS[limit] if unit)
        raise ConfigError(f"budget {text!r}: the unit must be {units} or none, not {found['unit']!r}")
    value = float(found["number"]) * _UNITS[limit][found["unit"]]
    if limit is Limit.AGREEMENT and value > 1:
        raise ConfigError(f"budget {text!r}: agreement must be a share of at most 1, or 100%")
    return Budget(limit=limit, value=value)
