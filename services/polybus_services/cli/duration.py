"""A length of time as one writes it on a command line."""

import re
from typing import override

import click

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[float]):
    """Seconds, or a number with s, m, h or d."""

    name = "duration"

    @override
    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value))
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is not a time such as 90, 90s, 30m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


DURATION = Duration()
