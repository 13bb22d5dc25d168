"""Errors that a person can act on: what was expected, what came, what to do, in one line.

Every failure that a user can cause or mend is a :class:`MorphsymError`. The command line prints ``str(error)`` on
standard error and exits with :attr:`MorphsymError.exit_code`; it never shows a traceback for these.
"""

from __future__ import annotations


class MorphsymError(Exception):
    """Base of all errors meant for the user. ``exit_code`` 1: the work failed."""

    exit_code = 1


class UsageError(MorphsymError):
    """The request itself is wrong (an option, a value, an unknown name). ``exit_code`` 2."""

    exit_code = 2


class InputError(MorphsymError):
    """A file or an array that the user brought cannot be used (missing, unreadable, of the wrong kind or shape)."""


class ModelError(MorphsymError):
    """A face model file is damaged, of the wrong kind or inconsistent."""


class ClassifierError(MorphsymError):
    """A classifier cannot be loaded, or gave something that is not a finite (B, labels) array."""


class RenderError(MorphsymError):
    """A picture could not be rendered as asked (lost triangles, no coverage, NaN)."""


class FitError(MorphsymError):
    """A face could not be fitted. ``str(error)`` is the reason written to ``fits.csv``."""


class StoreError(MorphsymError):
    """A results folder is missing, incomplete, damaged or from another version."""


class MissingDependencyError(MorphsymError):
    """An optional package or a weight file is not installed; the message says how to get it."""
