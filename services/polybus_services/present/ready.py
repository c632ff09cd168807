"""What is shown to a person of a process that has come to serve."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from polybus_services.present import counted, facts


def gateway_ready(ready: Mapping[str, Any]) -> RenderableType:
    """What `polybus run` shows once it is ready."""
    rows: list[tuple[str, RenderableType]] = [
        ("NATS", str(ready["nats"])),
        ("control", str(ready["control"])),
    ]
    for feed, url in ready["feeds"].items():
        rows.append((f"feed {feed}", url))
        reachable = (ready.get("venue") or {}).get(feed)
        if reachable is not None:
            style = {"reachable": "green", "not asked": "dim"}.get(reachable, "yellow")
            rows.append(("", Text(reachable, style=style)))
    if "accounts" in ready:
        rows.append(
            ("accounts", ", ".join(ready["accounts"]) or Text("none: no user, no polybolt", style="dim"))
        )
    rows.append(("restored", counted(ready["restored"], "subscription")))
    return Panel(facts(rows), title=f"gateway {ready['replica']} is ready", title_align="left", expand=False)


def simulator_ready(ready: Mapping[str, Any], seed: int) -> RenderableType:
    """What `polybus simulate` shows once it is ready."""
    markets = ready["markets"]
    rows: list[tuple[str, RenderableType]] = [(f"feed {feed}", url) for feed, url in ready["feeds"].items()]
    rows += [("REST", ready["rest"]), ("admin", ready["admin"])]
    rows += [
        ("markets", f"{len(markets)}, {sum(len(market['assets']) for market in markets)} assets, seed {seed}")
    ]
    rows += [("an asset", market["assets"][0]) for market in markets[:1]]
    labels = ", ".join(account["label"] for account in ready.get("accounts", []))
    rows += [("accounts", f"{labels} (--json tells their made-up credentials)")] if labels else []
    panel = Panel(facts(rows), title="the venue in a box is ready", title_align="left", expand=False)
    hint = f"faults: curl {ready['admin']}/faults      stop: Ctrl-C"
    return Group(panel, Text(hint, style="dim"))
