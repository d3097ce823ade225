"""Inputs for co-simulation and known answers where the user gives none: codes that reach every part of the int8 range."""

from __future__ import annotations

import numpy as np

from hwgen.ir.graph import Graph
from hwgen.layout import Int8Array


def random_codes(graph: Graph, count: int, seed: int = 1) -> dict[str, Int8Array]:
    """(count, H, W, C) int8 by input value name. The first input is uniform; the second holds only extremes; and so on by turns."""
    random = np.random.default_rng(seed)
    codes = {}
    for entry in graph.inputs:
        shape = (count, *graph.values[entry.value].type.shape)
        uniform = random.integers(-128, 128, shape).astype(np.int8)
        extreme = random.choice(np.array([-128, 127], np.int8), shape)
        odd = (np.arange(count) % 2 == 1).reshape(-1, 1, 1, 1)
        codes[entry.value] = np.where(odd, extreme, uniform)
    return codes
