"""The compiled program: its model, its container and its text."""
