"""Reading model files that nobody vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import feeds_of, model, node, normal
from openset_support import session

from hwgen.errors import ModelError
from hwgen.frontend.onnx import check_model, import_model, is_quantized_model, load_float_graph, load_model
from hwgen.ir.evaluate import evaluate
from hwgen.optimize import optimize

X = {"x": ["N", 4, 6, 5]}
NODES = [node("Conv", ["x", "w"], "h"), node("Relu", ["h"], "y")]
WEIGHT = normal(3, 4, 3, 3)


def sound(**changes: Any) -> onnx.ModelProto:
    return model(NODES, X, {"w": changes.pop("weight", WEIGHT)}, **changes)


def saved(folder: Path, proto: onnx.ModelProto) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def failure(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_float_graph(path)
    return str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    assert failure(tmp_path / "none.onnx") == "model 'none.onnx': cannot be read (No such file or directory); name an .onnx file"


def test_folder_instead_of_file(tmp_path: Path) -> None:
    assert "cannot be read (Is a directory)" in failure(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path, sound())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert failure(path) == "model 'net.onnx': is truncated or not an ONNX model; export or copy it again"


@pytest.mark.parametrize("content", [b"", b"\x08\x08", b"%PDF-1.4 not a model", b"\x00" * 100])
def test_not_a_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert "not an ONNX model" in failure(path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = saved(tmp_path, sound())
    path.write_bytes(path.read_bytes().replace(b"Conv", b"C\xffnv"))
    assert failure(path) == "model 'net.onnx': names must be UTF-8 text; the file is damaged, export or copy it again"


def test_file_above_2_gib(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as stream:
        stream.truncate(1 << 31)
    assert failure(path) == "model 'net.onnx': must be below 2 GiB, not 2147483648 bytes; keep large weights in external data"


@pytest.mark.parametrize("opset", [6, 99])
def test_opset_out_of_range(opset: int) -> None:
    with pytest.raises(ModelError, match=rf"model 'net': opset must be from 7 to \d+, not {opset}; export the model with one of these"):
        check_model(sound(opset=opset), "net")


def test_no_opset() -> None:
    proto = sound()
    del proto.opset_import[:]
    with pytest.raises(ModelError, match="model 'net': must import ONNX's own operators"):
        check_model(proto, "net")


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23])
def test_every_opset(opset: int) -> None:
    proto = sound(opset=opset)
    check_model(proto, "net")
    feeds = feeds_of(proto)
    (expected,) = session(proto.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(evaluate(optimize(import_model(proto, "net")), feeds)["y"], expected, atol=1e-5)


def test_model_ir_newer_than_onnxruntimes(tmp_path: Path) -> None:
    proto = sound()
    proto.ir_version = 99
    assert len(load_float_graph(saved(tmp_path, proto)).nodes) == 1


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_weights_that_are_not_finite(tmp_path: Path, value: float, what: str) -> None:
    weight = WEIGHT.copy()
    weight[1, 2, 0, 1] = value
    assert failure(saved(tmp_path, sound(weight=weight))) == f"initializer 'w': must be finite, but holds {what}; train or export the model again"


def test_weight_data_that_do_not_fit_their_shape(tmp_path: Path) -> None:
    proto = sound()
    proto.graph.initializer[0].dims[0] = 4
    assert "initializer 'w': data do not fit shape [4, 4, 3, 3]" in failure(saved(tmp_path, proto))
    proto.graph.initializer[0].dims[0] = -3
    assert failure(saved(tmp_path, proto)) == "initializer 'w': sizes must not be negative, found [-3, 4, 3, 3]"
    proto.graph.initializer[0].dims[0] = 1 << 40
    assert "initializer 'w': must hold at most 268435456 elements" in failure(saved(tmp_path, proto))


def test_graph_that_breaks_onnx_rules(tmp_path: Path) -> None:
    proto = model(NODES[::-1], X, {"w": WEIGHT})
    assert failure(saved(tmp_path, proto)).startswith("model 'net.onnx': breaks ONNX's rules: Nodes in a graph must be topologically sorted")


def test_sparse_initializers(tmp_path: Path) -> None:
    proto = sound()
    proto.graph.sparse_initializer.add().values.name = "w"
    assert failure(saved(tmp_path, proto)) == "model 'net.onnx': sparse initializers are not supported; store the weights dense"


def test_weights_given_as_graph_inputs() -> None:
    proto = sound(opset=8)
    proto.graph.input.add().CopyFrom(onnx.helper.make_tensor_value_info("w", 1, [3, 4, 3, 3]))
    check_model(proto, "net")
    graph = import_model(proto, "net")
    assert [graph_input.name for graph_input in graph.inputs] == ["x"]


def test_shared_initializer_serves_two_convolutions() -> None:
    """Exporters merge equal biases: folding into one reader must not change the other."""
    norm = {"s": normal(3), "o": normal(3, seed=1), "m": normal(3, seed=2), "v": np.abs(normal(3, seed=3))}
    nodes = [
        node("Conv", ["x", "w", "zero"], "a"),
        node("Conv", ["x", "w", "zero"], "b"),
        node("BatchNormalization", ["a", *norm], "c"),
        node("Add", ["b", "c"], "y"),
    ]
    proto = model(nodes, X, {"w": WEIGHT, "zero": np.zeros(3, np.float32), **norm})
    feeds = feeds_of(proto)
    (expected,) = session(proto.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(evaluate(optimize(import_model(proto, "net")), feeds)["y"], expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_real_types(dtype: Any) -> None:
    graph = optimize(import_model(sound(weight=WEIGHT.astype(dtype)), "net"))
    assert graph.nodes[0].op.weight.dtype == np.float32


def test_weights_in_fortran_order_and_in_4_bits() -> None:
    fortran = np.asfortranarray(WEIGHT)
    stored = onnx.numpy_helper.from_array(fortran, "w")
    proto = sound()
    proto.graph.initializer[0].CopyFrom(stored)
    np.testing.assert_array_equal(import_model(proto, "net").nodes[0].op.weight, WEIGHT.transpose(0, 2, 3, 1))
    numbers = np.random.default_rng(0).integers(-8, 8, WEIGHT.size)
    packed = onnx.helper.make_tensor("q", onnx.TensorProto.INT4, WEIGHT.shape, numbers)
    proto = model([node("Cast", ["q"], "w", to=1), *NODES], X, {}, opset=21)
    proto.graph.initializer.add().CopyFrom(packed)
    check_model(proto, "net")
    np.testing.assert_array_equal(import_model(proto, "net").nodes[0].op.weight, numbers.reshape(WEIGHT.shape).transpose(0, 2, 3, 1))


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    proto = model([NODES[0], onnx.helper.make_node("Activate", ["h"], ["y"], domain="local")], X, {"w": WEIGHT})
    function = onnx.helper.make_function("local", "Activate", ["a"], ["b"], [node("Relu", ["a"], "b")], [onnx.helper.make_opsetid("", 13)])
    proto.functions.append(function)
    proto.opset_import.append(onnx.helper.make_opsetid("local", 1))
    assert len(load_float_graph(saved(tmp_path, proto)).nodes) == 1


def calls(*bodies: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A model whose only node calls function f0; f0, f1, ... from a to b consist of `bodies`."""
    domain = [onnx.helper.make_opsetid("", 13), onnx.helper.make_opsetid("local", 1)]
    proto = model([NODES[0], onnx.helper.make_node("f0", ["h"], ["y"], domain="local")], X, {"w": WEIGHT})
    proto.functions.extend(onnx.helper.make_function("local", f"f{k}", ["a"], ["b"], body, domain) for k, body in enumerate(bodies))
    proto.opset_import.append(domain[1])
    return proto


