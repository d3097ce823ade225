"""What cocotb does in tools/compare_cocotb.py: nothing, until the bench has finished. Speed goes to the file speed.txt."""

from __future__ import annotations

import time
from pathlib import Path

import cocotb
from cocotb.handle import SimHandleBase
from cocotb.triggers import RisingEdge


@cocotb.test()
async def until_finished(dut: SimHandleBase) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    await RisingEdge(dut.finished)
    Path("speed.txt").write_text(f"{time.perf_counter() - wall} {time.process_time() - cpu}")
