"""The register table as C header, SVD, JSON and Markdown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from xml.etree import ElementTree as xml

from hwgen.emit.render import render
from hwgen.isa import registers as isa
from hwgen.isa.registers import Access, ErrorCode, Register

SVD_ACCESS = {
    Access.READ_ONLY: "read-only",
    Access.READ_WRITE: "read-write",
    Access.WRITE_ONE_TO_CLEAR: "read-write",
    Access.SELF_CLEARING: "write-only",
}


@dataclass(frozen=True, kw_only=True)
class FieldView:
    name: str
    mask: str
    lsb: int
    meaning: str


@dataclass(frozen=True, kw_only=True)
class RegisterView:
    name: str
    offset: str
    access: str
    meaning: str
    fields: tuple[FieldView, ...]


@dataclass(frozen=True, kw_only=True)
class CodeView:
    name: str
    value: int
    text: str


@dataclass(frozen=True, kw_only=True)
class RegistersView:
    prefix: str
    space_bytes: int
    identity: str
    version: str
    registers: tuple[RegisterView, ...]
    errors: tuple[CodeView, ...]


def error_codes() -> tuple[CodeView, ...]:
    """Why the machine stopped, with a readable text."""
    return tuple(CodeView(name=code.name, value=code.value, text=code.name.lower().replace("_", " ")) for code in ErrorCode)


def _view(register: Register) -> RegisterView:
    fields = tuple(
        FieldView(name=field.name.upper(), mask=f"0x{((1 << field.width) - 1) << field.lsb:08x}", lsb=field.lsb, meaning=field.meaning)
        for field in register.fields
    )
    return RegisterView(name=register.name.upper(), offset=f"0x{register.offset:02x}", access=register.access.value, meaning=register.meaning, fields=fields)


def header(prefix: str) -> str:
    """Offsets, masks and positions; every macro begins with `prefix`."""
    view = RegistersView(
        prefix=prefix,
        space_bytes=isa.REGISTER_SPACE_BYTES,
        identity=f"0x{isa.IDENTITY:08x}",
        version=f"0x{isa.VERSION:08x}",
        registers=tuple(_view(register) for register in isa.REGISTERS),
        errors=error_codes(),
    )
    return render("firmware/regs.h.j2", view)


def csr_json() -> str:
    """Every register with its fields, for scripts."""
    content = {
        "identity": isa.IDENTITY,
        "version": isa.VERSION,
        "space_bytes": isa.REGISTER_SPACE_BYTES,
        "registers": [
            {
                "name": register.name,
                "offset": register.offset,
                "access": register.access.value,
                "reset": register.reset,
                "meaning": register.meaning,
                "fields": [{"name": f.name, "lsb": f.lsb, "width": f.width, "meaning": f.meaning} for f in register.fields],
            }
            for register in isa.REGISTERS
        ],
        "error_codes": {code.name.lower(): code.value for code in ErrorCode},
    }
    return json.dumps(content, indent=2) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def markdown() -> str:
    """A table for people."""
    lines = ["| offset | register | access | meaning |", "|---|---|---|---|"]
    for register in isa.REGISTERS:
        lines.append(f"| 0x{register.offset:02X} | {register.name} | {register.access.value} | {_cell(register.meaning)} |")
        for field in register.fields:
            top = field.lsb + field.width - 1
            bits = f"{field.lsb}" if field.width == 1 else f"{top}:{field.lsb}"
            lines.append(f"| | {register.name}.{field.name} [{bits}] | | {_cell(field.meaning)} |")
    return "# Registers\n\n" + "\n".join(lines) + "\n"


def _leaf(parent: xml.Element, **texts: str) -> None:
    for tag, text in texts.items():
        xml.SubElement(parent, tag).text = text


def svd() -> str:
    """CMSIS System View Description 1.3 of one device; the base address 0 is the integrator's to change."""
    device = xml.Element("device", schemaVersion="1.3")
    _leaf(device, name="hwgen", version="1.0", description="hwgen accelerator", addressUnitBits="8", width="32")
    peripheral = xml.SubElement(xml.SubElement(device, "peripherals"), "peripheral")
    _leaf(peripheral, name="NPU", description="neural network accelerator", baseAddress="0x00000000")
    _leaf(xml.SubElement(peripheral, "addressBlock"), offset="0x0", size=f"0x{isa.REGISTER_SPACE_BYTES:x}", usage="registers")
    block = xml.SubElement(peripheral, "registers")
    for register in isa.REGISTERS:
        entry = xml.SubElement(block, "register")
        _leaf(entry, name=register.name.upper(), description=register.meaning, addressOffset=f"0x{register.offset:02x}", size="32")
        _leaf(entry, access=SVD_ACCESS[register.access], resetValue=f"0x{register.reset:08x}")
        fields = xml.SubElement(entry, "fields") if register.fields else entry
        for field in register.fields:
            part = xml.SubElement(fields, "field")
            _leaf(part, name=field.name.upper(), description=field.meaning, bitOffset=str(field.lsb), bitWidth=str(field.width))
            if register.access is Access.WRITE_ONE_TO_CLEAR:
                _leaf(part, modifiedWriteValues="oneToClear")
    xml.indent(device)
    return xml.tostring(device, encoding="unicode", xml_declaration=True) + "\n"