def test_functions_that_would_become_any_number_of_nodes(tmp_path: Path) -> None:
    """Thirty functions of two calls each are a thousand million nodes: refused before the first is written."""
    twice = [[onnx.helper.make_node(f"f{k}", ["a"], ["t"], domain="local"), onnx.helper.make_node(f"f{k}", ["t"], ["b"], domain="local")] for k in range(1, 30)]
    path = saved(tmp_path, calls(*twice, [node("Relu", ["a"], "b")]))
    assert failure(path) == f"model 'net.onnx': must hold at most 262144 nodes without its local functions, not {2**29 + 1}; export it without functions"


def test_functions_inside_a_subgraph_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwgen.frontend.onnx_file.MAX_NODES", 8)
    inner = onnx.helper.make_graph([onnx.helper.make_node("f1", ["a"], ["b"], domain="local")] * 4, "inner", [], [])
    body = [onnx.helper.make_node("If", ["a"], ["b"], then_branch=inner, else_branch=inner)]
    path = saved(tmp_path, calls(body, [node("Relu", ["a"], "b")]))
    assert failure(path) == "model 'net.onnx': must hold at most 8 nodes without its local functions, not 10; export it without functions"


@pytest.mark.parametrize("target", ["f0", "f1"])
def test_functions_that_call_themselves(tmp_path: Path, target: str) -> None:
    bodies = [[onnx.helper.make_node(name, ["a"], ["b"], domain="local")] for name in (target, "f0")]
    path = saved(tmp_path, calls(*bodies))
    assert failure(path) == "model 'net.onnx': its local functions must call each other at most 64 deep; export it without functions"


def test_is_quantized_model() -> None:
    assert not is_quantized_model(sound())
    assert is_quantized_model(model([node("QuantizeLinear", ["x", "s"], "q"), node("DequantizeLinear", ["q", "s"], "y")], X, {"s": np.float32(1)}))
    assert is_quantized_model(model([node("QLinearMatMul", ["x"] * 8, "y")], X))


