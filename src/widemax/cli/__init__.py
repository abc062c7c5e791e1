"""The command line: one file a verb; each parses, calls the library and prints.

Nothing heavy is imported before a verb runs, so that ``widemax --help`` answers at once.
"""

from widemax.cli.app import main

__all__ = ["main"]
