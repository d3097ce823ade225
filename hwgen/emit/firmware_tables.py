"""Numbers as C text: arrays, initializers and float literals; large tables as binary files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hwgen.emit.render import render

BINARY_FROM_BYTES = 256 << 10  # larger tables become .bin + .S: a compiler needs 15 s for 4 MiB of text
LINE = 150


def wrapped(items: Iterable[str], indent: str = "    ") -> str:
    """Comma-separated items on lines of bounded length."""
    lines, current = [], indent
    for item in items:
        if len(current) + len(item) > LINE and current != indent:
            lines.append(current.rstrip())
            current = indent
        current += f"{item}, "
    return "\n".join([*lines, current.rstrip()])


def c_array(kind: str, name: str, items: Iterable[str]) -> str:
    """`static const` array; an empty one gets a single 0, as C knows no empty arrays."""
    texts = list(items) or ["0"]
    return f"static const {kind} {name}[{len(texts)}] = {{\n{wrapped(texts)}\n}};"


def int_array(kind: str, name: str, values: Iterable[int]) -> str:
    return c_array(kind, name, (str(int(value)) for value in values))


def word_array(name: str, values: Iterable[int]) -> str:
    """uint32_t in hexadecimal."""
    return c_array("uint32_t", name, (f"UINT32_C(0x{value:08x})" for value in values))


def float_literal(value: float | np.float32) -> str:
    """The shortest decimal that gives exactly this float32."""
    single = np.float32(value)
    if not np.isfinite(single):
        return "NAN" if np.isnan(single) else ("INFINITY" if single > 0 else "-INFINITY")
    return f"{np.format_float_scientific(single, unique=True, trim='0')}f"


def initializer(values: Mapping[str, object]) -> str:
    """Designated initializer of a struct."""
    return "{" + ", ".join(f".{name} = {value}" for name, value in values.items()) + "}"


@dataclass(frozen=True, kw_only=True)
class _TextTable:
    type: str
    name: str
    declaration: str


@dataclass(frozen=True, kw_only=True)
class _BinaryTable:
    name: str
    alignment: int
    file: str


def table_files(name: str, data: bytes, *, alignment: int, signed: bool = False) -> dict[str, bytes]:
    """The files below src/ that define the global byte table `name`: one C file, or for large data assembler and binary."""
    kind = "int8_t" if signed else "uint8_t"
    stored = data or b"\0"
    if len(stored) > BINARY_FROM_BYTES:
        listing = render("firmware/table.S.j2", _BinaryTable(name=name, alignment=alignment, file=f"{name}.bin"))
        return {f"src/{name}.S": listing.encode(), f"src/{name}.bin": stored}
    numbers = np.frombuffer(stored, np.int8 if signed else np.uint8)
    declaration = f"NPU_ALIGNED({alignment}) const {kind} {name}[{len(stored)}] = {{\n{wrapped(map(str, numbers.tolist()))}\n}};"
    return {f"src/{name}.c": render("firmware/table.c.j2", _TextTable(type=kind, name=name, declaration=declaration)).encode()}
