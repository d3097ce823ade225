"""Networks that other tools quantized, from file to co-simulated Verilog, as one table.

    python tools/foreign.py [NAME ...]     all of the open set, or those named
    python tools/foreign.py --readme       the whole table into README.md, between its marks

A row: cycles of one inference at 16x16 with 24-bit multipliers, values of all layers compared in co-simulation and how many differ, the
score that the model's own integers had elsewhere (ONNX Runtime, or QONNX's own executor) and the score of hwgen's, certified roundings.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from hwgen.build import QUANTIZED_MODEL, BuildRequest, build
from hwgen.frontend.qdq import load_quantized_graph
from hwgen.ir.evaluate import from_canonical
from hwgen.ops.golden import golden
from hwgen.verify import VerifyRequest, verify
from tools import tables
from tools.open_set import Array, open_set

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- foreign: written by tools/foreign.py --readme -->", "<!-- end of foreign -->"
COLUMNS = ("network", "form", "cycles", "predicted", "differing / values", "inputs", "stored score", "hwgen", "certified")
NAMES = {
    "resnet8_cifar10_int8_qdq": "QDQ int8 (TFLite)",
    "kws_dscnn_int8_qdq": "QDQ int8 (TFLite)",
    "sww_ds1d_int8_qdq": "QDQ int8 (TFLite)",
    "vww_mobilenetv1_025_int8_qdq": "QDQ int8 (TFLite)",
    "ad_autoencoder_int8_qdq": "QDQ int8 (TFLite)",
    "mobilenetv1_025_128_imagenet_uint8_qdq": "QDQ uint8, asymmetric weights (TFLite)",
    "mobilenetv2_100_224_imagenet_uint8_qdq": "QDQ uint8, asymmetric weights (TFLite)",
    "mnist_lenet_ortquant_qoperator": "QOperator (ONNX Runtime)",
    "tfc_w1a1_qonnx": "QONNX, 1 bit (Brevitas)",
    "tfc_w2a2_qonnx": "QONNX, 2 bits (Brevitas)",
    "kwsmlp_w3a3_qonnx": "QONNX, 3 bits (Brevitas)",
    "jettagging_w6a6_qonnx": "QONNX, 6 bits (QKeras)",
}
AD_SCORE = 0.777  # of MODELS.md; the open set lists only the float network as a case


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    cycles: int
    predicted: int
    mismatches: int
    compared: int
    inputs: int
    stored: float | None
    score: float | None
    certified: int
    channels: int


def data(module: ModuleType, name: str) -> tuple[Array, object]:
    """Inputs of a network, and its case; jet tagging has no data: seeded numbers, and no case."""
    if name.startswith("jettagging"):
        return np.random.default_rng(0).normal(size=(256, 16)).astype(np.float32), None
    case = module.CASES[name.replace("_int8_qdq", "") if name.startswith("ad_") else name]
    x, labels = module.load(case)
    if name.startswith("ad_"):
        x = np.clip(np.rint(x / _ad_scale(module)[0]) + _ad_scale(module)[1], -128, 127).astype(np.int8)
    return x, (case, labels)


def _ad_scale(module: ModuleType) -> tuple[float, int]:
    graph = load_quantized_graph(model_path(module, "ad_autoencoder_int8_qdq"))
    q = graph.values[graph.inputs[0].value].quantized
    return float(q.scale), q.zero_point


def model_path(module: ModuleType, name: str) -> Path:
    return Path(module.ROOT) / "models" / f"{name}.onnx"


def measure(module: ModuleType, name: str) -> Row:
    """Build, co-simulate two inferences, evaluate the golden model on all inputs."""
    x, labelled = data(module, name)
    with tempfile.TemporaryDirectory() as folder:
        out, calibration = Path(folder) / "out", None
        if labelled is None:  # its inputs have no quantization of their own
            calibration = Path(folder) / "calibration.npz"
            np.savez(calibration, x=x)
        np.savez(Path(folder) / "inputs.npz", x=x[:2])
        built = build(BuildRequest(model=model_path(module, name), out=out, calibration=calibration, widen=True))
        report = verify(VerifyRequest(out=out, inputs=Path(folder) / "inputs.npz")).report
        graph = load_quantized_graph(out / QUANTIZED_MODEL)
    stored = score = None
    if labelled is not None:
        case, labels = labelled  # type: ignore[misc]
        output = graph.outputs[0]
        codes = golden(graph, {graph.inputs[0].name: x})[output.value]
        real = from_canonical(output, graph.values[output.value].quantized.dequantize(codes), softmax=False)
        score = float(module.score(case, real, labels, module.load(case)[0] if name.startswith("ad_") else x))
        stored = AD_SCORE if name.startswith("ad_") else case.float_score
    return Row(
        name=name,
        cycles=report["measured_cycles"],
        predicted=report["predicted_cycles"],
        mismatches=report["verification"]["mismatches"],
        compared=sum(layer["compared"] for layer in report["layers"]),
        inputs=0 if score is None else len(x),
        stored=stored,
        score=score,
        certified=built["quantization"]["certified_channels"],
        channels=built["quantization"]["channels"],
    )


def cells(row: Row) -> list[str]:
    """One text per column."""
    form = "{:.4f} AUC" if row.name.startswith("ad_") else "{:.2%}"
    return [
        row.name,
        NAMES[row.name],
        f"{row.cycles:,}",
        f"{row.predicted:,}",
        f"{row.mismatches} / {row.compared:,}",
        f"{row.inputs:,}" if row.inputs else "",
        "" if row.stored is None else form.format(row.stored),
        "" if row.score is None else form.format(row.score),
        f"{row.certified} / {row.channels}",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure networks that other tools quantized.")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *NAMES])
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args(argv)
    module = open_set()
    if module is None:
        sys.exit("the open set is not here")
    rows = []
    for name in arguments.names or NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows.append(measure(module, name))
        print("  ".join(cells(rows[-1])), flush=True)
    if arguments.readme:
        before, rest = README.read_text(encoding="utf-8").split(START)
        README.write_text(f"{before}{START}\n{tables.markdown(COLUMNS, [cells(row) for row in rows])}{END}{rest.split(END)[1]}", encoding="utf-8")
    return 1 if any(row.mismatches for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
