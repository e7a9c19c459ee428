"""The kernel drivers' binary interfaces as declared structs and request numbers (hardware/kernels.md)."""
