"""The emitted tree: compiled strictly, run on its known answers, with hostile names, large tables and several models in one image."""

import functools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_support import SANITIZE, compile_c, firmware_input, hardware_for, make, run, sources, two_ended_graph, write
from random_graphs import random_graph, with_wide_weights

from hwgen.arith import Rounding
from hwgen.emit import firmware_tables
from hwgen.emit.firmware import FirmwareInput, emit_firmware
from hwgen.emit.firmware_answers import KnownAnswer
from hwgen.errors import ConfigError, DataError, ModelError
from hwgen.ir.graph import Graph
from hwgen.ops.conv import Conv

CASES = [(seed, bits, rounding) for seed, (bits, rounding) in enumerate((b, r) for b in (16, 8, 0, 24, 16, 12) for r in Rounding)]


@functools.cache
def example() -> FirmwareInput:
    """Holds convolutions."""
    return firmware_input(random_graph(1))


def selftest(source: FirmwareInput, folder: Path, flags: str) -> subprocess.CompletedProcess[str]:
    write(emit_firmware(source), folder)
    return run(compile_c(folder, "t", *sources(folder), f"test/{source.prefix}_selftest.c", flags=flags))


@pytest.mark.parametrize(("seed", "bits", "rounding"), CASES)
def test_reference_equals_golden_in_every_layer(seed: int, bits: int, rounding: Rounding, tmp_path: Path) -> None:
    new = dict.fromkeys(("tables", "moves", "gaps"), seed % 2 == 0)
    source = firmware_input(random_graph(100 + seed, nodes=6, multiplier_bits=bits, rounding=rounding, **new), seed=seed)
    result = selftest(source, tmp_path, SANITIZE)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    assert result.stdout == f"random: 2 known answers, {len(source.graph.nodes)} layers: ok\n"


def test_reference_of_weights_of_nine_bits(tmp_path: Path) -> None:
    def forms(graph: Graph) -> set[bool]:
        return {node.op.is_lane_wise for node in graph.nodes if isinstance(node.op, Conv)}

    graph = next(graph for graph in map(random_graph, range(100)) if forms(graph) == {True, False})
    result = selftest(firmware_input(with_wide_weights(graph)), tmp_path, SANITIZE)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr


def test_reference_of_biases_with_a_fraction(tmp_path: Path) -> None:
    graph = random_graph(101, nodes=6)
    finer = [replace(node, op=replace(node.op, bias_fraction=9)) if isinstance(node.op, Conv) else node for node in graph.nodes]
    result = selftest(firmware_input(replace(graph, nodes=tuple(finer))), tmp_path, SANITIZE)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    result = selftest(firmware_input(two_ended_graph()), tmp_path, SANITIZE)
    assert result.stdout == "two_ends: 2 known answers, 1 layers: ok\n", result.stdout + result.stderr


def test_make_test_builds_and_passes(tmp_path: Path) -> None:
    folder = write(emit_firmware(example()), tmp_path)
    result = make(folder, "test")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines() == ["npu_driver_test: ok", f"random: 2 known answers, {len(example().graph.nodes)} layers: ok"]


def test_wrong_answer_names_layer_and_vector(tmp_path: Path) -> None:
    source = example()
    values = dict(source.answers[1].values)
    node = source.graph.nodes[1]
    values[node.output] = values[node.output] ^ np.int8(1)
    source = replace(source, answers=(source.answers[0], KnownAnswer(values=values)))
    result = selftest(source, tmp_path, "-O1")
    assert result.returncode == 1
    assert re.search(rf"random: vector 1, layer 1 \({node.name}\): CRC [0-9a-f]{{8}}, expected [0-9a-f]{{8}}\n", result.stdout)
    assert result.stdout.count("expected") == 1
    assert result.stdout.endswith("layers: FAILED\n")


def test_wrong_weight_in_the_reference_is_found(tmp_path: Path) -> None:
    source = example()
    folder = write(emit_firmware(source), tmp_path)
    table = folder / "src" / "random_reference_weights.c"
    text = table.read_text()
    first = re.search(r"\{\n    (-?\d+),", text)
    assert first is not None
    table.write_text(text.replace(first[0], f"{{\n    {1 if first[1] == '-128' else -128},", 1))
    result = run(compile_c(folder, "t", *sources(folder), "test/random_selftest.c", flags="-O1"))
    assert result.returncode == 1
    assert "layer" in result.stdout


def test_same_network_gives_the_same_bytes() -> None:
    first, second = emit_firmware(firmware_input(random_graph(5))), emit_firmware(firmware_input(random_graph(5)))
    assert list(first.items()) == list(second.items())
    assert list(first) == sorted(first)


