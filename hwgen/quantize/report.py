"""What quantization did, layer by layer, for the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from hwgen.ir.graph import Graph
from hwgen.quantize.certify import Record
from hwgen.quantize.options import QuantizeOptions, RangeMethod
from hwgen.quantize.ranges import Range
from hwgen.quantize.trial import Trial


@dataclass(frozen=True, kw_only=True)
class QuantizationReport:
    """`ranges`: chosen real range by value name. `widened`: by layer, how many channels got a wider weight scale because bias or
    accumulator would have overflowed. `records`: the certificate of every rounding. `trials`: the repairs in the order in which they were
    tried; `chosen_range`: the range method that was kept in the end; `graph`: the float network after
    repairs that keep its meaning, whose values the quantized one approximates; `clipped`: by layer, the rule that chose its weight scales."""

    options: QuantizeOptions
    ranges: dict[str, Range]
    widened: dict[str, int]
    records: tuple[Record, ...]
    graph: Graph
    trials: tuple[Trial, ...] = ()
    chosen_range: RangeMethod = RangeMethod.MINMAX
    clipped: dict[str, str] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        return len(self.records)

    @property
    def certified_channels(self) -> int:
        return sum(record.certified for record in self.records)

    @property
    def uncertified(self) -> tuple[Record, ...]:
        """Channels where ONNX Runtime may differ from the golden model by one code."""
        return tuple(record for record in self.records if not record.certified)
