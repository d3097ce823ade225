"""Random hardware x random networks: golden = Verilog word by word, predicted = measured cycles. One seed is one accelerator and its networks.

    python tests/random_hardware.py [--first SEED] [--count N] [--processes P]     the long run: `make regress` does 200

Each process has a cache of its own and deletes the simulation after each seed. A seed that fails is printed as the command that
repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace

from random_graphs import random_graph, with_few_bits
from system_support import check_on_rtl, render

from hwgen.arith import MULTIPLIER_BITS, Rounding
from hwgen.cache import cache_root
from hwgen.config import ACTIVATION_TABLES, PRESETS, WINDOW_TAPS, Bus, HardwareConfig
from hwgen.cosim.job import MemoryModel
from hwgen.errors import CapacityError, ConfigError
from hwgen.schedule.compile import compile_network

MOST_MULTIPLIERS = 256  # compiles in half a minute
NETWORKS = 30  # per accelerator; some do not fit
SERIAL_SEEDS = 8  # one of so many is a serial machine


def random_hardware(seed: int, most_multipliers: int = MOST_MULTIPLIERS) -> HardwareConfig:
    """Any legal accelerator of at most so many multipliers; every parameter is drawn, the legal combinations are kept."""
    r, options = random.Random(seed), random.Random(f"options {seed}")
    if seed % SERIAL_SEEDS == SERIAL_SEEDS - 1:
        return _random_serial(seed, r, options)
    while True:
        out_lanes, in_lanes = 1 << r.randint(0, 5), 1 << r.randint(2, 5)
        with contextlib.suppress(ConfigError):
            config = HardwareConfig(
                name=f"random {seed}",
                out_lanes=out_lanes,
                in_lanes=in_lanes,
                activation_words=1 << r.randint(9, 13) if in_lanes > 8 else 1 << r.randint(11, 15),
                weight_words=1 << r.randint(7, 12),
                parameter_words=1 << r.randint(4, 10),
                accumulator_depth=1 << r.randint(3, 9),
                accumulator_bits=r.choice([24, 27, 30, 32, 32]),
                requantize_lanes=1 << r.randint(0, 5),
                window_taps=r.choice(WINDOW_TAPS),
                multiplier_bits=r.choice(MULTIPLIER_BITS),
                rounding=r.choice(list(Rounding)),
                bus=r.choice(list(Bus)),
                bus_bits=r.choice([32, 64, 128, 256]),
                address_bits=r.randint(32, 64),
                watchdog_bits=r.randint(8, 32),
                counters=r.random() < 0.7,
                activation_tables=options.choice(ACTIVATION_TABLES),
                output_gaps=options.random() < 0.5,
                weight_decoder=options.random() < 0.6,
            )
            if config.multipliers <= most_multipliers:
                return config


def _random_serial(seed: int, r: random.Random, options: random.Random) -> HardwareConfig:
    return replace(
        PRESETS["up5k"],
        name=f"random {seed}",
        activation_words=1 << r.randint(10, 15),
        weight_words=1 << r.randint(7, 12),
        parameter_words=1 << r.randint(4, 10),
        accumulator_depth=1 << r.randint(3, 9),
        accumulator_bits=r.choice([24, 27, 30, 32, 32]),
        multiplier_bits=r.choice([8, 10, 12, 16]),
        rounding=r.choice(list(Rounding)),
        output_gaps=options.random() < 0.5,
    )


def random_memory(r: random.Random) -> MemoryModel:
    """Half of them ideal but for their latency: there the cycles are predicted."""
    return MemoryModel(
        latency_cycles=r.choice([1, 1, 2, 9, 25]),
        stall_probability=r.choice([0.0, 0.0, 0.2, 0.6]),
        seed=r.randint(1, 1000),
        aligned=r.random() < 0.7,
    )


def check_network(config: HardwareConfig, seed: int, memory: MemoryModel, *, optimized: bool = True) -> int | None:
    """Cycles of the first inference; None where the network does not fit. Raises when anything differs."""
    new = {"tables": config.activation_tables > 0, "moves": seed % 2 == 1, "gaps": config.output_gaps}
    graph = random_graph(seed, multiplier_bits=config.multiplier_bits, rounding=config.rounding, **new)
    if config.weight_decoder:
        graph = with_few_bits(graph, seed)
    try:
        network = compile_network(graph, config)
    except CapacityError:
        return None
    return check_on_rtl(network, memory, optimized=optimized)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    seed: int
    config: HardwareConfig
    ran: int  # networks that fit
    seconds: float
    failure: str  # "" where everything agrees


def check_hardware(seed: int, most_multipliers: int = MOST_MULTIPLIERS, networks: int = NETWORKS) -> Outcome:
    """All networks of a seed on its accelerator; stops at the first that differs. They simulate in less time than optimizing would take."""
    config, r, ran, start = random_hardware(seed, most_multipliers), random.Random(seed), 0, time.perf_counter()
    failure = ""
    for k in range(networks):
        memory = random_memory(r)
        try:
            ran += check_network(config, 1000 * seed + k, memory, optimized=False) is not None
        except Exception:
            failure = f"network {1000 * seed + k}, {memory}\n{config}\n{traceback.format_exc()}"
            break
    return Outcome(seed=seed, config=config, ran=ran, seconds=time.perf_counter() - start, failure=failure)


def _own_cache(folder: str) -> None:
    """Of this process, where only what all accelerators share is kept from seed to seed."""
    os.environ["HWGEN_CACHE"] = tempfile.mkdtemp(dir=folder)


def _check_and_forget(seed: int) -> Outcome:
    try:
        return check_hardware(seed)
    finally:
        render.cache_clear()
        for kind in ("simulations", "verilog"):
            shutil.rmtree(cache_root() / kind, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Random hardware x random networks on the emitted Verilog.")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=200, help="number of seeds")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at once")
    options = parser.parse_args()
    failed, ran = [], 0
    with tempfile.TemporaryDirectory(prefix="hwgen-regress-") as folder, ProcessPoolExecutor(options.processes, None, _own_cache, (folder,)) as pool:
        jobs = [pool.submit(_check_and_forget, seed) for seed in range(options.first, options.first + options.count)]
        for number, job in enumerate(as_completed(jobs), 1):
            outcome = job.result()
            ran += outcome.ran
            array = f"{outcome.config.out_lanes}x{outcome.config.in_lanes} {outcome.config.bus.value}"
            verdict = "FAILED" if outcome.failure else f"{outcome.ran} networks agree"
            print(f"{number}/{options.count} seed {outcome.seed}: {array}, {verdict}, {outcome.seconds:.0f} s", flush=True)
            if outcome.failure:
                failed.append(outcome.seed)
                print(outcome.failure, flush=True)
    print(f"{options.count - len(failed)} of {options.count} accelerators agree, {ran} networks")
    for seed in failed:
        print(f"repeat with: python tests/random_hardware.py --first {seed} --count 1")
    return bool(failed) or ran < options.count


if __name__ == "__main__":
    sys.exit(main())
