"""Pictures of layers: what each does to the outputs, ranges of weights, values. They hold numbers and fixed words only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hwgen.report.svg import Frame, powers_of_ten, ticks

BOX = ("least", "lower_quartile", "median", "upper_quartile", "greatest")  # keys of a layer's weights, one number per channel each
SHOWN_CHANNELS = 64  # of one layer; more are sampled
MOST_DB = 80.0  # what is better is drawn like this

Json = dict[str, Any]


def sqnr_picture(layers: Sequence[Json]) -> str:
    """Bars: the outputs' SQNR with one layer quantized alone, of weights and values; a line: with everything up to here."""
    shown = [min(db, MOST_DB) for layer in layers for key in ("alone_db", "up_to_here_db") if (db := layer[key]) is not None]
    low = min(0.0, 10 * math.floor(min(shown, default=0.0) / 10))
    high = max(10.0, 10 * math.ceil(max(shown, default=0.0) / 10))
    frame = Frame(width=1000, height=250, low=low, high=high, top=20)
    step = 1 / max(1, len(layers))
    parts = [frame.axis(ticks(low, high)), f'<text x="{frame.left - 6}" y="9" text-anchor="end">dB</text>']
    bar, points = frame.x(step * 0.7) - frame.x(0), []
    for index, layer in enumerate(layers):
        alone, until = (high if layer[key] is None else layer[key] for key in ("alone_db", "up_to_here_db"))
        y = frame.y(alone)
        fill = "var(--line)" if layer["alone_db"] is None else "var(--bar)"
        parts.append(f'<rect x="{frame.x((index + 0.15) * step)}" y="{y}" width="{bar:.1f}" height="{frame.height - frame.bottom - y:.1f}" fill="{fill}"/>')
        points.append((frame.x((index + 0.5) * step), frame.y(until)))
    parts.append(f'<path d="M{" L".join(f"{x} {y}" for x, y in points)}" fill="none" stroke="var(--bad)" stroke-width="2"/>' if points else "")
    parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="var(--bad)"/>' for x, y in points]
    parts.append(frame.below([(x, str(index)) for index, (x, _) in enumerate(points, 1)]))
    return frame.picture("SQNR at the outputs, layer by layer", parts)


def _boxes(frame: Frame, rows: Sequence[Sequence[float]]) -> list[str]:
    """Box plots side by side, of (least, lower quartile, median, upper quartile, greatest), as three paths."""
    step = 1 / max(1, len(rows))
    width = max(1.0, min(14.0, (frame.x(step) - frame.x(0)) * 0.66))
    whiskers, boxes, medians = [], [], []
    for index, row in enumerate(rows):
        x = frame.x((index + 0.5) * step)
        least, lower, median, upper, greatest = (frame.y(value) for value in row)
        left = round(x - width / 2, 1)
        whiskers.append(f"M{x} {least}V{greatest}M{left} {least}h{width:.1f}M{left} {greatest}h{width:.1f}")
        boxes.append(f"M{left} {upper}h{width:.1f}V{lower}h{-width:.1f}z")
        medians.append(f"M{left} {median}h{width:.1f}")
    return [
        f'<path d="{"".join(whiskers)}" stroke="var(--soft)" fill="none"/>',
        f'<path d="{"".join(boxes)}" fill="var(--bar)" stroke="var(--bar)" fill-opacity="0.45"/>',
        f'<path d="{"".join(medians)}" stroke="var(--ink)" stroke-width="1.5" fill="none"/>',
    ]


