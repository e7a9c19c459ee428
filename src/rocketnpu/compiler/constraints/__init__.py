"""What the NPU asks of an operator: a graph and one of its operators go in, the first broken rule comes out.

`table.py` lists the rules of each operator kind; `tensors.py`, `layers.py` and `data_movement.py` hold the rules.
"""
