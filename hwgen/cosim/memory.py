"""Where the regions of a job lie in the simulated memory, and the memory's first contents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwgen.cosim.job import Patch, SimulationJob
from hwgen.isa.fields import Region

FILL = 0xA5  # in output regions and behind the last byte of an image
_PAGE_BYTES = 4096
_ODD_BASE_BYTES = 0x1C40  # first region where they are not aligned: bursts meet 4 KiB boundaries


@dataclass(frozen=True, kw_only=True)
class MemoryMap:
    """Where the regions lie, counted from the memory's first byte. Input and output are per inference."""

    regions: Mapping[Region, tuple[int, int]]  # offset, size; of inference 0
    input_stride: int
    output_stride: int
    end: int
    first_address: int
    patches: Mapping[int, int]  # number of `all_patches`: where the processor's result lies until it is written

    def offset(self, region: Region, inference: int = 0) -> int:
        """Bytes from the memory's beginning."""
        stride = {Region.INPUT: self.input_stride, Region.OUTPUT: self.output_stride}.get(region, 0)
        return self.regions[region][0] + stride * inference

    def base(self, region: Region, inference: int = 0) -> int:
        """Address on the bus."""
        return self.first_address + self.offset(region, inference)

    def size(self, region: Region) -> int:
        return self.regions[region][1]


def all_patches(job: SimulationJob) -> Iterator[tuple[int, int, Patch]]:
    """Inference, phase, and what the processor writes before it."""
    for inference in range(len(job.inputs)):
        for phase in range(job.phases + 1):
            for patch in job.patches_of(inference, phase):
                yield inference, phase, patch


def memory_map(job: SimulationJob) -> MemoryMap:
    """One region after the other with a gap: on 4 KiB boundaries, or (`aligned` False) at multiples of the bus word and of nothing else."""
    word = job.config.bus_bytes
    unit, gap = (_PAGE_BYTES, _PAGE_BYTES) if job.memory.aligned else (word, 5 * word)
    sizes = {
        Region.PROGRAM: len(job.program),
        Region.WEIGHTS: len(job.weights),
        Region.ARENA: job.arena_bytes,
        Region.INPUT: max((len(image) for image in job.inputs), default=0),
        Region.OUTPUT: job.output_bytes,
    }
    regions, position = {}, -(-(_PAGE_BYTES if job.memory.aligned else _ODD_BASE_BYTES) // word) * word
    strides = {}
    for region, size in sizes.items():
        stride = -(-(size + word) // unit) * unit
        count = len(job.inputs) if region in (Region.INPUT, Region.OUTPUT) else 1
        regions[region] = (position, size)
        strides[region] = stride
        position += stride * count + gap
    patches = {}
    for index, (_, _, patch) in enumerate(all_patches(job)):
        patches[index] = position
        position += len(patch.content)
    first, stride_in, stride_out = job.memory.first_address, strides[Region.INPUT], strides[Region.OUTPUT]
    return MemoryMap(regions=regions, input_stride=stride_in, output_stride=stride_out, end=position, first_address=first, patches=patches)


def memory_image(segments: Sequence[tuple[int, bytes]], word_bytes: int) -> str:
    """$readmemh text of byte segments at addresses that are multiples of the word; the highest byte of a word is written first."""
    lines = []
    for address, content in segments:
        padded = content + bytes([FILL]) * (-len(content) % word_bytes)
        words = np.frombuffer(padded, np.uint8).reshape(-1, word_bytes)[:, ::-1].tobytes().hex()
        lines.append(f"@{address // word_bytes:x}")
        lines += [words[k : k + 2 * word_bytes] for k in range(0, len(words), 2 * word_bytes)]
    return "\n".join(lines) + "\n"


def segments(job: SimulationJob, places: MemoryMap) -> list[tuple[int, bytes]]:
    """What memory holds before the first inference: where, counted from its first byte, and content. Output regions hold a pattern that
    shows what was not written."""
    found = [(places.offset(Region.PROGRAM), job.program), (places.offset(Region.WEIGHTS), job.weights)]
    for index, image in enumerate(job.inputs):
        found += [(places.offset(Region.INPUT, index), image), (places.offset(Region.OUTPUT, index), bytes([FILL]) * job.output_bytes)]
    found += [(places.patches[index], patch.content) for index, (_, _, patch) in enumerate(all_patches(job))]
    return [(address, content) for address, content in found if content]
