"""The version, as the distribution has it."""

__version__ = "3.0.0"
