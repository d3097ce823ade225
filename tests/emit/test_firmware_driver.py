"""The driver against the register model, sanitized; and faults planted in the driver, each of which its tests must find."""

import functools
from pathlib import Path

import pytest
from firmware_support import SANITIZE, compile_c, firmware_input, run, write
from random_graphs import random_graph

from hwgen.emit.firmware import emit_firmware

DRIVER = ("test/npu_driver_test.c", "src/npu.c", "src/npu_crc.c", "port/npu_mock.c")


@functools.cache
def files() -> dict[str, bytes]:
    return emit_firmware(firmware_input(random_graph(2)))


def test_driver_passes_its_tests_under_sanitizers(tmp_path: Path) -> None:
    result = run(compile_c(write(files(), tmp_path), "t", *DRIVER, flags=SANITIZE))
    assert (result.returncode, result.stdout) == (0, "npu_driver_test: ok\n"), result.stdout + result.stderr


PLANTED = {
    "lost_wake_up": ("if (device->event == 0) {", "if (device->event < 2) {"),
    "sleep_without_lock": ("    device->port.lock(device->port.context);\n", "    device->port.unlock(device->port.context);\n"),
    "cache_never_invalidated": ("    invalidate(device, device->memory.output, device->model->output_bytes);\n", "    (void)invalidate;\n"),
    "input_not_cleaned": ("    clean(device, device->memory.input, device->model->input_bytes);\n", ""),
    "address_truncated": ("(uint32_t)(bus >> 32)", "(uint32_t)(bus >> 63)"),
    "address_beyond_the_bus_accepted": ("(bus + size - 1) >> model->address_bits != 0", "bus >> 63 > 1"),
    "wait_without_clock_limit": ("    wait->looks--;\n", ""),
    "no_abort_after_timeout": ("    (void)npu_abort(device);\n    return NPU_ERROR_TIMEOUT;", "    return NPU_ERROR_TIMEOUT;"),
    "start_while_the_bus_hangs": ("return NPU_BUSY; /* an earlier run was aborted, and the bus still holds it */", "(void)0;"),
    "weights_not_checked": ("return npu_crc32(0, model->weights, model->weights_bytes) == model->weights_crc", "return 1"),
    "stale_error": ("    memset(&device->error, 0, sizeof device->error);\n", ""),
    "image_of_another_endianness": (" || model->endian_tag != NPU_ENDIAN_TAG", ""),
    "weights_kept_after_a_failure_or_reset": ("device->weights_kept != 0 && (status & NPU_STATUS_DONE_MASK) != 0", "device->weights_kept != 0 && status < 99"),
    "weights_of_the_model_before": ("    device->weights_kept = 0;\n    status = check_header", "    status = check_header"),
    "weights_never_kept": ("    device->weights_kept = 1;\n", ""),
    "processor_left_out": ("        device->model->process(device->phase, &device->memory);\n", ""),
    "processor_reads_stale_memory": ("        invalidate(device, device->memory.arena, device->model->arena_bytes);\n", ""),
    "phase_not_counted": ("        device->phase++;\n", "        device->phase = 2;\n"),
    "phases_go_on_after_an_abort": ("    device->phase = 0;\n", ""),
    "hardware_of_another_model": ("return model->config_hash == rd(device, NPU_REG_CONFIG_HASH)", "return 1"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault_is_found(fault: str, tmp_path: Path) -> None:
    folder = write(files(), tmp_path)
    original, changed = PLANTED[fault]
    text = (folder / "src/npu.c").read_text()
    assert text.count(original) == 1
    text = text.replace(original, changed).replace("static int check_header(", "int check_header(const npu_device *, const npu_model *);\nint check_header(")
    # A wait that never ends must not stop the tests: the register model gives up instead.
    mock = (folder / "port/npu_mock.c").read_text().replace("    mock->reads++;\n", "    mock->reads++;\n    if (mock->reads > 1000000) { abort(); }\n")
    (folder / "src/npu.c").write_text(text)
    (folder / "port/npu_mock.c").write_text(mock.replace("#include <stddef.h>", "#include <stddef.h>\n#include <stdlib.h>"))
    assert run(compile_c(folder, "t", *DRIVER, flags="-O1 -Wno-unused-parameter")).returncode != 0


def test_driver_uses_no_allocation_no_stdio_and_no_globals() -> None:
    for name in ("src/npu.c", "src/npu_crc.c", "src/npu_tensor.c"):
        text = files()[name].decode()
        assert not any(word in text for word in ("malloc", "free(", "printf", "<stdio.h>", "<stdlib.h>"))
        top_level = [line for line in text.splitlines() if line and not line.startswith((" ", "#", "/", "}", "{", "typedef", "enum", "\t"))]
        assert all("(" in line for line in top_level), top_level
