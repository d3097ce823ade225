"""Weight scales below the greatest weight: large weights are clipped where the finer steps of all others are worth more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.quantize.few_bits import WeightCodes, encode

Reals = npt.NDArray[np.float64]
SIGMAS = (4.0, 3.0, 2.5, 2.0)
FACTORS = np.linspace(1, 0.3, 29)  # of the greatest weight, for the least squared error
HALVES = np.array([1, 0.5, 0.25])  # scales that stay powers of two


@dataclass(frozen=True, kw_only=True, eq=False)
class Clipping:
    """`factor` (C,) of the scale that covers the greatest weight; `rule` is none, mse, or a number of standard deviations."""

    rule: str
    factor: Reals


def choose_clipping(weights: Reals, moments: Reals, scale: Reals, kind: WeightCodes, *, together: bool, shifts_only: bool) -> Clipping:
    """The rule whose factors lose least at the layer's output.

    `weights` (C, K) real; `moments` (C, K) mean squares of what each weight is multiplied with; `scale` (C,) covers the greatest weight.
    `together`: one factor for all channels. `shifts_only`: factors are powers of two.
    """

    def losses(factor: Reals) -> Reals:
        unit = (scale * factor)[:, None]
        codes = encode(weights / unit, kind)
        lost: Reals = ((codes * unit - weights) ** 2 * moments).sum(1)
        return lost

    ones = np.ones(len(weights))
    found = [("none", ones)]
    factors = HALVES if shifts_only else FACTORS
    table = np.array([losses(ones * factor) for factor in factors])
    best = np.full(len(weights), table.sum(1).argmin()) if together else table.argmin(0)
    found.append(("mse", factors[best]))
    if not shifts_only:
        deviation = np.full(len(weights), weights.std()) if together else weights.std(1)
        covered = np.maximum(scale * kind.high, np.finfo(np.float64).tiny)
        found += [(f"{count:g} sigma", np.clip(count * deviation / covered, 1e-3, 1.0)) for count in SIGMAS]
    rule, factor = min(found, key=lambda entry: float(losses(entry[1]).sum()))
    return Clipping(rule=rule, factor=factor)
