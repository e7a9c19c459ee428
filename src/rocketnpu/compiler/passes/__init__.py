"""Passes over the graph: operators go in, steps with their places in memory come out.

In order: `keep_together.py`, `fold_flatten.py` and `fold_pad.py`, `assign.py` (NPU or CPU), `fuse.py` and
`fuse_residual.py`, `order.py`, `image_input.py`, `concat_in_place.py`, `group_steps.py`, `allocate.py`.
"""
