"""ONNX files: bytes go in, an `ir.Graph` comes out.

In order: `model.py` (parse, check), `net.py` (nodes, types), `qdq.py` and `quantize_moves.py` (groups of quantized
operators), `layout.py` (NCHW or NHWC), `operators.py`, `layers.py`, `data_movement.py` and `functions.py` (one
operator each), `shuffle.py`; `reader.py` calls them. `library.py` and `session.py` are the seam to onnx and
onnxruntime.
"""
