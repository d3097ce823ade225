"""report.html: report.json as one page without anything from outside. Every text out of a model is escaped by the template engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwgen.emit.render import render
from hwgen.report.losses import Losses, losses_of
from hwgen.report.lost_html import UseTable, use_table
from hwgen.report.numbers import number, percent
from hwgen.report.pareto import Mixed, mixed_view
from hwgen.report.repairs import RepairRow, repair_rows
from hwgen.report.synthesis import SynthesisRow, synthesis_rows
from hwgen.report.ways import HEADINGS, Row, rows_of


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One tile at the head of the page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One layer's line of the table; widths in percent of the longest bar."""

    name: str
    op: str
    shape: str
    macs: str
    weights: str
    predicted: str
    measured: str
    utilization: str
    sqnr: str
    verdict: str
    good: bool
    cycle_width: float
    sqnr_width: float


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The roundings of one layer and what was proven of them."""

    layer: str
    operator: str
    certified: str
    good: bool
    multipliers: str
    shifts: str
    accumulators: str


@dataclass(frozen=True, kw_only=True)
class ProcessorRow:
    """A layer that the processor computes."""

    name: str
    op: str
    shape: str
    elements: str
    sqnr: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """The template's variables."""

    network: str
    version: str
    model_sha256: str
    headline: str
    good: bool
    facts: tuple[Fact, ...]
    layers: tuple[Bar, ...]
    on_processor: str
    processor_layers: tuple[ProcessorRow, ...]
    chart: str
    uses: UseTable | None
    losses: Losses | None
    hardware: tuple[tuple[str, str], ...]
    quantization: tuple[tuple[str, str], ...]
    uncertified: tuple[str, ...]
    certificates: tuple[Certificate, ...]
    verification: tuple[tuple[str, str], ...]
    synthesis: tuple[SynthesisRow, ...]
    problems: tuple[str, ...]
    repairs: tuple[RepairRow, ...]
    ways: tuple[Row, ...]
    way_headings: tuple[str, ...]
    mixed: Mixed | None


def _cycles(layer: dict[str, Any]) -> int:
    return int(layer["measured_cycles"] if layer["measured_cycles"] is not None else layer["predicted_cycles"] or 0)


def _bar(layer: dict[str, Any], most_cycles: int, best_sqnr: float, multipliers: int) -> Bar:
    cycles, mismatches, weights = _cycles(layer), layer["mismatches"], layer["weights"]
    return Bar(
        name=layer["name"],
        op=layer["op"],
        shape="×".join(map(str, layer["shape"])),
        macs=number(layer["macs"]),
        weights=f"{'+'.join(weights['formats'])}, {number(weights['stored_bytes'])} B" if weights else "–",
        predicted=number(layer["predicted_cycles"]),
        measured=number(layer["measured_cycles"]),
        utilization=percent(layer["macs"] / (cycles * multipliers) if cycles else None),
        sqnr=number(layer["sqnr_db"], 1),
        verdict=_verdict(mismatches, layer["compared"]),
        good=not mismatches,
        cycle_width=round(100 * cycles / most_cycles, 1) if most_cycles else 0.0,
        sqnr_width=round(max(0.0, 100 * (layer["sqnr_db"] or 0.0) / best_sqnr), 1) if best_sqnr > 0 else 0.0,
    )


def _processor_row(layer: dict[str, Any]) -> ProcessorRow:
    shape = "×".join(map(str, layer["shape"]))
    return ProcessorRow(
        name=layer["name"],
        op=layer["op"],
        shape=shape,
        elements=number(layer["elements"]),
        sqnr=number(layer["sqnr_db"], 1),
        error=f"{layer['error_codes']:.2g}",
    )


def on_processor(report: dict[str, Any]) -> str:
    """How many layers run where; empty where all run on the accelerator."""
    count, phases = len(report["processor_layers"]), report["phases"]
    if not count:
        return ""
    programs = "one program" if phases == 1 else f"{phases} programs"
    return f"{count} of {count + len(report['layers'])} layers run on the processor; the accelerator runs {programs}"


def _verdict(mismatches: int | None, compared: int | None) -> str:
    if mismatches is None:
        return "not verified"
    return f"{number(mismatches)} of {number(compared)} differ" if mismatches else f"{number(compared)} equal"


def _span(low: int, high: int) -> str:
    return number(low) if low == high else f"{number(low)} … {number(high)}"


def _certificate(entry: dict[str, Any]) -> Certificate:
    certified, total = sum(entry["certified"]), len(entry["certified"])
    share = max((share for share in entry["differing_share"] if share is not None), default=0.0)
    others = "" if certified == total else f"; others by one, for at most {100 * share:.2g} % of the sums"
    return Certificate(
        layer=entry["layer"],
        operator=entry["operator"],
        certified=f"{number(certified)} of {number(total)}{others}",
        good=certified == total,
        multipliers=_span(min(entry["multiplier"]), max(entry["multiplier"])),
        shifts=_span(min(entry["shift"]), max(entry["shift"])),
        accumulators=_span(min(entry["accumulator_low"]), max(entry["accumulator_high"])),
    )


