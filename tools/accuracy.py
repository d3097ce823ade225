"""Measure what quantization costs on the open set, beside the goals and what other tools reach at the same work.

    python tools/accuracy.py [WORD ...]    print the table (or the rows whose task has one of the words)
    python tools/accuracy.py --readme      write the whole table into README.md, between its marks

SQNR (dB) is of the logits over the whole evaluation set, 10 log10(sum(float^2) / sum((float - quantized)^2)); agreement is the share of inputs
whose greatest output is the float network's. Calibration: 128 inputs, 48 where the set is small, none of them evaluated. Seconds are of
CPU time of one core. The figures of others were measured by the same definitions, on the same networks and data.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hwgen.blas import single_threaded
from hwgen.frontend.onnx import load_float_graph
from hwgen.ir.evaluate import evaluate
from hwgen.ir.graph import Graph
from hwgen.ops.golden import golden
from hwgen.packing import WeightFormat
from hwgen.quantize import Effort, Granularity, QuantizeOptions, Repair, Scheme, quantize
from hwgen.quantize.few_bits import INT3
from hwgen.quantize.metrics import agreement, sqnr_db
from hwgen.quantize.streams import divide, streams
from hwgen.score import real_outputs
from tools.open_set import open_set

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- accuracy: written by tools/accuracy.py --readme -->", "<!-- end of accuracy -->"
HEAD = ("task", "float", "accuracy", "agreement", "SQNR dB", "seconds", "goal", "others")
FAST = QuantizeOptions(effort=Effort.FAST)
TENSOR = replace(FAST, granularity=Granularity.TENSOR)
FOUR_BITS, THREE_BITS, TWO_BITS = (replace(FAST, weights=kind) for kind in (WeightFormat.INT4, INT3, WeightFormat.INT2))
SPREAD = 4.0  # octaves: channels are rescaled by 2**U(-SPREAD, SPREAD)


def rescaled(graph: Graph) -> Graph:
    """The same function, with badly scaled channels between its layers; the same on every run."""
    rng = np.random.default_rng(0)
    for stream in streams(graph, additions=False):
        channels = graph.values[stream.values[0]].type.channels
        graph = divide(graph, stream, 2.0 ** rng.uniform(-SPREAD, SPREAD, channels))
    return graph


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row: how a network is quantized, the goal, what others reach. `least`: accuracy in percent, agreement in percent, SQNR in dB,
    seconds at most; None where there is no goal."""

    name: str
    network: str
    options: QuantizeOptions
    least: tuple[float | None, float | None, float | None, float | None]
    others: str
    calibrated: bool = True
    change: Callable[[Graph], Graph] = field(default=lambda graph: graph)


