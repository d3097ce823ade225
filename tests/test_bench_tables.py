"""The tables of `make bench`: their rows, what they say of goals and losses, and one row measured from end to end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from system_support import CONFIGS

from hwgen.report.lost import USES
from tools import bench, tables
from tools.bare_loop import Speeds, line
from tools.bench_cases import CASES, LARGE, TRAINED, Case, at_utilization
from tools.bench_run import Found, run
from tools.open_set import FLOAT_MODELS
from tools.seeded_networks import SHAPES


def found(**changes: Any) -> Found:
    uses = dict.fromkeys(USES, 0) | {"useful": 9_000, "setup": 500, "drain": 250, "weight_wait": 250}
    base = Found(
        case=replace(CASES["dscnn"], most_cycles=10_500, stretch_cycles=9_500),
        trained=False, macs=2_304_000, predicted=10_000, measured=10_000, slow_predicted=10_100, slow_measured=10_200, differing=0, compared=1234, uses=uses,
        build_seconds=1.25, verify_seconds=2.5, simulation_seconds=0.75, model_seconds=0.0123, simulated_per_second=654_321.0,
    )  # fmt: skip
    return replace(base, **changes)


def test_every_goal_of_the_list_has_its_row() -> None:
    goals = {name: (case.most_cycles, case.stretch_cycles) for name, case in CASES.items()}
    assert goals["resnet8"] == (51_400, 50_000)
    assert goals["mobilenetv1_025_96"] == (45_000, 39_000)
    assert goals["dscnn"] == (16_000, 13_800)
    assert goals["autoencoder"] == (4_500, 4_300)
    assert goals["resnet8@8x16"] == (110_000, None)
    assert goals["resnet18"] == (at_utilization("resnet18", CASES["resnet18"].hardware, 0.90), at_utilization("resnet18", CASES["resnet18"].hardware, 0.95))
    large = ("squeezenet10", "mobilenetv2_100_224", "resnet18", "mobilenetv1_100_224")
    assert list(LARGE) == [name + buffers for name in large for buffers in ("", "@small")]
    assert {case.hardware.multipliers for case in CASES.values()} == {64, 128, 256, 1024}
    assert set(TRAINED.values()) <= set(FLOAT_MODELS)
    assert set(TRAINED) <= set(SHAPES)


def test_least_cycles_are_those_of_full_multipliers() -> None:
    case = CASES["resnet8"]
    assert case.at_least_cycles == -(-SHAPES["resnet8"].macs // 256) == 48_835
    assert at_utilization("resnet8", case.hardware, 0.5) == 2 * SHAPES["resnet8"].macs // 256


def test_a_row_says_what_was_reached() -> None:
    assert bench.cells(found()) == [
        "DS-CNN *", "16x16", "256 + 256 KiB", "10,000", "", "equal", "10,378", "90.0%", "10,500 ✓", "9,500 ✗", "+2.0%", "-0.98%", "0 / 1,234"
    ]  # fmt: skip
    assert bench.cells(found(predicted=9_999))[5] == "9,999"
    assert bench.cells(found(cold_measured=12_345))[4] == "12,345"
    assert bench.cells(found(trained=True))[0] == "DS-CNN"


def test_uses_are_shares_of_all_cycles() -> None:
    cells = dict(zip(("network", "array", *bench.GROUPS), bench.use_cells(found()), strict=True))
    assert (cells["work"], cells["setup, drain"], cells["weights"], cells["depthwise"]) == ("90.0%", "7.5%", "2.5%", "")
    assert sorted(use for group in bench.GROUPS.values() for use in group) == sorted(USES), "every use has its column"


def test_a_network_that_does_not_fit_is_a_row_that_says_so() -> None:
    case = Case(network="dscnn", hardware=replace(CONFIGS["4x4"], activation_words=64), most_cycles=1000)
    row = run(case)
    assert row.problem.startswith("CapacityError: ")
    text = bench.rendered([row, found()], markdown=False)
    assert "1,000 ✗" in text and f"DS-CNN{'' if row.trained else ' *'}, 4x4: CapacityError: " in text


def test_a_row_from_end_to_end() -> None:
    row = run(Case(network="dscnn", hardware=CONFIGS["4x4"]))
    assert not row.problem
    assert row.measured == row.predicted > row.case.at_least_cycles
    assert row.slow_measured > row.measured
    assert abs(row.slow_predicted / row.slow_measured - 1) < 0.01
    assert sum(row.uses.values()) == row.measured
    assert (row.macs, row.differing) == (SHAPES["dscnn"].macs, 0)
    assert row.compared > 100_000
    assert row.utilization == row.macs / (16 * row.measured)
    assert min(row.build_seconds, row.verify_seconds, row.simulation_seconds, row.model_seconds, row.simulated_per_second) > 0


def test_tables() -> None:
    rows = [["a", "1"], ["bcd", "23"]]
    assert tables.markdown(("name", "n"), rows) == "| name | n |\n|---|---:|\n| a | 1 |\n| bcd | 23 |\n"
    assert tables.text(("name", "n"), rows) == "name   n\na      1\nbcd   23"


def test_the_speed_line_has_the_ratio() -> None:
    assert "ratio 80% (ResNet-8, 16x16)" in line(CASES["resnet8"], Speeds(shipped=400_000, untraced=450_000, bare=500_000))


def test_unknown_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["resnet9"])
    assert "no row resnet9; there are resnet8," in capsys.readouterr().err
    assert bench.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(CASES)


def test_differing_values_are_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "run", lambda case: found(differing=3))
    assert bench.main(["dscnn"]) == 1
    assert "3 / 1,234" in capsys.readouterr().out


def test_the_readme_keeps_what_stands_around_the_tables() -> None:
    text = bench.README.read_text(encoding="utf-8")
    new = bench.readme_with("TABLE\n", text)
    assert f"{bench.START}\nTABLE\n{bench.END}" in new
    assert new.split(bench.START)[0] == text.split(bench.START)[0]
    assert new.split(bench.END)[1] == text.split(bench.END)[1]
