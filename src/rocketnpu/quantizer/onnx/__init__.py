"""Float ONNX models: a checked model and samples go in, a QDQ model comes out.

In order: `repair.py`, `equalize.py`, `quantizer.py` (ONNX Runtime's quantizer), `biases.py`.
"""
