"""Which cycles of an inference did useful work, and what took the others: by layer and cause, from the trace of the co-simulation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hwgen.config import HardwareConfig
from hwgen.cosim.compare import compute_ordinals
from hwgen.cosim.job import CommandTrace
from hwgen.isa.fields import Buffer, Engine, Mode
from hwgen.isa.instructions import Command, Conv, Load
from hwgen.isa.registers import CAUSES
from hwgen.schedule.compile import CompiledNetwork, Layer

USES = {  # in the order in which reports show them: key, what it means
    "useful": "multiply-accumulates / multipliers",
    "input_lanes": "lanes without an input channel, or without a tap of the kernel",
    "output_lanes": "rows of the array without an output channel",
    "depthwise": "lanes that a channel-by-channel convolution cannot use",
    "recomputed": "rows of a layer computed again, because two stripes of the next one read them",
    "without_macs": "pooling, additions, copies: pixels without multiply-accumulates",
    "short_pass": "passes of fewer pixels than the array needs to change weights",
    "output": "more results of a pixel leaving, operands that give way to a residual word",
    "window": "columns of a window read that complete no pixel",
    "setup": "a command being prepared",
    "drain": "the command before writing its last results",
    "weight_wait": "waiting for weights or parameters",
    "input_wait": "waiting for activations from memory",
    "store_wait": "waiting for a store",
    "program": "no command in sight: program fetch, start, end",
}
_OF_CAUSE = {"wait_store": "store_wait"} | {f"lost_{use}": use for use in ("setup", "drain", "short_pass", "output", "window", "program")}


@dataclass(frozen=True, kw_only=True)
class LostCycles:
    """Cycles of inference 0 by use, one mapping per layer and one for what lies behind the last CONV; keys of USES."""

    layers: tuple[Mapping[str, int], ...]
    outside: Mapping[str, int]

    @staticmethod
    def joined(parts: Sequence[LostCycles]) -> LostCycles:
        """Of programs that run one after the other."""
        layers = tuple(layer for part in parts for layer in part.layers)
        return LostCycles(layers=layers, outside={use: sum(part.outside[use] for part in parts) for use in USES})

    @property
    def total(self) -> dict[str, int]:
        return {use: sum(part[use] for part in (*self.layers, self.outside)) for use in USES}


def lost_cycles(compiled: CompiledNetwork, trace: CommandTrace) -> LostCycles:
    """The cycles between the ends of two CONV commands belong to the later one's layer. All together they are the cycles of the run."""
    chosen = trace.counts[trace.inference == 0]
    spans = np.diff(chosen, axis=0, prepend=0)
    waits = tuple(waits_for(compiled.commands))
    assert len(spans) == len(waits) + 1, "one record per CONV, then one for the whole run"
    layers, ordinal_of = [], compute_ordinals(compiled.commands)
    for layer in compiled.layers:
        uses = dict.fromkeys(USES, 0)
        ordinals = [ordinal_of[command] for command in layer.commands]
        for ordinal in ordinals:
            _add(uses, spans[ordinal].tolist(), waits[ordinal])
        busy = int(spans[ordinals, CAUSES.index("array_busy")].sum())
        again = round(busy * _recomputed(layer, compiled))
        layers.append(uses | {"recomputed": again} | lanes(layer, busy - again, compiled))
    outside = dict.fromkeys(USES, 0)
    _add(outside, spans[-1].tolist(), "input_wait")
    return LostCycles(layers=tuple(layers), outside=outside)


def _add(uses: dict[str, int], counts: Sequence[int], waits: str) -> None:
    for cause, count in zip(CAUSES, counts, strict=True):
        if cause != "array_busy":
            uses[waits if cause == "wait_load" else _OF_CAUSE[cause]] += count


def waits_for(commands: Sequence[Command]) -> Iterator[str]:
    """For each CONV what it waits for when it waits for a load: the kind of which its loads bring more bytes.

    Its loads are those in front of the load that gives its token, back to the one that gave the token before.
    """
    loads = [command for command in commands if isinstance(command, Load)]
    ends = [k + 1 for k, load in enumerate(loads) if Engine.COMPUTE in load.signals]
    groups = [loads[first:end] for first, end in pairwise([0, *ends])]
    taken = 0
    for command in commands:
        if isinstance(command, Conv):
            taken += command.wait_load
            group = groups[min(max(taken - 1, 0), len(groups) - 1)] if groups else []
            brought = {kind: sum(load.rows * load.row_bytes for load in group if (load.destination == Buffer.ACTIVATION) == kind) for kind in (True, False)}
            yield "input_wait" if brought[True] > brought[False] else "weight_wait"


def lanes(layer: Layer, busy: int, compiled: CompiledNetwork) -> dict[str, int]:
    """What the lanes did in the `busy` cycles in which pixels of `layer` entered the array."""
    config: HardwareConfig = compiled.config
    if not layer.macs:
        return {"without_macs": busy}
    useful = min(busy, round(layer.macs / config.multipliers))
    if any(command.mode == Mode.DEPTHWISE for index in layer.commands if isinstance(command := compiled.commands[index], Conv)):
        return {"useful": useful, "depthwise": busy - useful}
    channels = compiled.graph.values[layer.value].type.channels
    rows = -(-channels // config.out_lanes) * config.out_lanes
    without_channel = min(busy - useful, round(busy * (rows - channels) / rows))
    return {"useful": useful, "output_lanes": without_channel, "input_lanes": busy - useful - without_channel}


def _recomputed(layer: Layer, compiled: CompiledNetwork) -> float:
    """Share of the pixels that a layer computes that it has computed before."""
    kind = compiled.graph.values[layer.value].type
    computed = sum(part.box.pixels * part.box.blocks for part in layer.parts)
    once = kind.height * kind.width * max((part.box.end_block for part in layer.parts), default=0)
    return 1 - once / computed if computed else 0.0


def with_lost(report: dict[str, Any], lost: LostCycles) -> dict[str, Any]:
    """`report` with the cycles by use of each layer, of what lies outside them, and of all."""
    layers = [entry | {"cycles_by_use": dict(uses)} for entry, uses in zip(report["layers"], lost.layers, strict=True)]
    return report | {"layers": layers, "cycles_by_use": {"total": lost.total, "outside_layers": dict(lost.outside)}}
