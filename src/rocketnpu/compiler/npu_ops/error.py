"""The error that sends an operator to the CPU."""


class ConstraintError(Exception):
    """An operator cannot run on the NPU; the text is the rule that it breaks. Never reaches the user as an
    exception."""
