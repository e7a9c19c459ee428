"""Figures to watch: speed of the emulator, size and speed of compilation, memory, and accuracy over real models."""
