"""ONNX Runtime: pieces of an ONNX model on the CPU, and the reference for all of its tensors."""

from rocketnpu.cpu.onnxruntime.extract import extract_piece
from rocketnpu.cpu.onnxruntime.reference import Reference
from rocketnpu.cpu.onnxruntime.runner import Piece

__all__ = ["Piece", "Reference", "extract_piece"]
