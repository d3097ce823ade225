"""Commands one after the other: fetches a record, checks each row of a transfer, starts the compute engine."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import BUFFER_ADDRESS_BITS, COMMAND_BYTES, Buffer, Engine, Opcode, Region, fields_of
from hwgen.isa.instructions import Load
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.command import INDEX_BITS, buffer_words
from hwgen.rtl.faults import SEQUENCER
from hwgen.rtl.serial.control import CODE_BITS
from hwgen.rtl.serial.memory import RECORD_WORDS_OF_PARAMETERS, Table, place_bits
from hwgen.rtl.serial.registers import NUMBER_BITS, number_of

_FIELDS = {field.name: field for field in fields_of(Load)}
_SUM_BITS = 34  # of an address, an offset and a length: no sum wraps into a legal one


def _bits_of(word: Value, name: str) -> Value:
    field = _FIELDS[name]
    return word[field.lsb : field.lsb + field.width]


class SerialSequencer(wiring.Component):
    """Runs a program from its entry on, until END or the first fault.

    Records and rows of transfers are checked alike, with one adder. Sums keep every carry, so no offset, stride or length can wrap into a
    legal address. Tokens are not looked at: a command begins when the one before it is done.

    Members
    -------
    index : position of the command at hand; `decoded`, `leaves`: strobes that move it
    number, setting : a register, read one cycle before
    table_address, table_data : the table, read one cycle before
    load, first, words, writes : to the port; `word`, `answered`, `position` are of words that it has read, `active` and `failed` its state
    settled, failed_address : the port's, behind an error
    record, weights, activations, parameters : where a word that was read goes, `place` its number in the buffer; also of a word to store
    compute : starts the compute engine, which is busy until `compute_done`
    finished : END was decoded; `fault`, `code`, `engine`, `address`: the machine must stop
    stop : the port must offer nothing more
    loading, storing, fetching : what the cycle is spent on
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config, self._table = config, Table(config)
        bits = place_bits(config)
        super().__init__(
            {
                "index": In(INDEX_BITS),
                "decoded": Out(1),
                "leaves": Out(1),
                "number": Out(NUMBER_BITS),
                "setting": In(32),
                "table_address": Out(self._table.bits),
                "table_data": In(32),
                "load": Out(1),
                "first": Out(32),
                "words": Out(bits + 1),
                "writes": Out(1),
                "active": In(1),
                "failed": In(1),
                "settled": In(1),
                "failed_address": In(32),
                "position": In(bits),
                "answered": In(1),
                "word": In(32),
                "record": Out(1),
                "activations": Out(1),
                "weights": Out(1),
                "parameters": Out(1),
                "place": Out(bits),
                "compute": Out(1),
                "compute_done": In(1),
                "finished": Out(1),
                "fault": Out(1),
                "code": Out(CODE_BITS),
                "engine": Out(2),
                "address": Out(32),
                "stop": Out(1),
                "loading": Out(1),
                "storing": Out(1),
                "fetching": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self.opcode, self.destination, self.region = Signal(8), Signal(2), Signal(3)
        self.program = Signal(init=1)  # the row is the next record
        self.offset, self.sum = Signal(33, reset_less=True), Signal(_SUM_BITS, reset_less=True)
        self.buffer_word, self.rows_left = Signal(BUFFER_ADDRESS_BITS + 1, reset_less=True), Signal(16, reset_less=True)
        self.memory = Signal(_SUM_BITS, reset_less=True)
        self.wrong = Signal(CODE_BITS)  # what is wrong with the row, or with the record that was read
        is_load, is_store = self.opcode == Opcode.LOAD, self.opcode == Opcode.STORE
        self.is_load, self.is_store = is_load, is_store
        capture = self.record & (self.position == 0)
        with m.If(capture):
            m.d.sync += [self.opcode.eq(self.word[:8]), self.destination.eq(_bits_of(self.word, "destination")), self.region.eq(_bits_of(self.word, "region"))]
        m.d.comb += [
            self.fetching.eq(self.program),
            self.loading.eq(~self.program & is_load),
            self.storing.eq(~self.program & is_store),
            self.engine.eq(Mux(self.program, SEQUENCER, Mux(is_load, Engine.LOAD, Engine.STORE))),
            self.code.eq(self.wrong),
            self.writes.eq(self.storing),
            self.first.eq(self.memory),
            self.address.eq(self.memory),
        ]
        self.streaming, self.buffer = Signal(), Mux(is_load, self.destination, Buffer.ACTIVATION)
        to = {Buffer.ACTIVATION: self.activations, Buffer.WEIGHT: self.weights, Buffer.PARAMETER: self.parameters}
        arrived = self.streaming & self.answered
        m.d.comb += self.record.eq(arrived & self.program)
        m.d.comb += [flag.eq(arrived & self.loading & (self.destination == buffer)) for buffer, flag in to.items()]
        shift = ceil_log2(RECORD_WORDS_OF_PARAMETERS)
        first = Mux(self.loading & (self.destination == Buffer.PARAMETER), self.buffer_word << shift, self.buffer_word)
        m.d.comb += self.place.eq(first + self.position)
        self._add(m)
        with m.FSM():
            self._begin(m)
            self._check(m)
            self._move(m)
        return m

    def _read(self, field: str) -> Any:
        """Asks for the word of the record that holds the field."""
        return self.table_address.eq(self._table.record + _FIELDS[field].word)

    def _add(self, m: Module) -> None:
        """The one adder of long numbers: `total` = `a` + `b`."""
        self.a, self.b, self.total = (Signal(_SUM_BITS, name=name) for name in ("a", "b", "total"))
        m.d.comb += self.total.eq(self.a + self.b)

    def _begin(self, m: Module) -> None:
        """ENTRY and OFFSET find the next record; DECODE begins its command; PLACE, ROWS and STRIDE read a transfer's first row."""
        entry = Signal(32)
        m.d.comb += entry.eq(Cat(C(0, 7), self.index))
        with m.State("ENTRY"):
            m.d.comb += self.number.eq(number_of("program_entry"))
            m.next = "OFFSET"
        with m.State("OFFSET"):
            m.d.comb += [self.a.eq(entry), self.b.eq(self.setting)]
            m.d.sync += [self.offset.eq(self.total), self.rows_left.eq(1)]
            m.next = "SIZE"
        with m.State("DECODE"):
            m.d.comb += self._read("memory_offset")
            m.d.sync += self.program.eq(0)
            with m.Switch(self.opcode):
                with m.Case(Opcode.END):
                    m.d.comb += [self.decoded.eq(1), self.finished.eq(1)]
                with m.Case(Opcode.LOAD, Opcode.STORE):
                    m.d.comb += self.decoded.eq(1)
                    m.next = "PLACE"
                with m.Case(Opcode.CONV):
                    m.d.comb += [self.decoded.eq(1), self.compute.eq(1)]
                    m.next = "COMPUTE"
                with m.Default():  # once more, for the address
                    m.d.sync += [self.program.eq(1), self.wrong.eq(ErrorCode.UNKNOWN_COMMAND)]
                    m.next = "ENTRY"
        with m.State("COMPUTE"), m.If(self.compute_done):
            m.d.comb += self.leaves.eq(1)
            m.d.sync += self.program.eq(1)
            m.next = "ENTRY"
        with m.State("PLACE"):
            m.d.comb += self._read("buffer_address")
            m.d.sync += self.offset.eq(self.table_data)
            m.next = "ROWS"
        with m.State("ROWS"):
            m.d.comb += self._read("rows")
            m.d.sync += self.buffer_word.eq(_bits_of(self.table_data, "buffer_address"))
            m.next = "STRIDE"
        with m.State("STRIDE"):
            m.d.sync += self.rows_left.eq(_bits_of(self.table_data, "rows"))
            m.next = "SIZE"

    def _check(self, m: Module) -> None:
        """Of a row: SIZE, END, BASE with offsets, ADDRESS, WRAP with addresses, FIT with the buffer's words."""
        self.length = Mux(self.program, COMMAND_BYTES, self.table_data)
        region = Mux(self.program, Region.PROGRAM, self.region)
        low, lasts = Signal(2), Signal()
        outside, misaligned = Signal(), Signal()
        with m.State("SIZE"):
            m.d.comb += [self.number.eq(number_of("program_size") + (region << 2)), self._read("row_bytes")]
            m.next = "END"
        with m.State("END"):
            m.d.comb += [self.a.eq(self.offset), self.b.eq(self.length), self._read("memory_row_stride")]
            m.d.comb += self.number.eq(number_of("program_size") + (region << 2))
            m.d.sync += [self.sum.eq(self.total), self.words.eq(self.length[2:]), low.eq(self.length[:2] | self.offset[:2])]
            m.d.sync += misaligned.eq(~self.length.any() | ~self.rows_left.any())
            m.next = "BASE"
        with m.State("BASE"):
            m.d.comb += self.number.eq(number_of("program_base") + (region << 2))
            m.d.sync += outside.eq((self.sum[2:] > self.setting[2:]) | (region >= len(Region)))
            with m.If(~self.program & self.rows_left[1:].any()):
                m.d.sync += low.eq(low | self.table_data[:2])
            m.next = "ADDRESS"
        with m.State("ADDRESS"):
            m.d.comb += [self.number.eq(number_of("program_base") + (region << 2)), self.a.eq(self.offset), self.b.eq(self.setting)]
            m.d.sync += self.memory.eq(self.total)
            m.next = "WRAP"
        with m.State("WRAP"):
            m.d.comb += [self.a.eq(self.sum), self.b.eq(self.setting), self._read("row_bytes")]
            m.d.sync += [self.sum.eq(self.total), low.eq(low | self.setting[:2])]
            m.next = "FIT"
        with m.State("FIT"):
            wraps = self.sum[33] | (self.sum[32] & self.sum[:32].any())
            shift = Mux(self.buffer == Buffer.PARAMETER, self.buffer_word << 4, self.buffer_word << 2)
            m.d.comb += [self.a.eq(shift), self.b.eq(self.length)]
            m.d.sync += [self.sum.eq(self.total), outside.eq(outside | wraps), lasts.eq(self.rows_left == 1)]
            m.next = "JUDGE"
        self._judge(m, misaligned | low.any(), outside)
        self.last_row = lasts

    def _judge(self, m: Module, misaligned: Value, outside: Value) -> None:
        """JUDGE lets the row pass to the port, or says what is wrong with it: the first that holds."""
        with m.State("JUDGE"):
            unknown = ~self.program & (self.buffer == Buffer.TABLE)
            overrun = unknown | (~self.program & self._beyond(self.sum))
            with m.If(self.wrong.any()):
                m.next = "FAULT"
            with m.Elif(~unknown & misaligned):
                m.d.sync += self.wrong.eq(ErrorCode.ALIGNMENT)
                m.next = "FAULT"
            with m.Elif(~unknown & outside):
                m.d.sync += self.wrong.eq(ErrorCode.REGION)
                m.next = "FAULT"
            with m.Elif(overrun):
                m.d.sync += [self.wrong.eq(ErrorCode.BUFFER), self.memory.eq(self.buffer_word)]
                m.next = "FAULT"
            with m.Else():
                m.d.comb += self.load.eq(1)
                m.next = "MOVE"

    def _beyond(self, end: Value) -> Value:
        """Whether a row that ends before byte `end` of its buffer leaves it. Buffers hold powers of two, so this takes no comparison."""
        sizes = {Buffer.ACTIVATION: self._config.in_lanes, Buffer.WEIGHT: self._config.weight_word_bytes, Buffer.PARAMETER: self._config.parameter_word_bytes}
        beyond: Any = Const(0, 1)
        for buffer, words in buffer_words(self._config).items():
            limit = ceil_log2(words * sizes[buffer])
            beyond = Mux(self.buffer == buffer, end[limit + 1 :].any() | (end[limit] & end[:limit].any()), beyond)
        return beyond

    def _move(self, m: Module) -> None:
        """MOVE waits for the port; STEP and NEXT go to the next row; FAULT tells."""
        with m.State("MOVE"):
            m.d.comb += [self.streaming.eq(1), self._read("memory_row_stride")]
            with m.If(self.failed):
                m.d.sync += self.wrong.eq(Mux(self.storing, ErrorCode.BUS_WRITE, ErrorCode.BUS_READ))
                m.next = "BROKEN"
            with m.Elif(~self.active):
                m.next = "DECODE"
                with m.If(~self.program):
                    m.next = "STEP"
        with m.State("STEP"):
            m.d.comb += [self.a.eq(self.offset), self.b.eq(self.table_data), self._read("buffer_row_stride")]
            m.d.sync += [self.offset.eq(self.total), self.rows_left.eq(self.rows_left - 1)]
            m.next = "NEXT"
        with m.State("NEXT"):
            m.d.sync += self.buffer_word.eq(self.buffer_word + _bits_of(self.table_data, "buffer_row_stride"))
            m.next = "SIZE"
            with m.If(self.last_row):
                m.d.comb += self.leaves.eq(1)
                m.d.sync += self.program.eq(1)
                m.next = "ENTRY"
        with m.State("BROKEN"):
            m.d.comb += self.stop.eq(1)
            with m.If(self.settled):
                m.d.sync += self.memory.eq(self.failed_address)
                m.next = "FAULT"
                with m.If(self.program):  # the record's address, not the word's
                    m.next = "ENTRY"
        with m.State("FAULT"):
            m.d.comb += self.fault.eq(1)
