"""How a product is put into a DSP block of ECP5, as a rule for yosys' techmap."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.emit.render import render

BLOCK_BITS = 18  # of each operand of a MULT18X18D
FEWEST_BITS = 4  # of an operand; smaller products are cheap in LUTs


@dataclass(frozen=True, kw_only=True)
class ProductView:
    """The template's variables: bits of a block's operands, and the fewest for which a block is taken."""

    bits: int
    fewest: int


def render_product() -> str:
    return render("synth/ecp5_product.v.j2", ProductView(bits=BLOCK_BITS, fewest=FEWEST_BITS))
