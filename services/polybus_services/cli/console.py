"""Where a person reads what a command has to say."""

import os
from typing import override

from rich.console import Console

PLAIN_WIDTH = 160
"""Columns where there is no terminal to say: wide enough that no id or URL of a table is broken."""


class PipeableConsole(Console):
    """A console that lets a reader who has enough (`| head`) end us quietly; rich would make it a failure."""

    @override
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, stderr: bool, no_color: bool) -> Console:
    """Standard output or error; plain when it is no terminal, when NO_COLOR is set or where that is asked for."""
    console = PipeableConsole(stderr=stderr, no_color=no_color or None, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console