def spread_picture(layers: Sequence[Json]) -> str:
    """The dynamic range of each layer's weights: one box over the greatest magnitudes of its channels, on a logarithmic scale."""
    rows, numbers = [], []
    for number, layer in enumerate(layers, 1):
        magnitudes = sorted(channel_magnitudes(layer["weights"])) if layer["weights"] else []
        logs = [math.log10(value) for value in magnitudes if value > 0]
        if logs:
            rows.append([logs[round(share * (len(logs) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)])
            numbers.append(number)
    low, high = min((row[0] for row in rows), default=0.0), max((row[4] for row in rows), default=1.0)
    low, high = math.floor(low - 0.05), math.ceil(high + 0.05)
    frame = Frame(width=1000, height=220, low=low, high=high)
    step = 1 / max(1, len(rows))
    labels = [(frame.x((index + 0.5) * step), str(number)) for index, number in enumerate(numbers)]
    return frame.picture("greatest weight of each channel, by layer", [frame.axis(powers_of_ten(low, high)), *_boxes(frame, rows), frame.below(labels)])


def channel_magnitudes(weights: Json) -> list[float]:
    """Greatest magnitude of each channel."""
    return [max(-least, greatest, 0.0) for least, greatest in zip(weights["least"], weights["greatest"], strict=True)]


def shown_channels(weights: Json) -> list[int]:
    """All channels, or of many a sample evenly spaced by magnitude, smallest and greatest included."""
    count = weights["channels"]
    if count <= SHOWN_CHANNELS:
        return list(range(count))
    magnitudes = channel_magnitudes(weights)
    order = sorted(range(count), key=lambda channel: magnitudes[channel])
    return [order[round(k * (count - 1) / (SHOWN_CHANNELS - 1))] for k in range(SHOWN_CHANNELS)]


def weights_picture(weights: Json) -> str:
    """One box per channel; dashed where a scale that all channels share ends."""
    channels = shown_channels(weights)
    rows = [[weights[name][channel] for name in BOX] for channel in channels]
    low, high = min(min(row) for row in rows), max(max(row) for row in rows)
    margin = 0.05 * (high - low) or 1.0
    frame = Frame(width=480, height=200, low=low - margin, high=high + margin, left=56)
    parts = [frame.axis(ticks(frame.low, frame.high, 5)), *_boxes(frame, rows)]
    if len(set(weights["limits"])) == 1:
        limit = weights["limits"][0]
        for y in (frame.y(value) for value in (-limit, limit) if frame.low <= value <= frame.high):
            parts.append(f'<line x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y}" y2="{y}" stroke="var(--bad)" stroke-dasharray="5 4"/>')
    if channels == list(range(len(channels))):
        step = 1 / len(channels)
        parts.append(frame.below([(frame.x((channel + 0.5) * step), str(channel)) for channel in channels]))
    return frame.picture("weights of each channel", parts)


def histogram_picture(layer: Json) -> str:
    """Counts of values on a logarithmic scale; those beyond the range of the codes in red, the range's ends as lines."""
    content = layer["histogram"]
    counts, low, high = content["counts"], content["low"], content["high"]
    logs = [math.log10(1 + count) for count in counts]
    most = max(logs, default=1.0) or 1.0
    ends = layer["range"]
    first, last = min(low, ends[0]), max(high, ends[1])
    frame = Frame(width=480, height=200, low=0.0, high=most, left=56)

    def place(value: float) -> float:
        return frame.x((value - first) / (last - first) if last > first else 0.5)

    width = (high - low) / max(1, len(counts))
    inside: list[str] = []
    beyond: list[str] = []
    for index, height in enumerate(logs):
        start = low + index * width
        if counts[index]:
            x, y = place(start), frame.y(height)
            path = f"M{x} {frame.height - frame.bottom}V{y}h{max(0.8, place(start + width) - x - 0.4):.1f}V{frame.height - frame.bottom}z"
            (inside if ends[0] <= start + width / 2 <= ends[1] else beyond).append(path)
    parts = [frame.axis([(math.log10(1 + 10**k), label) for k, label in ((int(k), label) for k, label in powers_of_ten(0, most, 5))])]
    parts.append(f'<path d="{"".join(inside)}" fill="var(--bar)"/><path d="{"".join(beyond)}" fill="var(--bad)"/>')
    bottom = frame.height - frame.bottom
    parts += [f'<path d="M{place(end)} {frame.top}V{bottom}" stroke="var(--good)" stroke-width="1.5" stroke-dasharray="5 4"/>' for end in ends]
    parts.append(frame.below(sorted((place(value), label) for value, label in ticks(first, last, 7))))
    return frame.picture("values of the layer", parts)
