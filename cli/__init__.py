"""The command line. One file a command: parsing and messages only, no science."""

from .group import cli, main

__all__ = ["cli", "main"]
