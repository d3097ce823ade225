"""Every word of every layer's output: what the compute engine wrote against what the golden model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.cosim.job import Trace
from hwgen.isa.instructions import Command, Conv
from hwgen.schedule.storage import View


@dataclass(frozen=True, kw_only=True)
class LayerExpectation:
    """What one layer must write: `golden` (inferences, height, width, channels) int8 at `view`; channel c lies at block
    positions[c] // N, lane positions[c] % N. `commands` are the indices of its commands among the compute commands."""

    name: str
    view: View
    positions: tuple[int, ...]
    golden: npt.NDArray[np.int8]
    commands: tuple[int, ...]


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


def compute_ordinals(commands: Sequence[Command], indices: Sequence[int]) -> tuple[int, ...]:
    """Program indices of compute commands -> their indices among the compute commands, by which the trace counts."""
    ordinal = {index: k for k, index in enumerate(i for i, command in enumerate(commands) if isinstance(command, Conv))}
    return tuple(ordinal[index] for index in indices)


def _element_of(expectation: LayerExpectation, lanes: int, buffer_words: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The layer's word addresses, sorted, and for each of their lanes the flat element index (row, column, channel), -1 for none."""
    height, width, channels = expectation.golden.shape[1:]
    view = expectation.view
    element = np.full((view.blocks, lanes), -1, np.int64)
    for channel, position in enumerate(expectation.positions):
        element[position // lanes, position % lanes] = channel
    block, row, column = np.meshgrid(np.arange(view.blocks), np.arange(height), np.arange(width), indexing="ij")
    address = (view.address + block * view.block_stride + row * view.row_stride + column).reshape(-1) % buffer_words
    pixel = (row * width + column).reshape(-1, 1)
    lane_channel = element[block.reshape(-1)]
    order = np.argsort(address, kind="stable")
    return address[order], np.where(lane_channel < 0, -1, pixel * channels + lane_channel)[order]


def compare_layer(expectation: LayerExpectation, trace: Trace, buffer_words: int) -> LayerComparison:
    """Compare one layer in every inference. An element that is written several times must be right each time."""
    inferences = len(expectation.golden)
    addresses, elements = _element_of(expectation, trace.data.shape[1], buffer_words)
    chosen = np.isin(trace.command, expectation.commands)
    written, data, inference = trace.mask[chosen], trace.data[chosen], trace.inference[chosen]
    place = trace.address[chosen] % buffer_words
    index = np.minimum(np.searchsorted(addresses, place), len(addresses) - 1)
    inside = (addresses[index] == place) & (inference < inferences)
    expected = expectation.golden.reshape(inferences, -1)
    counts = written & inside[:, None] & (elements[index] >= 0)
    record, lane = np.nonzero(counts)
    element, which = elements[index][record, lane], inference[record]
    wrong = data[record, lane] != expected[which, element]
    seen = np.zeros(expected.shape, bool)
    seen[which, element] = True
    bad = np.zeros(expected.shape, bool)
    bad[which[wrong], element[wrong]] = True
    return LayerComparison(
        name=expectation.name,
        elements=int(expected.size),
        mismatches=int((bad | ~seen).sum()),
        missing=int((~seen).sum()),
        stray_words=int((~inside & written.any(1)).sum()),
        first=_first(expectation, np.stack([which[wrong], element[wrong], data[record, lane][wrong]], axis=1), seen),
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
    return tuple(compare_layer(expectation, trace, buffer_words) for expectation in expectations)
