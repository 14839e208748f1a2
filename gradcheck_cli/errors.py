"""What can stop a check, and the exit code each cause has.

Exit 1 is kept for one meaning, "an exported tensor is wrong", and no error here carries it.
"""

from __future__ import annotations


class SoftgradError(Exception):
    """Something that the user can mend: the message says where, what, and what to do."""

    exit_code = 2


class UsageError(SoftgradError):
    """The options contradict each other or do not fit the data."""


class InputError(SoftgradError):
    """A file cannot be read, is not what it says it is, or does not fit the others."""


class OutputError(SoftgradError):
    """A report cannot be written where it was asked for."""
