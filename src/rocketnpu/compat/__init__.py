"""Drop-in replacements for other runtimes' Python interfaces, so that their applications run unchanged."""
