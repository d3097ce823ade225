"""The report is plain data; the page is made of it alone and lets nothing out of a model through."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from hwgen.report.collect import cycles_between, finite, to_json, utilization
from hwgen.report.html import number, percent, render_html
from hwgen.report.lost import USES, LostCycles, with_lost


def layer(name: str, **changes: Any) -> dict[str, Any]:
    base = {"name": name, "op": "Conv", "onnx_nodes": [name], "shape": [4, 4, 8], "elements": 128, "macs": 9216, "predicted_cycles": 200}
    base["weights"] = {"formats": ["int4"], "stored_bytes": 288, "packed_bytes": 288, "int8_bytes": 576}
    base |= {"predicted_utilization": 0.5, "sqnr_db": 33.3, "measured_cycles": None, "compared": None, "mismatches": None}
    return base | changes


def report() -> dict[str, Any]:
    return {
        "format": 3,
        "hwgen": "0.1.0",
        "network": "net",
        "model_sha256": "ab" * 32,
        "hardware": {"name": "8x8", "out_lanes": 8, "in_lanes": 8, "bus_bits": 64, "rounding": "half_even", "sha256": "cd" * 32},
        "multipliers": 64,
        "macs": 18432,
        "predicted_cycles": 450,
        "weights_resident": True,
        "cold_predicted_cycles": 777,
        "cold_measured_cycles": None,
        "predicted_utilization": 0.64,
        "measured_cycles": None,
        "utilization": None,
        "commands": 9,
        "region_bytes": {"program": 1152, "weights": 2048, "arena": 0, "input": 64, "output": 16},
        "weights": {"formats": ["int4"], "stored_bytes": 288, "packed_bytes": 288, "int8_bytes": 3360},
        "layers": [layer("first"), layer("second", sqnr_db=None, macs=0, weights=None)],
        "phases": 2,
        "processor_layers": [
            {"name": "third", "op": "Mul", "onnx_nodes": ["third"], "shape": [1, 2, 3], "elements": 6, "sqnr_db": 28.4, "error_codes": 6.1e-05}
        ],
        "quantization": {
            "channels": 9,
            "certified_channels": 8,
            "uncertified": [{"layer": "first", "operator": "Conv", "channel": 3}],
            "certificates": [certificate("first", 8), certificate("second", 1)],
            "scheme": "asymmetric",
        },
        "verification": None,
    }


def certificate(name: str, channels: int) -> dict[str, Any]:
    numbers = {"channel": 0, "multiplier": 40000, "shift": 20, "accumulator_low": -5000, "accumulator_high": 7000}
    arrays = {key: [value + k for k in range(channels)] for key, value in numbers.items()}
    certified, shares = [k != 3 for k in range(channels)], [0.0002 * (k == 3) for k in range(channels)]
    return {"layer": name, "operator": "Conv", **arrays, "certified": certified, "differing_share": shares}


def verified(mismatches: int) -> dict[str, Any]:
    result = report()
    result["layers"] = [
        layer("first", measured_cycles=210, compared=256, mismatches=0),
        layer("second", measured_cycles=190, compared=256, mismatches=mismatches),
    ]
    found = ["layer 'second', inference 0: must be 1, is 2"] if mismatches else []
    result |= {"measured_cycles": 460, "cold_measured_cycles": 788, "utilization": 0.62}
    result["verification"] = {"inferences": 2, "mismatches": mismatches, "bus_violations": 0, "first_mismatches": found, "counters": {"cycles": 460}}
    return result


def test_the_page_before_verification_says_so() -> None:
    page = render_html(report()).decode()
    assert "Built; not verified yet" in page
    assert "not verified" in page
    assert "777" in page
    assert "8 of 9" in page
    assert "first, channel 3" in page
    assert "1 of 3 layers run on the processor; the accelerator runs 2 programs" in page
    assert ">third<" in page
    assert "int4, 288 B" in page and "5.0 KiB as int8; 36 bus words of weights, 420 as int8; program" in page


def test_a_network_that_the_accelerator_computes_alone_has_no_word_on_the_processor() -> None:
    content = report() | {"processor_layers": [], "phases": 1}
    assert "processor" not in render_html(content).decode()


def test_the_page_after_verification_tells_the_verdict() -> None:
    good, bad = render_html(verified(0)).decode(), render_html(verified(7)).decode()
    assert "All 512 values of 2 layers equal the golden model in 2 inferences" in good
    assert "headline bad" not in good
    assert "788" in good and "777" not in good
    assert "7 of 512 values differ from the golden model in 2 inferences" in bad
    assert "headline bad" in bad
    assert "7 of 256 differ" in bad
    assert "must be 1, is 2" in bad


def test_a_broken_bus_rule_is_no_success() -> None:
    content = verified(0)
    content["verification"]["bus_violations"] = 1
    assert "headline bad" in render_html(content).decode()


def with_uses(content: dict[str, Any]) -> dict[str, Any]:
    lost = LostCycles(layers=tuple(dict.fromkeys(USES, 15) for _ in content["layers"]), outside=dict.fromkeys(USES, 2))
    return with_lost(content, lost)


def test_cycles_by_use_show_after_verification_only() -> None:
    assert "Cycles by use" not in render_html(report()).decode()
    page = render_html(with_uses(verified(0))).decode()
    assert "Cycles by use, measured" in page
    assert all(f"i.{use} {{ background" in page and f'class="{use}"' in page for use in USES)


HOSTILE = "</td></style><script>alert('x')</script><img src=x onerror=alert(1)> \" & {{ 7 * 7 }} {% raise %}"


NAMES = [
    *(("network",), ("layers", 0, "name"), ("layers", 0, "op"), ("processor_layers", 0, "name"), ("hardware", "name")),
    ("quantization", "uncertified", 0, "layer"),
]


@pytest.mark.parametrize("path", [*NAMES, ("quantization", "certificates", 0, "layer")])
def test_names_out_of_a_model_are_escaped(path: tuple[Any, ...]) -> None:
    content = with_uses(copy.deepcopy(report()))
    place: Any = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = HOSTILE
    page = render_html(content).decode()
    assert "<script" not in page
    assert "<img" not in page
    assert "{{ 7 * 7 }}" in page  # shown as it is, not evaluated


def test_mismatch_texts_are_escaped() -> None:
    content = verified(1)
    content["verification"]["first_mismatches"] = [HOSTILE]
    assert "<script" not in render_html(content).decode()


def test_the_page_needs_nothing_from_outside() -> None:
    page = render_html(verified(0)).decode()
    assert not re.search(r"\b(src|href|@import|url)\s*[=(]", page)
    assert "http" not in page.replace("http-equiv", "")


def test_a_network_without_layers_or_cycles_still_has_a_page() -> None:
    content = report()
    content["layers"] = [layer("only", predicted_cycles=None, sqnr_db=None)]
    content["predicted_cycles"] = None
    assert "only" in render_html(content).decode()


def test_numbers() -> None:
    assert (number(1234567), number(12.345, 1), number(None)) == ("1,234,567", "12.3", "–")
    assert (percent(0.9584), percent(None)) == ("95.8 %", "–")
    assert (finite(float("inf")), finite(None), finite(3.14159)) == (None, None, 3.142)
    assert (utilization(640, 20, 64), utilization(640, 0, 64), utilization(640, None, 64)) == (0.5, None, None)


def test_layers_that_end_in_another_order_cost_nothing_twice() -> None:
    assert cycles_between([100, 250, 240, 300]) == (100, 150, 0, 50)
    assert sum(cycles_between([100, 250, 240, 300])) == 300


def test_json_has_no_infinity() -> None:
    text = to_json(report())
    assert json.loads(text) == report()
    assert b'"shift": [ 20, 21, 22, 23, 24, 25, 26, 27 ]' in text  # arrays of numbers take one line


def test_certificates_stand_in_the_page():
    page = render_html(report()).decode()
    assert "7 of 8" in page and "40,000 … 40,007" in page and "-5,000 … 7,007" in page and "1 of 1" in page
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        to_json({"x": float("nan")})
