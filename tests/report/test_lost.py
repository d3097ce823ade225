"""Where the cycles go: every cycle has one use, and the uses are those that the program explains."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from system_support import CONFIGS, job_of, several_outputs_and_residuals

from hwgen.config import PRESETS
from hwgen.cosim import runner
from hwgen.cosim.job import MemoryModel
from hwgen.emit.render import template_root
from hwgen.isa.fields import Buffer, Mode
from hwgen.isa.instructions import Conv, End, Load, Store
from hwgen.isa.registers import CAUSES
from hwgen.report.lost import USES, LostCycles, lanes, lost_cycles, waits_for, with_lost
from hwgen.report.lost_html import use_table

MEMORIES = {"ideal": MemoryModel(), "stalled": MemoryModel(latency_cycles=9, stall_probability=0.3, seed=4)}


@pytest.fixture(scope="module", params=MEMORIES)
def simulated(request: pytest.FixtureRequest) -> Any:
    network = several_outputs_and_residuals(CONFIGS["4x4"])
    job, _ = job_of(network, 2, MEMORIES[request.param])
    return SimpleNamespace(name=request.param, network=network, result=runner.simulate(job))


def test_uses_sum_to_the_cycles_of_the_run(simulated: Any) -> None:
    lost = lost_cycles(simulated.network, simulated.result.commands)
    assert sum(lost.total.values()) == simulated.result.inferences[0].cycles
    assert lost.total["useful"] == sum(round(layer.macs / simulated.network.config.multipliers) for layer in simulated.network.layers)
    assert all(count >= 0 for part in (*lost.layers, lost.outside) for count in part.values())
    assert lost.total["setup"] > 0 and lost.total["weight_wait"] + lost.total["input_wait"] > 0 and lost.outside["store_wait"] > 0


def test_the_bench_and_the_registers_count_the_same(simulated: Any) -> None:
    """Two counters of one thing: the machine's own registers, and the bench that looks at the cause of each cycle."""
    commands = simulated.result.commands
    for index, inference in enumerate(simulated.result.inferences):
        (at_end,) = commands.counts[(commands.inference == index) & (commands.ended == 1)]
        assert dict(zip(CAUSES, at_end.tolist(), strict=True)) == {cause: inference.registers[cause] for cause in CAUSES}


def test_commands_run_when_the_cycle_model_says(simulated: Any) -> None:
    if simulated.name != "ideal":
        return
    commands, spans = simulated.result.commands, simulated.network.prediction.spans
    chosen = (commands.inference == 0) & (commands.ended == 0)
    convs = [span for span, command in zip(spans, simulated.network.commands, strict=True) if isinstance(command, Conv)]
    assert commands.accepted[chosen].tolist() == [span.start for span in convs]
    assert commands.done[chosen].tolist() == [span.end for span in convs]
    assert (commands.accepted <= commands.first)[chosen].all() and (commands.last < commands.done)[chosen].all()


def test_a_layer_takes_the_cycles_that_were_measured_for_it(simulated: Any) -> None:
    """Between the ends of its commands: in a program that runs layer after layer, the cycles of the layer."""
    if simulated.name != "ideal":
        return
    lost, spans, before = lost_cycles(simulated.network, simulated.result.commands), simulated.network.prediction.spans, 0
    for layer, uses in zip(simulated.network.layers, lost.layers, strict=True):
        end = max(spans[index].end for index in layer.commands)
        assert sum(uses.values()) == end - before
        before = end


def load(kind: Buffer, size: int, *, signal: int = 0) -> Load:
    return Load(destination=kind, row_bytes=size, signal_compute=signal)


def test_a_wait_is_for_what_brings_more_bytes() -> None:
    program = [
        load(Buffer.ACTIVATION, 256), load(Buffer.WEIGHT, 64), load(Buffer.PARAMETER, 32, signal=1), Conv(wait_load=1),
        load(Buffer.WEIGHT, 512, signal=1), load(Buffer.ACTIVATION, 64), load(Buffer.PARAMETER, 64, signal=1),
        Conv(), Conv(wait_load=1), Conv(wait_load=1), Store(), End(),
    ]  # fmt: skip
    assert list(waits_for(program)) == ["input_wait", "input_wait", "weight_wait", "weight_wait"]
    assert list(waits_for([Conv(), End()])) == ["weight_wait"]


def compiled(channels: int, mode: Mode = Mode.DENSE, **config: Any) -> Any:
    graph = SimpleNamespace(values={"y": SimpleNamespace(type=SimpleNamespace(channels=channels))})
    return SimpleNamespace(config=replace(PRESETS["8x8"], **config), graph=graph, commands=[Conv(mode=mode)])


def layer(macs: int) -> Any:
    return SimpleNamespace(macs=macs, value="y", commands=(0,))


@pytest.mark.parametrize(
    ("macs", "busy", "channels", "mode", "expected"),
    [
        (64 * 100, 100, 8, Mode.DENSE, {"useful": 100, "output_lanes": 0, "input_lanes": 0}),
        (48 * 100, 100, 6, Mode.DENSE, {"useful": 75, "output_lanes": 25, "input_lanes": 0}),
        (24 * 100, 100, 6, Mode.PACKED, {"useful": 38, "output_lanes": 25, "input_lanes": 37}),
        (64 * 150, 200, 12, Mode.DENSE, {"useful": 150, "output_lanes": 50, "input_lanes": 0}),
        (900, 100, 8, Mode.DEPTHWISE, {"useful": 14, "depthwise": 86}),
        (0, 70, 8, Mode.DEPTHWISE, {"without_macs": 70}),
    ],
)
def test_lanes(macs: int, busy: int, channels: int, mode: Mode, expected: dict[str, int]) -> None:
    found = lanes(layer(macs), busy, compiled(channels, mode))
    assert found == expected
    assert sum(found.values()) == busy


def report_with(names: tuple[str, ...] = ("first", "second")) -> dict[str, Any]:
    parts = [dict.fromkeys(USES, 0) | {"useful": 100 * k, "setup": 12} for k in (1, 2)]
    lost = LostCycles(layers=tuple(parts), outside=dict.fromkeys(USES, 0) | {"store_wait": 10})
    return with_lost({"layers": [{"name": name} for name in names]}, lost)


def test_the_table_shows_uses_that_occur_and_sums() -> None:
    table = use_table(report_with())
    assert table is not None
    assert [use for use, _, _ in table.uses] == ["useful", "setup", "store_wait"]
    assert [row.name for row in table.rows] == ["first", "second", "outside the layers", "all"]
    assert [row.cycles for row in table.rows] == ["112", "212", "10", "334"]
    assert table.rows[1].parts[0].width == round(100 * 200 / 212, 2), "the longest bar is full"
    assert table.rows[0].cells == ("100", "12", "")
    assert table.share.cells == ("89.8 %", "7.2 %", "3.0 %")
    assert use_table({"layers": []}) is None, "nothing before the simulation"


def test_every_use_is_described() -> None:
    page = (template_root().parent / "docs/report.md").read_text(encoding="utf-8")
    assert all(f"| `{use}` | {meaning} |" in page for use, meaning in USES.items())
