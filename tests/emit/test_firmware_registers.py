import json
import re
from pathlib import Path
from xml.etree import ElementTree as xml

from firmware_support import compile_c, run

from hwgen.emit import firmware_registers
from hwgen.isa.registers import REGISTERS, ErrorCode, offset_of


def test_header_gives_the_offsets_of_the_table(tmp_path: Path) -> None:
    """Compiled, so that the macros are what C sees."""
    (tmp_path / "r.h").write_text(firmware_registers.header("P"))
    prints = "".join(f'printf("%u\\n", (unsigned)P_REG_{r.name.upper()});' for r in REGISTERS)
    (tmp_path / "r.c").write_text(f'#include <stdio.h>\n#include "r.h"\nint main(void) {{ {prints} return 0; }}\n')
    output = run(compile_c(tmp_path, "r", "r.c")).stdout.split()
    assert [int(text) for text in output] == [r.offset for r in REGISTERS]


def test_header_masks_cover_their_fields() -> None:
    text = firmware_registers.header("P")
    assert "#define P_ERROR_CODE_MASK UINT32_C(0x000000ff)" in text
    assert "#define P_ERROR_ENGINE_MASK UINT32_C(0x00000300)" in text
    assert "#define P_ERROR_ENGINE_LSB 8" in text


def test_header_holds_macros_only() -> None:
    """Bit-field structs turn one write into four byte writes."""
    code = re.sub(r"/\*.*?\*/", "", firmware_registers.header("P"), flags=re.S)
    assert all(line.startswith(("#", "/*")) for line in code.splitlines() if line.strip())


def test_svd_lists_every_register_once() -> None:
    root = xml.fromstring(firmware_registers.svd())
    found = {r.findtext("name"): int(r.findtext("addressOffset") or "", 16) for r in root.iter("register")}
    assert found == {r.name.upper(): r.offset for r in REGISTERS}
    fields = {(r.findtext("name"), f.findtext("name")) for r in root.iter("register") for f in r.iter("field")}
    assert fields == {(r.name.upper(), f.name.upper()) for r in REGISTERS for f in r.fields}


def test_json_and_markdown_follow_the_table() -> None:
    content = json.loads(firmware_registers.csr_json())
    assert [r["offset"] for r in content["registers"]] == [r.offset for r in REGISTERS]
    assert content["error_codes"]["watchdog"] == ErrorCode.WATCHDOG
    markdown = firmware_registers.markdown()
    assert f"| 0x{offset_of('watchdog'):02X} | watchdog | rw |" in markdown
    assert "| | error.code [7:0] | | ErrorCode |" in markdown