RESNET, MOBILENET, KEYWORDS, VISUAL = "resnet8_cifar10_nhwc", "mobilenetv1_025_128_imagenet", "kws_dscnn", "vww_mobilenetv1_025"
ORT = "ONNX Runtime"
TASKS = (
    Task(name="ResNet-8, per channel", network=RESNET, options=FAST, least=(None, 99.2, 34, 1), others=f"{ORT}: 98.8 %, 32.2 dB; NNCF: 20 dB"),
    Task(
        name="ResNet-8, per channel, --repair best",
        network=RESNET,
        options=replace(FAST, effort=Effort.BEST),
        least=(None, 99.2, 34, None),
        others="",
    ),
    Task(name="ResNet-8, per tensor", network=RESNET, options=TENSOR, least=(None, None, 28.5, None), others=f"{ORT}: 26.3 dB"),
    Task(
        name="ResNet-8, power-of-two",
        network=RESNET,
        options=replace(FAST, scheme=Scheme.POWER_OF_TWO),
        least=(None, None, 28.5, 3),
        others="Brevitas: 27.4 dB",
    ),
    Task(
        name="ResNet-8, channels rescaled, per tensor",
        network=RESNET,
        options=TENSOR,
        least=(87.4, None, None, None),
        others=f"AIMET: 87.1 %; NNCF: 32 %; {ORT}: 14 %",
        change=rescaled,
    ),
    Task(
        name="ResNet-8, channels rescaled, per tensor, no data",
        network=RESNET,
        options=replace(TENSOR, input_range=(0.0, 255.0)),
        least=(87.4, None, None, None),
        others="",
        calibrated=False,
        change=rescaled,
    ),
    Task(
        name="MobileNetV1 0.25 128, per tensor, no data",
        network=MOBILENET,
        options=replace(TENSOR, input_range=(0.0, 255.0)),
        least=(45, None, None, None),
        others=f"{ORT}, with data: 27.3 %",
        calibrated=False,
    ),
    Task(
        name="MobileNetV1 0.25 128, per tensor, equalization alone",
        network=MOBILENET,
        options=replace(TENSOR, repairs=(Repair.EQUALIZE,)),
        least=(None, None, None, None),
        others="",
    ),
    Task(name="MobileNetV1 0.25 128, per tensor", network=MOBILENET, options=TENSOR, least=(46.5, None, 12, None), others=f"{ORT}: 27.3 %, 38.6 %, 5.1 dB"),
    Task(name="MobileNetV1 0.25 128, per channel", network=MOBILENET, options=FAST, least=(None, None, 24.5, None), others="NNCF: 95.5 %, 23.0 dB"),
    Task(name="DS-CNN, per channel", network=KEYWORDS, options=FAST, least=(None, None, 35, None), others=f"{ORT}: 33.2 dB"),
    Task(name="visual wake words, per channel", network=VISUAL, options=FAST, least=(None, None, 26, None), others=f"{ORT}: 99.1 %, 23.1 dB"),
    Task(
        name="ResNet-8, weights of 4 bits",
        network=RESNET,
        options=FOUR_BITS,
        least=(87.0, None, 21, 30),
        others=f"Brevitas: 86.6 %, 20.1 dB; {ORT}: 50 %",
    ),
    Task(name="ResNet-8, weights of 3 bits", network=RESNET, options=THREE_BITS, least=(84, None, None, None), others="Brevitas: 82.2 %"),
    Task(
        name="ResNet-8, weights of 2 bits", network=RESNET, options=TWO_BITS, least=(65, None, None, None), others="Brevitas: 49.2 %"
    ),
    Task(
        name="DS-CNN, weights of 4 bits", network=KEYWORDS, options=FOUR_BITS, least=(91, None, None, None), others=f"{ORT}: 87.6 %"
    ),
)


def row(task: Task, module: Any) -> tuple[str, ...]:
    """The cells of one task."""
    case = module.CASES[task.network]
    count = 128 if case.calibration or "kws" in case.name else 48
    x, labels = module.load(case)
    if not case.calibration:
        x, labels = x[count:], labels[count:]
    graph = task.change(load_float_graph(module.model_path(case)))
    (name,) = (entry.name for entry in graph.inputs)
    feeds = {name: x.astype(np.float32)}
    calibration = {name: module.calibration(case, count).astype(np.float32)} if task.calibrated else None
    start = time.process_time()
    with single_threaded():
        quantized = quantize(graph, calibration, task.options)
    seconds = time.process_time() - start
    (wanted,) = evaluate(graph, feeds, softmax=False).values()
    (found,) = real_outputs(quantized, golden(quantized, feeds)).values()
    wanted, found = (array.reshape(len(x), -1)[:, case.label_offset :] for array in (wanted, found))
    scores = [100 * float((array.argmax(1) == labels).mean()) for array in (wanted, found)]
    agree, sqnr = 100 * agreement(wanted, found), sqnr_db(wanted, found)
    measured = (scores[1], agree, sqnr, -seconds)
    limits = tuple(None if limit is None else limit if index < 3 else -limit for index, limit in enumerate(task.least))
    units = (" %", " % agreement", " dB", " s")
    goals = [f"{'≥' if i < 3 else '<'} {abs(g):g}{units[i]} {'✓' if measured[i] >= g else '✗'}" for i, g in enumerate(limits) if g is not None]
    return (task.name, f"{scores[0]:.2f} %", f"{scores[1]:.2f} %", f"{agree:.2f} %", f"{sqnr:.1f}", f"{seconds:.1f}", ", ".join(goals), task.others)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The table as README.md holds it."""
    lines = [HEAD, ["---", *["---:"] * 5, "---", "---"], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what quantization costs, beside goals and other tools.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only tasks whose name has one of these words")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args(argv)
    module = open_set()
    if module is None:
        print("the open set of trained networks is not here; nothing to measure", file=sys.stderr)
        return 2
    rows = []
    for task in TASKS:
        if not arguments.words or any(word in task.name for word in arguments.words):
            rows.append(row(task, module))
            print(" | ".join(rows[-1]), flush=True)
    if arguments.readme:
        before, rest = README.read_text(encoding="utf-8").split(START)
        README.write_text(f"{before}{START}\n{markdown(rows)}{END}{rest.split(END)[1]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
