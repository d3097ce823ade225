"""Every word of every layer's output: what the compute engine wrote against what the golden model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwgen.cosim.job import Trace
from hwgen.isa.instructions import Command, Conv
from hwgen.schedule.box import Box
from hwgen.schedule.storage import View


@dataclass(frozen=True, kw_only=True)
class PartExpectation:
    """Compute command `command` (index among the compute commands) must write `box`: pixel (y, x) of block b at word
    view.address + b * view.block_stride + y * view.row_stride + x, modulo the buffer's size."""

    command: int
    box: Box
    view: View


@dataclass(frozen=True, kw_only=True)
class LayerExpectation:
    """What one layer must write: `golden` (inferences, height, width, channels) int8 in `parts`; channel c lies at block
    positions[c] // N, lane positions[c] % N."""

    name: str
    parts: tuple[PartExpectation, ...]
    positions: tuple[int, ...]
    golden: npt.NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One element that is not what it must be; `found` None: never written."""

    layer: str
    inference: int
    row: int
    column: int
    channel: int
    expected: int
    found: int | None

    def __str__(self) -> str:
        found = "was never written" if self.found is None else f"is {self.found}"
        place = f"inference {self.inference}, row {self.row}, column {self.column}, channel {self.channel}"
        return f"layer {self.layer!r}, {place}: must be {self.expected}, {found}"


@dataclass(frozen=True, kw_only=True)
class LayerComparison:
    """Elements over all inferences: compared, differing (or never written), and words written outside the layer's tensor."""

    name: str
    elements: int
    mismatches: int
    missing: int
    stray_words: int
    first: Mismatch | None

    @property
    def equal(self) -> bool:
        return not self.mismatches and not self.stray_words

    def joined(self, later: LayerComparison, inferences: int) -> LayerComparison:
        """With what `later` found in the same layer, in inferences that came behind the first `inferences`."""
        first = self.first or (later.first and replace(later.first, inference=later.first.inference + inferences))
        sums = {name: getattr(self, name) + getattr(later, name) for name in ("elements", "mismatches", "missing", "stray_words")}
        return replace(self, first=first, **sums)


def compute_ordinals(commands: Sequence[Command]) -> dict[int, int]:
    """Program index of each compute command -> its index among the compute commands, by which the trace counts."""
    return {index: k for k, index in enumerate(i for i, command in enumerate(commands) if isinstance(command, Conv))}


@dataclass(frozen=True, eq=False)
class _Records:
    """A trace by compute command: records of command c are order[limits[c] : limits[c + 1]]."""

    trace: Trace
    order: npt.NDArray[np.int64]
    limits: npt.NDArray[np.int64]

    def of(self, command: int) -> npt.NDArray[np.int64]:
        if command + 1 >= len(self.limits):
            return self.order[:0]
        return self.order[self.limits[command] : self.limits[command + 1]]


def _by_command(trace: Trace) -> _Records:
    order = np.argsort(trace.command, kind="stable")
    last = int(trace.command.max(initial=-1))
    return _Records(trace, order, np.searchsorted(trace.command[order], np.arange(last + 2)))


def _channel_of_lane(positions: tuple[int, ...], lanes: int) -> npt.NDArray[np.int64]:
    """(blocks, lanes): the channel that lies there, -1 for none."""
    channel = np.full((max(positions) // lanes + 1) * lanes, -1, np.int64)
    channel[list(positions)] = np.arange(len(positions))
    return channel.reshape(-1, lanes)


def _element_of(
    part: PartExpectation, channel: npt.NDArray[np.int64], shape: tuple[int, ...], words: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The part's word addresses, sorted, and for each of their lanes the flat element index (row, column, channel), -1 for none."""
    box, view = part.box, part.view
    block, row, column = np.meshgrid(np.arange(box.first_block, box.end_block), np.arange(box.top, box.bottom), np.arange(box.left, box.right), indexing="ij")
    address = (view.address + block * view.block_stride + row * view.row_stride + column * view.column_stride).reshape(-1) % words
    pixel = (row * shape[1] + column).reshape(-1, 1)
    lane_channel = channel[block.reshape(-1)]
    order = np.argsort(address, kind="stable")
    return address[order], np.where(lane_channel < 0, -1, pixel * shape[2] + lane_channel)[order]


def compare_layer(expectation: LayerExpectation, trace: Trace, buffer_words: int, records: _Records | None = None) -> LayerComparison:
    """Compare one layer in every inference. An element that is written several times must be right each time."""
    records = records or _by_command(trace)
    golden = expectation.golden
    inferences = len(golden)
    expected = golden.reshape(inferences, -1)
    channel = _channel_of_lane(expectation.positions, trace.data.shape[1])
    seen, bad, stray = np.zeros(expected.shape, bool), np.zeros(expected.shape, bool), 0
    wrong: list[npt.NDArray[np.int64]] = []
    for part in expectation.parts:
        chosen = records.of(part.command)
        addresses, elements = _element_of(part, channel, golden.shape[1:], buffer_words)
        written, data, inference = trace.mask[chosen], trace.data[chosen], trace.inference[chosen]
        place = trace.address[chosen] % buffer_words
        index = np.minimum(np.searchsorted(addresses, place), len(addresses) - 1)
        inside = (addresses[index] == place) & (inference < inferences)
        record, lane = np.nonzero(written & inside[:, None] & (elements[index] >= 0))
        element, which = elements[index][record, lane], inference[record]
        differs = data[record, lane] != expected[which, element]
        seen[which, element] = True
        bad[which[differs], element[differs]] = True
        stray += int((~inside & written.any(1)).sum())
        wrong.append(np.stack([which[differs], element[differs], data[record, lane][differs]], axis=1).astype(np.int64))
    return LayerComparison(
        name=expectation.name,
        elements=int(expected.size),
        mismatches=int((bad | ~seen).sum()),
        missing=int((~seen).sum()),
        stray_words=stray,
        first=_first(expectation, np.concatenate(wrong), seen),
    )


def _first(expectation: LayerExpectation, wrong: npt.NDArray[np.int64], seen: npt.NDArray[np.bool_]) -> Mismatch | None:
    """The first of the `wrong` writes (inference, element, value), else the first element that was never written."""
    value: int | None = None
    if len(wrong):
        inference, element, value = wrong[0].tolist()
    elif not seen.all():
        inference, element = np.argwhere(~seen)[0].tolist()
    else:
        return None
    row, column, channel = (int(k) for k in np.unravel_index(element, expectation.golden.shape[1:]))
    expected = int(expectation.golden[inference, row, column, channel])
    return Mismatch(layer=expectation.name, inference=inference, row=row, column=column, channel=channel, expected=expected, found=value)


def compare(expectations: Sequence[LayerExpectation], trace: Trace, buffer_words: int) -> tuple[LayerComparison, ...]:
    """All layers in order. `buffer_words`: size of the activation buffer; addresses wrap there."""
    records = _by_command(trace)
    return tuple(compare_layer(expectation, trace, buffer_words, records) for expectation in expectations)