def external(tmp_path: Path, **entries: str) -> Path:
    """A model whose weight lies in weights.bin, described by `entries`."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"\0" * 16 + WEIGHT.tobytes())
    proto = sound()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": "16", "length": str(WEIGHT.nbytes), **entries}.items():
        if value:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    return saved(folder, proto)


@pytest.mark.parametrize("entries", [{}, {"length": ""}])
def test_external_data(tmp_path: Path, entries: dict[str, str]) -> None:
    graph = load_float_graph(external(tmp_path, **entries))
    np.testing.assert_array_equal(graph.nodes[0].op.weight, WEIGHT.transpose(0, 2, 3, 1))


def test_external_data_in_a_constant_node(tmp_path: Path) -> None:
    path = external(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    constant = onnx.helper.make_node("Constant", [], ["w"], value=proto.graph.initializer[0])
    proto.graph.node.insert(0, constant)
    del proto.graph.initializer[:]
    path.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(load_float_graph(path).nodes[0].op.weight, WEIGHT.transpose(0, 2, 3, 1))


def test_external_data_that_nobody_read(tmp_path: Path) -> None:
    """A caller with a model in memory: no file may be opened on behalf of its contents."""
    proto = onnx.load(external(tmp_path), load_external_data=False)
    with pytest.raises(ModelError, match="initializer 'w': its external data were not read; load the model from its file"):
        import_model(proto, "net")


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "/etc/passwd", ""])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 1000)
    path = external(tmp_path, location=location)
    assert failure(path) == f"initializer 'w': external data must lie in the model's folder, not at {location!r}"


def test_external_data_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 1000)
    path = external(tmp_path, location="link.bin")
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    assert failure(path) == "initializer 'w': external data 'link.bin' is a link out of the model's folder; copy the file there"


def test_external_data_through_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "w.bin").write_bytes(b"\0" * 1000)
    path = external(tmp_path, location="sub/w.bin")
    (path.parent / "sub").symlink_to(tmp_path / "other")
    assert "is a link out of the model's folder" in failure(path)


@pytest.mark.parametrize("location", ["loop", "a" * 300, "sub/" * 2000 + "w.bin"])
def test_external_data_that_cannot_be_a_file(tmp_path: Path, location: str) -> None:
    path = external(tmp_path, location=location)
    (path.parent / "loop").symlink_to("loop")
    assert failure(path) == f"initializer 'w': external data {location!r} is missing; keep the file beside the model"


def test_external_data_that_many_tensors_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file read a thousand times is a large model."""
    path = external(tmp_path)
    monkeypatch.setattr("hwgen.frontend.onnx_file.MAX_BYTES", 10 * WEIGHT.nbytes)
    proto = onnx.load(path, load_external_data=False)
    for k in range(10):
        proto.graph.initializer.add().CopyFrom(proto.graph.initializer[0])
        proto.graph.initializer[-1].name = f"w{k}"
    path.write_bytes(proto.SerializeToString())
    assert failure(path) == "model 'net.onnx': external data must be below 2 GiB together, as much as one ONNX file can hold"


def test_external_data_missing(tmp_path: Path) -> None:
    assert failure(external(tmp_path, location="none.bin")) == "initializer 'w': external data 'none.bin' is missing; keep the file beside the model"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "18446744073709551600"}, "offset of external data must be a plain number, not '18446744073709551600'"),
        ({"offset": "9223372036854775807"}, "external data must hold 432 bytes from offset 9223372036854775807"),
        ({"offset": "-16"}, "offset of external data must be a plain number, not '-16'"),
        ({"offset": "17"}, "external data must hold 432 bytes from offset 17, but length is 432 and 'weights.bin' has 448 bytes"),
        ({"length": "431"}, "external data must hold 432 bytes from offset 16, but length is 431"),
        ({"length": "1e3"}, "length of external data must be a plain number, not '1e3'"),
    ],
)
def test_external_data_with_overflowing_offset_or_length(tmp_path: Path, entries: dict[str, str], message: str) -> None:
    assert message in failure(external(tmp_path, **entries))


@pytest.mark.parametrize(("kind", "size"), [("INT4", 54), ("UINT4", 54), ("STRING", 0), ("INT16", 216), ("INT8", 108)])
def test_external_data_of_every_size(tmp_path: Path, kind: str, size: int) -> None:
    path = external(tmp_path, length=str(size), offset="0")
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].data_type = onnx.TensorProto.DataType.Value(kind)
    path.write_bytes(proto.SerializeToString())
    if size:
        assert len(load_model_data(path)) == size
    else:
        assert failure(path) == "initializer 'w': must be a numeric tensor of at most 268435456 elements, not STRING [3, 4, 3, 3]"


def load_model_data(path: Path) -> bytes:
    return bytes(load_model(path).graph.initializer[0].raw_data)
