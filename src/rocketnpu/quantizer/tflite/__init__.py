"""Float TFLite models: a checked model and samples go in, an INT8 model comes out.

In order: `repair.py`, `equalize.py`, `quantizer.py` (ai-edge-quantizer), `rest.py`, `biases.py`; `model.py`
edits files.
"""
