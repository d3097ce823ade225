"""The instruction-level simulator: three engines, their queues and tokens, in any order that the tokens allow."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hwgen.errors import ModelError
from hwgen.isa.execute import run_conv, run_load, run_store
from hwgen.isa.fields import COMMAND_BYTES, TOKEN_LIMIT, Engine, Region
from hwgen.isa.instructions import Command, Conv, End, Load, Store
from hwgen.isa.machine import Memories, ProgramError
from hwgen.isa.program import decode_command
from hwgen.isa.registers import ErrorCode


@dataclass
class _State:
    queues: dict[Engine, deque[tuple[int, Command]]] = field(default_factory=lambda: {engine: deque() for engine in Engine})
    tokens: dict[tuple[Engine, Engine], int] = field(default_factory=lambda: {(a, b): 0 for a in Engine for b in Engine})


def simulate(memories: Memories, entry: int = 0, *, queue_depth: int = 1, seed: int | None = None, after: Callable[[int, Command], None] | None = None) -> int:
    """Run the program that lies in the PROGRAM region from byte `entry` until END; returns the number of commands.

    `seed` picks another legal interleaving of the engines (None: engines in their order, as early as possible): a program whose
    result depends on it lacks a token. `after(index, command)` is called when a command is done.
    Raises ProgramError where the hardware would stop with an error, and for a deadlock (there: the watchdog).
    """
    state, position = _State(), 0
    chooser = random.Random(seed)
    program = memories.regions[Region.PROGRAM]
    while True:
        choices = [engine for engine in Engine if _ready(state, engine)]
        fetched = _fetch(program, entry, position)
        can_dispatch = fetched.engine is None or len(state.queues[fetched.engine]) < queue_depth
        if isinstance(fetched, End):
            if not any(state.queues.values()):
                return position + 1
            can_dispatch = False
        if can_dispatch and (not choices or seed is None or chooser.random() < 0.5):
            assert fetched.engine is not None
            state.queues[fetched.engine].append((position, fetched))
            position += 1
        elif choices:
            _execute(state, choices[0] if seed is None else chooser.choice(choices), memories, after)
        else:
            raise ProgramError(ErrorCode.WATCHDOG, position, 0, "no engine can go on: tokens that nobody gives are awaited")


def _fetch(program: npt.NDArray[np.uint8], entry: int, position: int) -> Command:
    first = entry + position * COMMAND_BYTES
    record = program[first : first + COMMAND_BYTES].tobytes()
    if len(record) < COMMAND_BYTES:
        raise ProgramError(ErrorCode.REGION, position, first, "the program ends without END")
    try:
        return decode_command(record)
    except ModelError as error:
        raise ProgramError(ErrorCode.UNKNOWN_COMMAND, position, first, str(error)) from error


def _ready(state: _State, engine: Engine) -> bool:
    return bool(state.queues[engine]) and all(state.tokens[(other, engine)] for other in state.queues[engine][0][1].waits)


def _execute(state: _State, engine: Engine, memories: Memories, after: Callable[[int, Command], None] | None) -> None:
    index, command = state.queues[engine].popleft()
    for other in command.waits:
        state.tokens[(other, engine)] -= 1
    if isinstance(command, Load):
        run_load(command, index, memories)
    elif isinstance(command, Store):
        run_store(command, index, memories)
    elif isinstance(command, Conv):
        run_conv(command, memories)
    for other in command.signals:
        state.tokens[(engine, other)] += 1
        if state.tokens[(engine, other)] > TOKEN_LIMIT:
            raise ProgramError(ErrorCode.TOKENS, index, 0, f"the {engine.name.lower()} engine gives more than {TOKEN_LIMIT} tokens that nobody takes")
    if after:
        after(index, command)
