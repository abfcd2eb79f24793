"""A command whose help says what goes in, what comes out, and how it is typed."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

_WIDTH = 80


def add_command(
    commands: Any, name: str, *, help: str, takes: str, gives: str, example: str
) -> argparse.ArgumentParser:
    """Add ``name`` to the subparsers ``commands``.

    ``help``: its line in the list of commands. ``example``: one command line, which is not broken, so that it
    can be copied.
    """
    told = (("In:  ", takes), ("Out: ", gives))
    found: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description="\n".join(
            textwrap.fill(words, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
            for head, words in told
        ),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return found
