"""A trained ONNX network -> a verified integer accelerator: Verilog, C firmware, and the evidence that all compute the same integers.

The verbs of the command line are `hwgen.build.quantize_model`, `hwgen.build.build`, `hwgen.verify.verify`, `hwgen.evaluate.evaluate`.
"""

__version__ = "0.1.0"
