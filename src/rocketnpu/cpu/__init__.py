"""Operators on the CPU: a piece of a model and arrays go in, arrays come out.

`litert/` runs pieces of TFLite models, `onnxruntime/` those of ONNX models; both know which operators may run in this
process (`allowlist.py`) and leave the others to `rocketnpu.sandbox`.
"""
