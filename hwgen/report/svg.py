"""Pictures as inline SVG. They hold numbers and fixed words only: nothing out of a model; names belong into the page around them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LETTERS = 6.6  # width of a digit of the page's 12 px text


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A picture's drawing area inside its margins, in pixels. `low`, `high`: what its vertical axis spans."""

    width: float
    height: float
    low: float
    high: float
    left: float = 46
    right: float = 8
    top: float = 8
    bottom: float = 22

    def y(self, value: float) -> float:
        """The height of a value, limited to the frame."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.height - self.bottom - min(max(share, 0.0), 1.0) * (self.height - self.bottom - self.top), 1)

    def x(self, share: float) -> float:
        """The place at `share` of the width."""
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def axis(self, ticks: Iterable[tuple[float, str]]) -> str:
        """Lines across the picture at (value, label)."""
        parts = []
        for value, label in ticks:
            y = self.y(value)
            parts.append(f'<line x1="{self.left}" x2="{self.width - self.right}" y1="{y}" y2="{y}" stroke="var(--line)"/>')
            parts.append(f'<text x="{self.left - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
        return "".join(parts)

    def below(self, places: Sequence[tuple[float, str]]) -> str:
        """Labels under the picture at (x, label), left out where they would overlap."""
        parts, free = [], -math.inf
        for x, label in places:
            half = LETTERS * len(label) / 2
            middle = min(max(x, half), self.width - half)
            if middle - half >= free:
                parts.append(f'<text x="{middle:.1f}" y="{self.height - self.bottom + 15}" text-anchor="middle">{label}</text>')
                free = middle + half + LETTERS
        return "".join(parts)

    def picture(self, label: str, parts: Iterable[str]) -> str:
        """The whole picture; `label` is for those who cannot see it."""
        return f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def standalone(picture: str) -> bytes:
    """A picture of a page as a file of its own, with the page's light colours."""
    colours = "--ink: #1a2330; --soft: #5d6b7c; --line: #e0e5eb; --bar: #3a76c4; --second: #63a583; --good: #1c7a4a; --bad: #b3261e"
    style = f"<style>svg {{ {colours}; background: #fff }} text {{ font: 12px sans-serif; fill: var(--soft) }}</style>"
    head, rest = picture.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'.encode()


def ticks(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """At most `most` round numbers from low to high, with labels."""
    if not high > low:
        return [(low, f"{low:.3g}")]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [(k * step, f"{k * step:.4g}") for k in range(first, math.floor(high / step + 1e-9) + 1)]


def powers_of_ten(low: float, high: float, most: int = 6) -> list[tuple[float, str]]:
    """For an axis of decimal logarithms: at most `most` powers of ten, with labels."""
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    step = max(1, -(-(last - first + 1) // most))
    return [(float(k), f"{10.0**k:g}" if -4 < k < 5 else f"1e{k}") for k in range(first, last + 1, step)]
