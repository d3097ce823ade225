"""Finishes Amaranth's Verilog: constant bits that simulators would leave undefined, wires that are only a second name for something."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_MODULE = re.compile(r"^module .*?^endmodule\n", re.DOTALL | re.MULTILINE)
_TOKEN = re.compile(r"\.?\\\S+|'[sbodh][0-9a-fxz]+|\.?[A-Za-z_$][\w$]*")
_NAME = r"(\\\S+|[A-Za-z_]\w*)"
_ATTRIBUTE = re.compile(r"^ *\(\* init = .* \*\)\n", re.MULTILINE)  # repeats, on a wire, the initial value of its register
_RANGE = r"(?:\[-?\d+:\d+\] )?"  # [-1:0]: a signal of no bits
_DECLARATION = re.compile(rf"  (?:wire|reg) (?:signed )?{_RANGE}{_NAME} ?;\n")
_ALIAS = re.compile(rf"  assign {_NAME}  ?= [^;\n]*;\n")
_PORT = re.compile(rf"  (?:input|output) (?:signed )?{_RANGE}{_NAME} ?;\n")

# A combinational block runs when something that it reads changes; what it sets from constants and initial values alone, a simulator
# would leave undefined. Amaranth's writer makes most blocks read a register of this purpose, but gives it its value too early (in
# SystemVerilog before any block waits), and forgets blocks that set a part of a signal to a constant.
_START = "at_start"
_START_NAME = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")
_EARLY_START = f"  reg {_START}  = 0;\n"
_START_DECLARATION = f"  reg {_START};\n  initial {_START} <= 1'h0;  // not =: when all blocks wait\n"
_CONSTANT_PART = re.compile(r"  always @\*\n    (\S+ ?(?:\[[\d:]+\])? = \d+'[hd][0-9a-f]+;)\n")
_END_OF_PORT_LIST = re.compile(r"\);\n")


def finish(text: str, kept_prefix: str) -> str:
    """`text` with every block evaluated at time 0 and without unused wires; names that begin with `kept_prefix` stay, for benches."""
    return _MODULE.sub(lambda module: _without_unused_wires(_started(module.group()), kept_prefix), _ATTRIBUTE.sub("", _START_NAME.sub(f"{_START} ", text)))


def _started(module: str) -> str:
    module = module.replace(_EARLY_START, _START_DECLARATION)
    module, count = _CONSTANT_PART.subn(rf"  always @* begin\n    if ({_START} ) begin end\n    \1\n  end\n", module)
    if count and _START_DECLARATION not in module:
        module = _END_OF_PORT_LIST.sub(f");\n{_START_DECLARATION}", module, count=1)
    return module


def _names(line: str) -> Iterable[str]:
    """Names that a line uses; a leading dot marks a port of another module."""
    return (token for token in _TOKEN.findall(line) if token[0] not in "'.")


def _without_unused_wires(module: str, kept_prefix: str) -> str:
    lines = module.splitlines(keepends=True)
    ports = {match.group(1) for line in lines if (match := _PORT.fullmatch(line))}
    declared = {match.group(1): number for number, line in enumerate(lines) if (match := _DECLARATION.fullmatch(line))}
    assigned = {match.group(1): number for number, line in enumerate(lines) if (match := _ALIAS.fullmatch(line))}
    candidates = {name for name in declared if name not in ports and not name.removeprefix("\\").startswith(kept_prefix)}
    uses = Counter(name for line in lines for name in _names(line))
    unused = [name for name in candidates if uses[name] == 1 + (name in assigned)]
    while unused:
        name = unused.pop()
        lines[declared[name]] = ""
        if name in assigned:
            for other in _names(lines[assigned[name]]):
                uses[other] -= 1
                if other in candidates and other != name and uses[other] == 1 + (other in assigned):
                    unused.append(other)
            lines[assigned[name]] = ""
    return "".join(lines)
