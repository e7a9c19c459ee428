"""Whether this machine can run programs on its NPU, and what to do where it cannot."""
