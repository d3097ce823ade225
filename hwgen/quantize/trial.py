"""What was tried to keep accuracy, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.quantize.options import Repair


@dataclass(frozen=True, kw_only=True)
class Score:
    """How near a quantized network is to the float one: SQNR of the outputs in dB, share of inputs with the same greatest output."""

    sqnr_db: float
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One repair as it was tried. `detail` says which form of it; scores are of inputs that it was not fitted to (`inputs` of them).
    `reason`: why it was left; empty where it was kept."""

    repair: Repair
    detail: str
    before: Score
    after: Score
    inputs: int
    seconds: float
    reason: str

    @property
    def kept(self) -> bool:
        return not self.reason

    @property
    def gain_db(self) -> float:
        return self.after.sqnr_db - self.before.sqnr_db
