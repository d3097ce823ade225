"""Where the C packing puts every byte of a region, against hwgen.layout."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
from firmware_support import compile_c, firmware_input, two_ended_graph, write
from random_graphs import random_graph

from hwgen.emit.firmware import FirmwareInput, emit_firmware
from hwgen.layout import PackedLayout
from hwgen.schedule.homes import HostTensor


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


class Library:
    """npu_pack and npu_unpack with the tensor descriptions of one network."""

    def __init__(self, source: FirmwareInput, folder: Path) -> None:
        write(emit_firmware(source), folder)
        (folder / "src/at.c").write_text(
            f'#include "{source.prefix}_model.h"\nconst npu_tensor *at(int output, int k);\n'
            f"const npu_tensor *at(int output, int k)\n{{\n    return output ? &{source.prefix}_outputs[k] : &{source.prefix}_inputs[k];\n}}\n"
        )
        names = ["src/at.c", "src/npu_tensor.c", *(f"src/{source.prefix}_{part}.c" for part in ("model", "program", "weights"))]
        self.c = ctypes.CDLL(str(compile_c(folder, "t.so", *names, flags="-O1 -shared -fPIC")))
        self.c.at.restype = ctypes.c_void_p

    def check(self, tensor: HostTensor, output: bool, index: int, region_bytes: int) -> None:
        rng = np.random.default_rng(index)
        q = rng.integers(-128, 128, (1, tensor.layout.height, tensor.layout.width, self.channels(tensor))).astype(np.int8)
        expected = np.full(region_bytes, 0x5A, np.int8)
        expected[tensor.offset : tensor.offset + tensor.size_bytes] = tensor.layout.pack(q)[0]
        region = np.full(region_bytes, 0x5A, np.int8)
        description = ctypes.c_void_p(self.c.at(int(output), index))
        self.c.npu_pack(description, pointer(q), pointer(region))
        np.testing.assert_array_equal(region, expected)
        back = np.zeros_like(q)
        self.c.npu_unpack(description, pointer(region), pointer(back))
        np.testing.assert_array_equal(back, tensor.layout.unpack(expected[tensor.offset :][: tensor.size_bytes][None]))

    @staticmethod
    def channels(tensor: HostTensor) -> int:
        return tensor.layout.channels if isinstance(tensor.layout, PackedLayout) else len(tensor.layout.positions)


def check_all(source: FirmwareInput, folder: Path) -> list[HostTensor]:
    library = Library(source, folder)
    for output, tensors in ((False, source.inputs), (True, source.outputs)):
        region_bytes = max(tensor.offset + tensor.size_bytes for tensor in tensors) + 8
        for index, tensor in enumerate(tensors):
            library.check(tensor, output, index, region_bytes)
    return [*source.inputs, *source.outputs]


def test_several_tensors_of_one_region(tmp_path: Path) -> None:
    assert len(check_all(firmware_input(two_ended_graph()), tmp_path)) == 5


def kind_of(tensor: HostTensor) -> str:
    if not isinstance(tensor.layout, PackedLayout):
        return "blocked"
    return "folded" if tensor.layout.fold else "packed"


@pytest.mark.parametrize("kind", ["blocked", "packed", "folded"])
def test_every_kind_of_layout(kind: str, tmp_path: Path) -> None:
    found = 0
    for seed in range(300):
        source = firmware_input(random_graph(seed))
        if kind_of(source.inputs[0]) == kind and len(source.outputs) > (kind != "packed"):
            check_all(source, tmp_path / str(seed))
            found += 1
            if found == 3:
                return
    pytest.fail(f"too few {kind} inputs: {found}")
