"""The command table: no overlapping fields, encode and decode are inverse, errors."""

import random
from dataclasses import fields

import pytest

from hwgen.errors import CapacityError, ModelError
from hwgen.isa.fields import COMMAND_BYTES, fields_of
from hwgen.isa.instructions import COMMANDS, Conv, End, Load, Store
from hwgen.isa.program import decode, disassemble, encode
from hwgen.isa.registers import REGISTER_SPACE_BYTES, REGISTERS


@pytest.mark.parametrize("command", COMMANDS)
def test_fields_do_not_overlap(command):
    seen = 0xFF  # the opcode
    for field in fields_of(command):
        mask = ((1 << field.width) - 1) << field.bit
        assert not seen & mask, field
        assert field.lsb + field.width <= 32 or field.lsb == 0
        assert field.bit + field.width <= 8 * COMMAND_BYTES
        seen |= mask


def test_encode_and_decode_are_inverse():
    r = random.Random(1)
    commands = [kind(**{f.name: r.choice([f.min, f.max, r.randint(f.min, f.max)]) for f in fields_of(kind)}) for kind in COMMANDS for _ in range(50)]
    assert decode(encode(commands)) == tuple(commands)


def test_a_value_too_large_for_its_field_is_refused():
    with pytest.raises(CapacityError, match="CONV command: kernel_rows must be 0..255 .kernel height., not 256"):
        encode([Conv(kernel_rows=256)])


def test_unknown_opcode_and_ragged_program_are_refused():
    with pytest.raises(ModelError, match="opcode must be one of 0x01, 0x02, 0x03, 0x10, not 0x7f"):
        decode(b"\x7f" + bytes(COMMAND_BYTES - 1))
    with pytest.raises(ModelError, match=f"length must be a multiple of {COMMAND_BYTES} bytes, not 5"):
        decode(bytes(5))


def test_disassembly_names_tokens_and_changed_fields():
    text = disassemble([Load(row_bytes=64, signal_compute=1), Conv(wait_load=1, origin_row=-1), Store(rows=2), End()])
    assert text == "   0  LOAD  signal(compute) row_bytes=64\n   1  CONV  wait(load) origin_row=-1\n   2  STORE rows=2\n   3  END\n"


def test_registers_do_not_overlap():
    offsets = [register.offset for register in REGISTERS]
    assert len(set(offsets)) == len(offsets) and max(offsets) < REGISTER_SPACE_BYTES and not any(offset % 4 for offset in offsets)
    assert len({register.name for register in REGISTERS}) == len(REGISTERS)
    for register in REGISTERS:
        seen = 0
        for field in register.fields:
            mask = ((1 << field.width) - 1) << field.lsb
            assert not seen & mask and field.lsb + field.width <= 32
            seen |= mask


def test_every_field_says_what_it_means():
    assert all(f.metadata["meaning"] for kind in COMMANDS for f in fields(kind))
