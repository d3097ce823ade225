"""`synth`: what the emitted Verilog takes of a device, and how fast it runs there, by yosys and nextpnr; into the report of the folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hwgen.build import VERILOG
from hwgen.errors import ConfigError
from hwgen.output import check_files, read_manifest
from hwgen.progress import Progress, Silent
from hwgen.report.collect import Json
from hwgen.report.synthesis import with_synthesis
from hwgen.synth.devices import DEVICES
from hwgen.synth.flow import Synthesis, synthesize
from hwgen.synth.request import SynthesisRequest
from hwgen.verify import read_report, write_report

DEFAULT_MHZ = 100.0
_MOST_MHZ = 1000.0
_MOST_TRIES = 100
_PIN = re.compile("[A-Z]{0,2}[0-9]{1,2}")


@dataclass(frozen=True, kw_only=True)
class SynthRequest:
    """`out`: a folder made by build. `device`: a name in DEVICES, `grade` one of its speed grades, None the usual one. `blocks`: count every
    block of the accelerator apart. `seed`: of the placer, None its usual one; so many `tries` from there on. `clock_pin`: where the board has
    the clock, None anywhere."""

    out: Path
    device: str
    frequency_mhz: float = DEFAULT_MHZ
    blocks: bool = False
    grade: int | None = None
    seed: int | None = None
    tries: int = 1
    clock_pin: str | None = None


def synth(request: SynthRequest, *, progress: Progress | None = None) -> tuple[Json, Synthesis]:
    """Synthesize OUT's Verilog; rewrites OUT/report, when all is done. Returns the report and what was found.

    Raises ConfigError, OutputError, MismatchError (files changed after the build), CapacityError (does not fit), ToolError.
    """
    if request.device not in DEVICES:
        raise ConfigError(f"device {request.device!r}: must be one of {', '.join(DEVICES)}")
    if not 1 <= request.frequency_mhz <= _MOST_MHZ:
        raise ConfigError(f"frequency: must be from 1 to {_MOST_MHZ:g} MHz, not {request.frequency_mhz:g}")
    if request.seed is not None and request.seed < 1:
        raise ConfigError(f"seed: must be 1 or more, not {request.seed}")
    if not 1 <= request.tries <= _MOST_TRIES:
        raise ConfigError(f"tries: must be from 1 to {_MOST_TRIES}, not {request.tries}")
    if request.clock_pin is not None and not _PIN.fullmatch(request.clock_pin):
        raise ConfigError(f"clock pin: must be a pin of the package, such as C17 or 35, not {request.clock_pin!r}")
    if request.clock_pin is not None and DEVICES[request.device].place_tool is None:
        raise ConfigError(f"clock pin: must be left out for {request.device}, which is not placed")
    device = DEVICES[request.device] if request.grade is None else DEVICES[request.device].of_grade(request.grade)
    progress = progress or Silent()
    progress.stage("read the folder")
    manifest = read_manifest(request.out)
    report = read_report(request.out)
    check_files(request.out, manifest)
    found = synthesize(
        SynthesisRequest(
            verilog=(request.out / VERILOG).read_text(encoding="utf-8"),
            config=manifest.hardware,
            device=device,
            frequency_mhz=request.frequency_mhz,
            blocks=request.blocks,
            seed=request.seed,
            tries=request.tries,
            clock_pin=request.clock_pin,
        ),
        progress.stage,
    )
    report = with_synthesis(report, found)
    write_report(request.out, report)
    return report, found
