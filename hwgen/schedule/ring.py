"""Where weights and parameters lie in their buffers: one after the other, round and round, and found again while they are still there."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class Ring:
    """A buffer of `size` words. Contents are known by a key: equal keys, equal contents."""

    size: int
    head: int = 0
    live: dict[Hashable, tuple[int, int]] = field(default_factory=dict)  # first word and end of each content
    evicted: bool = False  # something had to go: not everything fits at once

    def find(self, key: Hashable) -> int | None:
        """Address of what is still there."""
        return self.live[key][0] if key in self.live else None

    def place(self, words: int, key: Hashable) -> int:
        """Address of new content; what lies there is forgotten."""
        if self.head + words > self.size:
            self.head = 0
        first, end = self.head, self.head + words
        staying = {known: place for known, place in self.live.items() if place[1] <= first or end <= place[0]}
        self.evicted |= len(staying) < len(self.live)
        self.live = staying | {key: (first, end)}
        self.head = end
        return first
