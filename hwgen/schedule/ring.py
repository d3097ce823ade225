"""Where weights and parameters lie in their buffers: one after the other, round and round, and found again while they are still there."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class Ring:
    """A buffer of `size` words. Contents are known by a key: equal keys, equal contents."""

    size: int
    head: int = 0
    live: list[tuple[int, int, Hashable]] = field(default_factory=list)  # first, end, key
    evicted: bool = False  # something had to go: not everything fits at once

    def find(self, key: Hashable) -> int | None:
        """Address of what is still there."""
        return next((first for first, _, known in self.live if known == key), None)

    def place(self, words: int, key: Hashable) -> int:
        """Address of new content; what lies there is forgotten."""
        if self.head + words > self.size:
            self.head = 0
        first, end = self.head, self.head + words
        staying = [entry for entry in self.live if entry[1] <= first or end <= entry[0]]
        self.evicted |= len(staying) < len(self.live)
        self.live = [*staying, (first, end, key)]
        self.head = end
        return first