def test_files_hold_no_place_and_end_with_a_newline() -> None:
    for name, content in emit_firmware(example()).items():
        text = content.decode("ascii")
        assert text.endswith("\n") and "\n\n\n\n" not in text, name
        assert str(Path.cwd()) not in text


HOSTILE = ["*/ int x; /*", 'a"; system("x', "x\n#error no", "int", "", "日本", "back\\", "??/", "bytes", "BYTES", "%s%n", "a b", "a_b", "//", "#include"]


def hostile(graph: Graph) -> Graph:
    """The same network with every name hostile, and different names that look alike after sanitizing."""
    values = {name: f"{HOSTILE[k % len(HOSTILE)]}{' ' * k}" for k, name in enumerate(graph.values)}
    nodes = tuple(
        replace(node, name=HOSTILE[k % len(HOSTILE)], inputs=tuple(values[i] for i in node.inputs), output=values[node.output])
        for k, node in enumerate(graph.nodes)
    )
    return replace(
        graph,
        name='*/ {{ 7*7 }} "x" \n',
        nodes=nodes,
        values={values[name]: replace(value, name=values[name]) for name, value in graph.values.items()},
        inputs=tuple(replace(entry, name="bytes", value=values[entry.value]) for entry in graph.inputs),
        outputs=tuple(replace(entry, name=HOSTILE[k % len(HOSTILE)], value=values[entry.value]) for k, entry in enumerate(graph.outputs)),
    )


@pytest.mark.parametrize("seed", [3, 11])
def test_injected_names(seed: int, tmp_path: Path) -> None:
    """`*/`, quotes, newlines, keywords, names that collide after sanitizing."""
    graph = hostile(random_graph(seed, nodes=8))
    source = firmware_input(graph, config=replace(hardware_for(graph), name='*/ "x'))
    result = selftest(source, tmp_path, "-O1 -Wcomment -Wtrigraphs -Wformat=2")
    assert result.returncode == 0, result.stdout
    text = (tmp_path / "include" / f"{source.prefix}_model.h").read_text()
    assert "a_; system(_x" in text  # as a comment
    assert text.startswith("/* _/ __ 7_7 __ _x_ _: sizes")  # and never read as a template


def test_headers_work_in_cpp(tmp_path: Path) -> None:
    if not shutil.which("g++"):
        pytest.skip("g++ is needed")
    folder = write(emit_firmware(example()), tmp_path)
    headers = [path.name for part in ("include", "port") for path in sorted((folder / part).glob("*.h"))]
    (folder / "all.cpp").write_text("".join(f'#include "{name}"\n' for name in headers))
    command = "g++ -std=c++11 -Wall -Wextra -Wpedantic -Wconversion -Werror -fsyntax-only -Iinclude -Iport all.cpp"
    result = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def test_several_models_in_one_image(tmp_path: Path) -> None:
    first, second = firmware_input(random_graph(7), prefix="one"), firmware_input(random_graph(8), prefix="two")
    write(emit_firmware(first), tmp_path)
    write(emit_firmware(second), tmp_path)
    (tmp_path / "src" / "main.c").write_text(
        '#include "one_kat.h"\n#include "two_kat.h"\nint main(void)\n{\n'
        "    const int sizes = one_model.program_bytes == ONE_PROGRAM_BYTES && two_model.program_bytes == TWO_PROGRAM_BYTES;\n"
        "    return sizes && &one_selftest != &two_selftest ? 0 : 1;\n}\n"
    )
    assert run(compile_c(tmp_path, "t", *sources(tmp_path), flags="-O0")).returncode == 0


def test_large_tables_are_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware_tables, "BINARY_FROM_BYTES", 64)
    source = example()
    files = emit_firmware(source)
    assert files["src/random_weights.bin"] == source.weights
    assert files["src/random_program.bin"] == source.program
    assert "src/random_weights.c" not in files
    result = make(write(files, tmp_path), "test")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("limit", [64, 1 << 20], ids=["binary", "text"])