def _facts(report: dict[str, Any]) -> tuple[Fact, ...]:
    quantization, hardware = report["quantization"], report["hardware"]
    measured = report["measured_cycles"] is not None
    cycles, share = (report["measured_cycles"], report["utilization"]) if measured else (report["predicted_cycles"], report["predicted_utilization"])
    sizes, certified, weights = report["region_bytes"], quantization["certified_channels"], report["weights"]
    packed = weights["stored_bytes"] < weights["int8_bytes"]
    whole = sizes["weights"] + weights["int8_bytes"] - weights["stored_bytes"]
    words, whole_words = (number(weights[name] // (hardware["bus_bits"] // 8)) for name in ("stored_bytes", "int8_bytes"))
    saved = f", {number(whole / 1024, 1)} KiB as int8; {words} bus words of weights, {whole_words} as int8" if packed else ""
    memory = f"weights and parameters{saved}; program {number(sizes['program'] / 1024, 1)} KiB"
    first = number(report["cold_measured_cycles" if measured else "cold_predicted_cycles"])
    with_first = f"; {first} in the first inference" if report["weights_resident"] else ""
    return (
        Fact(label="multiply-accumulates", value=number(report["macs"]), note="per inference"),
        Fact(label="multipliers", value=number(report["multipliers"]), note=f"{hardware['out_lanes']}×{hardware['in_lanes']}"),
        Fact(label="cycles", value=number(cycles), note=("measured" if measured else "predicted") + with_first),
        Fact(label="utilization", value=percent(share), note="whole inference, DMA included"),
        Fact(label="certified channels", value=f"{number(certified)} of {number(quantization['channels'])}", note="equal in ONNX Runtime, proven"),
        Fact(label="memory", value=f"{number(sizes['weights'] / 1024, 1)} KiB", note=memory),
    )


def _headline(report: dict[str, Any]) -> tuple[str, bool]:
    verification = report["verification"]
    if verification is None:
        return "Built; not verified yet: run hwgen verify", True
    inferences = verification["inferences"]
    plural = "inference" if inferences == 1 else "inferences"
    elements = sum(layer["compared"] for layer in report["layers"])
    if verification["mismatches"] or verification["bus_violations"]:
        return f"{number(verification['mismatches'])} of {number(elements)} values differ from the golden model in {inferences} {plural}", False
    return f"All {number(elements)} values of {len(report['layers'])} layers equal the golden model in {inferences} {plural}", True


def _chart(layers: list[dict[str, Any]], multipliers: int) -> str:
    """Where the cycles go, as one stacked bar in SVG: dark where multipliers work, light where they wait. Holds numbers only."""
    total = sum(map(_cycles, layers)) or 1
    parts, position = [], 0.0
    for index, layer in enumerate(layers):
        width = 1000 * _cycles(layer) / total
        busy = min(1.0, layer["macs"] / (_cycles(layer) * multipliers)) if _cycles(layer) else 0.0
        parts.append(f'<rect x="{position:.2f}" y="0" width="{max(width - 1, 0.3):.2f}" height="60" fill="var(--line)"/>')
        parts.append(f'<rect x="{position:.2f}" y="{60 - 60 * busy:.2f}" width="{max(width - 1, 0.3):.2f}" height="{60 * busy:.2f}" fill="var(--bar)"/>')
        if width > 18:
            parts.append(f'<text x="{position + width / 2:.2f}" y="76" text-anchor="middle">{index + 1}</text>')
        position += width
    return f'<svg viewBox="0 0 1000 82" role="img" aria-label="cycles of each layer, busy share filled">{"".join(parts)}</svg>'


_TABLES = ("uncertified", "certificates", "tried", "mixed", "repairs", "clipped_weights")  # keys of the quantization that do not fit a line


def render_html(report: dict[str, Any]) -> bytes:
    """The page of a report."""
    layers = report["layers"]
    most = max(map(_cycles, layers), default=0)
    best = max((layer["sqnr_db"] or 0.0 for layer in layers), default=0.0)
    headline, good = _headline(report)
    quantization, verification = report["quantization"], report["verification"]
    page = Page(
        network=report["network"],
        version=report["hwgen"],
        model_sha256=report["model_sha256"],
        headline=headline,
        good=good,
        facts=_facts(report),
        layers=tuple(_bar(layer, most, best, report["multipliers"]) for layer in layers),
        on_processor=on_processor(report),
        processor_layers=tuple(map(_processor_row, report["processor_layers"])),
        chart=_chart(layers, report["multipliers"]),
        uses=use_table(report),
        losses=losses_of(report),
        hardware=tuple((key, str(value)) for key, value in report["hardware"].items()),
        quantization=tuple((key, _text(value)) for key, value in quantization.items() if key not in _TABLES),
        certificates=tuple(map(_certificate, quantization["certificates"])),
        uncertified=tuple(f"{entry['layer']}, channel {entry['channel']}" for entry in quantization["uncertified"]),
        verification=tuple((key, _text(value)) for key, value in (verification or {}).items() if key != "first_mismatches"),
        synthesis=synthesis_rows(report),
        problems=tuple((verification or {}).get("first_mismatches", ())),
        repairs=repair_rows(quantization.get("repairs", ())),
        ways=rows_of(quantization.get("tried", ()), quantization.get("chosen", "")),
        way_headings=HEADINGS,
        mixed=mixed_view(quantization.get("mixed")),
    )
    return render("report/report.html", page).encode()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(entry)}" for key, entry in value.items()) or "none"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
