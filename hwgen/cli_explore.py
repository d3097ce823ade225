"""The verbs that try and explain: what they print."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from hwgen.cli_options import hardware_of, options_of
from hwgen.config import HardwareConfig, way_to_pack
from hwgen.console import OK, err, out, print_wide, shown
from hwgen.ir.graph import Graph
from hwgen.ops.conv import Conv
from hwgen.packing import WeightFormat
from hwgen.progress import bars

Json = dict[str, Any]

if TYPE_CHECKING:
    from hwgen.explore.choices import Choices


def run_explain(arguments: argparse.Namespace) -> int:
    from hwgen.explain import ExplainRequest, explain_model
    from hwgen.explain.html import headline
    from hwgen.explain.text import first_lines, layer_table

    request = ExplainRequest(
        model=arguments.model,
        calibration=arguments.calibration,
        inputs=arguments.inputs,
        out=arguments.output,
        count=arguments.count,
        options=options_of(arguments),
    )
    with bars(err) as progress:
        content = explain_model(request, progress=progress)
    print_wide(layer_table(content))
    out.print("dB at the outputs with the layer alone quantized (its weights, its values) and with all up to here; own: its values, all up to here quantized")
    out.print(f"spread: its greatest weight / that of its median channel; layers measured on {content['layer_inputs']} inputs")
    out.print(f"on {content['inputs']:,} inputs: {headline(content['outputs'])}")
    for line in first_lines(content):
        out.print(line)
    if arguments.output:
        out.print(f"written: {shown(arguments.output)}")
    return OK


def run_compare(arguments: argparse.Namespace) -> int:
    from hwgen.explore.compare import CompareRequest, compare
    from hwgen.explore.table import float_accuracy, markdown, refusals, terminal_table

    hardware = hardware_of(arguments)
    request = CompareRequest(
        model=arguments.model,
        calibration=arguments.calibration,
        inputs=arguments.inputs,
        out=arguments.output,
        methods=arguments.method or (),
        hardware=hardware,
    )
    with bars(err) as progress:
        comparison = compare(request, progress=progress)
    rows = comparison.content["methods"]
    if arguments.markdown:
        out.print(markdown(rows), markup=False, end="")
        return OK
    print_wide(terminal_table(rows, [attempt.seconds for attempt in comparison.attempts]))
    for line in refusals(rows):
        out.print(line)
    out.print(f"{comparison.content['inputs']:,} inputs; {float_accuracy(rows)}hardware {escape(hardware.name)}")
    way = way_to_pack(hardware)
    if way and any(attempt.options.weights is not WeightFormat.INT8 for attempt in comparison.attempts):
        out.print(f"weights of fewer than 8 bits count as the int8 codes that this hardware stores; {way} packs them")
    if arguments.output:
        out.print(f"written: {shown(arguments.output)}")
    return OK


def print_weights(report: Json) -> None:
    """What packing saves, or would save in hardware that can unpack; sums of poolings, whose few weights are ones, are not worth a line."""
    weights = report["weights"]
    stored, packed, unpacked = (f"{weights[name] / 1024:,.1f} KiB" for name in ("stored_bytes", "packed_bytes", "int8_bytes"))
    if weights["packed_bytes"] > 0.9 * weights["int8_bytes"]:
        return
    hardware = HardwareConfig.from_values(report["hardware"])
    way = way_to_pack(hardware)
    if hardware.weight_decoder:
        words, whole_words = (f"{weights[name] // hardware.bus_bytes:,}" for name in ("stored_bytes", "int8_bytes"))
        out.print(f"weights: {stored} in {words} bus words, packed as {', '.join(weights['formats'])}; {unpacked} in {whole_words} as int8")
    elif way:
        out.print(f"weights: {stored}, stored as int8, because the hardware does not unpack fewer bits; {way} stores about {packed}")
    else:
        out.print(f"weights: {stored}, stored as int8, because hardware {escape(hardware.name)} cannot unpack fewer bits")


def print_few_bits(graph: Graph, hardware: HardwareConfig) -> None:
    """That weights of few bits are stored as int8 on hardware which does not unpack them."""
    few = sum(isinstance(node.op, Conv) and node.op.weight_format is not WeightFormat.INT8 for node in graph.nodes)
    if few and not hardware.weight_decoder:
        way_out = f", unless it is built with {way}" if (way := way_to_pack(hardware)) else ""
        out.print(f"weights of few bits in {few} layers: hardware {escape(hardware.name)} stores them as int8{way_out}")


def print_choices(choices: Choices) -> None:
    """What `--auto` and `--bits auto` tried, and what they took."""
    from hwgen.explore.table import refusals, terminal_table

    choice = choices.choice
    if choice is not None:
        rows = choice.tried()
        print_wide(terminal_table(rows, [attempt.seconds for attempt in choice.attempts], choice.best.name))
        for line in refusals(rows):
            out.print(line)
        out.print(f"chosen (*) on {choice.held_out} calibration inputs that were held out: {escape(choice.best.name)}")
    if choices.mixture is not None:
        print_mixture(choices.mixture)


def print_mixture(content: Json) -> None:
    """The bits of each layer's weights, and what all together reach."""
    from hwgen.explain.text import short_name
    from hwgen.report.pareto import mixed_view

    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "weights", "format", *(f"{name} dB" for name in content["formats"])):
        table.add_column(heading, justify="left" if heading in ("layer", "format") else "right", no_wrap=True)
    view = mixed_view(content)
    assert view is not None
    for layer in view.layers:
        table.add_row(short_name(layer.name), layer.weights, layer.chosen, *layer.cells)
    print_wide(table)
    out.print(f"budget {view.budget}; {len(content['points'])} assignments evaluated; chosen: {view.summary}")
