"""What `deploy/monitoring` asks Prometheus for: every expression, and the series that it names."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy/monitoring"

OF_PROMETHEUS = frozenset({"job", "instance"})
"""Labels that a gateway does not give; Prometheus adds them to what it scrapes."""

MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
SERIES = re.compile(r"(?<![\w.:])([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?(\s*\()?")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset"})


class Selector(NamedTuple):
    """Which series an expression asks for."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator, value; without those of `OF_PROMETHEUS`."""

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is meant."""
        return all(_matches(labels.get(label, ""), *how) for label, *how in self.matchers)


def _matches(value: str, operator: str, wanted: str) -> bool:
    found = re.fullmatch(wanted, value) is not None if operator.endswith("~") else value == wanted
    return found is not operator.startswith("!")


def rules() -> list[dict[str, Any]]:
    """The rules of `alerts.yaml`, those that record and those that alert."""
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard, rows left out."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """All that rules and dashboard evaluate."""
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


def selectors(expression: str) -> Iterator[Selector]:
    """The series that an expression names: what is no function, keyword, label of a grouping, or number."""
    for name, braces, call in SERIES.findall(re.sub(r"\[\w+\]", "", GROUPING.sub("", expression))):
        if not call and name not in KEYWORDS:
            matchers = [tuple(found) for found in MATCHER.findall(braces) if found[0] not in OF_PROMETHEUS]
            yield Selector(name, tuple(matchers))


def missing(samples: Iterable[tuple[str, Mapping[str, str]]]) -> set[Selector]:
    """What rules and dashboard ask for and no sample of a scrape answers.

    Args:
        samples: name and labels of each.
    """
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    by_name: dict[str, list[Mapping[str, str]]] = {"up": [{}]}
    for name, labels in samples:
        by_name.setdefault(name, []).append(labels)
    return {
        selector
        for expression in expressions()
        for selector in selectors(expression)
        if selector.name not in recorded and not any(map(selector.takes, by_name.get(selector.name, [])))
    }