def test_tables_are_aligned_to_the_bus(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms, each behind a table of odd size."""
    monkeypatch.setattr(firmware_tables, "BINARY_FROM_BYTES", limit)
    source = example()
    assert source.config.bus_bytes > 4
    folder = write(emit_firmware(replace(source, prefix="p", program=source.program + b"x", weights=source.weights + b"x")), tmp_path)
    (folder / "src" / "main.c").write_text(
        '#include "p_model.h"\nint main(void)\n{\n    return (int)(((uintptr_t)p_model.program | (uintptr_t)p_model.weights) & (P_BUS_BYTES - 1));\n}\n'
    )
    assert run(compile_c(folder, "t", *sources(folder), flags="-O1")).returncode == 0


def test_tables_above_the_limit_only_are_binary() -> None:
    limit = firmware_tables.BINARY_FROM_BYTES
    assert list(firmware_tables.table_files("t", bytes(limit), alignment=16)) == ["src/t.c"]
    assert list(firmware_tables.table_files("t", bytes(limit + 1), alignment=16)) == ["src/t.S", "src/t.bin"]


def test_prefix_is_settable_and_checked() -> None:
    assert "include/my_net_model.h" in emit_firmware(replace(example(), prefix="my_net"))
    with pytest.raises(ConfigError, match="prefix 'my net': must be a lower-case C identifier"):
        emit_firmware(replace(example(), prefix="my net"))


def test_empty_network_is_refused() -> None:
    source = example()
    with pytest.raises(ModelError, match="network 'random': must have at least one layer to make firmware of"):
        emit_firmware(replace(source, graph=replace(source.graph, nodes=())))


def test_known_answers_must_fit() -> None:
    source = example()
    with pytest.raises(DataError, match="known answers: at least one vector is needed to test the firmware; give inputs"):
        emit_firmware(replace(source, answers=()))
    with pytest.raises(DataError, match="known answer: must hold value 'v0'; run the golden model with every value kept"):
        emit_firmware(replace(source, answers=(KnownAnswer(values={}),)))
    values = {name: array[..., :-1] for name, array in source.answers[0].values.items()}
    with pytest.raises(DataError, match=r"known answer: value 'v0' must be int8 of shape \(.*\), not int8 of shape \("):
        emit_firmware(replace(source, answers=(KnownAnswer(values=values),)))


@pytest.mark.parametrize("resident", [True, False])
def test_known_answers_hold_for_every_program(resident: bool, tmp_path: Path) -> None:
    """The self-test counts the runs of each: one cold and two resident ones, or two cold ones."""
    source = example() if resident else replace(example(), resident_entry=None)
    assert (source.resident_entry is not None) == resident
    result = selftest(source, tmp_path, SANITIZE)
    assert (result.returncode, result.stdout) == (0, f"random: 2 known answers, {len(example().graph.nodes)} layers: ok\n")
    entry = f"UINT32_C({source.resident_entry})" if resident else "NPU_NO_ENTRY"
    assert f"    .resident_entry = {entry},\n" in (tmp_path / "src/random_model.c").read_text()


@pytest.mark.parametrize("arena_bytes", [0, 100])
def test_buffers_come_aligned_where_the_user_wants_them(arena_bytes: int, tmp_path: Path) -> None:
    folder = write(emit_firmware(replace(example(), prefix="p", arena_bytes=arena_bytes)), tmp_path)
    (folder / "src" / "main.c").write_text(
        '#include "p_buffers.h"\n#include "p_config.h"\n#include <stddef.h>\nextern char __start_dma[], __stop_dma[];\nint main(void)\n{\n'
        "    const char *input = p_memory.input, *output = p_memory.output, *arena = p_memory.arena;\n"
        "    const int inside = input >= __start_dma && output >= __start_dma && input < __stop_dma && output < __stop_dma;\n"
        "    const int arena_is_right = P_ARENA_BYTES == 0 ? arena == NULL : arena >= __start_dma && arena < __stop_dma && (uintptr_t)arena % 512 == 0;\n"
        "    return inside && arena_is_right && ((uintptr_t)input | (uintptr_t)output) % 512 == 0 ? 0 : 1;\n}\n"
    )
    place = '-DP_BUFFER_PLACE=__attribute__((section("dma"))) -DP_BUFFER_ALIGNMENT=512'
    assert run(compile_c(folder, "t", *sources(folder), flags=f"-O1 {place}")).returncode == 0


def test_weights_overwritten_between_runs_are_noticed(tmp_path: Path) -> None:
    folder = write(emit_firmware(example()), tmp_path)
    program = folder / "test/random_selftest.c"
    text = program.read_text()
    assert text.count("m->weights_held = 1;") == 1
    program.write_text(text.replace("m->weights_held = 1;", "m->weights_held = 0;"))
    result = run(compile_c(folder, "t", *sources(folder), "test/random_selftest.c", flags="-O1"))
    assert result.returncode == 1
    assert "random: driver: a result differs from its known answer\n" in result.stdout
