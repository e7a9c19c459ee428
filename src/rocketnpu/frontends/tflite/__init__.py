"""TFLite files: bytes go in, an `ir.Graph` comes out.

`flatbuffer.py` reads the tables, `options.py` and `options_data_movement.py` the options of each operator,
`operator.py` its operands; `shapes.py` infers shapes, `opaque.py` finds operators that only LiteRT can run; `reader.py`
calls them.
"""
