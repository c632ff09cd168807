"""Alerts, runbooks and dashboard belong together, and a real Prometheus finds with them what goes wrong.

That each metric they name is there: `test_a_scrape` in `tests/services/test_telemetry.py`.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest
import yaml

from polybus_protocol.profile import PROFILES
from polybus_services.http import Request, Response, serve_http
from polybus_services.pulse import Pulse
from polybus_services.simulator import SimulatorOptions
from polybus_services.telemetry.metrics import snapshot
from polybus_services.telemetry.process import Telemetry

from ..support.monitoring import MONITORING, ROOT, Selector, panels, rules, selectors
from ..support.rig import rigged

ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}

QUICKENING = 30
"""How many times quicker the copy of the rules is that is tried: a minute is two seconds there."""

STARVED = {"GatewayDown", "EventLoopSlow", "EventsLate", "VenueLate"}
"""They may well be right on a machine that has no time for a second, and are no matter of the feed."""


def program(name: str) -> str:
    """A program of Prometheus; outside of `make check` the test is skipped."""
    if "POLYBUS_CHECK" not in os.environ:
        pytest.skip("takes some seconds and a program that is not locked: `make check` runs it")
    found = shutil.which(name)
    assert found, f"{name} is not on this machine: `scripts/programs` says what to do"
    return found


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_tells_what_to_do(name: str) -> None:
    """It has a severity, a sentence for the phone, one with numbers, and a section of the runbooks."""
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["summary"].endswith(".")
    assert alert["annotations"]["description"]
    file, anchor = alert["annotations"]["runbook_url"].split("#")
    assert (ROOT / file).samefile(MONITORING / "runbooks.md")
    assert anchor == name.lower()
    section = runbooks()[name]
    assert "**What it means.**" in section
    assert "**Look.**" in section


def runbooks() -> dict[str, str]:
    """The sections of the runbooks by their titles."""
    text = (MONITORING / "runbooks.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_alerts_runbooks_and_tests_are_about_the_same() -> None:
    """In one order; links between sections lead somewhere; what the operator applies is what is tested."""
    tested = yaml.safe_load((ROOT / "tests/deploy/alerts.test.yaml").read_text(encoding="utf-8"))["tests"]
    assert list(runbooks()) == list(ALERTS)
    assert [one["name"] for one in tested] == list(ALERTS)
    links = {link for section in runbooks().values() for link in re.findall(r"\(#(\w+)\)", section)}
    assert links <= {name.lower() for name in ALERTS}
    wrapped = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text(encoding="utf-8"))
    plain = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    assert wrapped["spec"] == plain, "run `make rules`"


def test_the_dashboard_can_be_read() -> None:
    """Each panel has its own number and place, a title, something to show, and shows the gateways that were chosen."""
    assert len({panel["id"] for panel in panels()}) == len(panels())
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()}) == len(panels())
    for panel in panels():
        assert panel["title"]
        assert panel["targets"]
        for target in panel["targets"]:
            named = [selector for selector in selectors(target["expr"]) if selector.name != "up"]
            assert target["expr"].count('{job="polybus",instance=~"$instance"') == len(named), target["expr"]


def test_what_an_expression_names() -> None:
    """Series and what is asked of their labels; not functions, keywords, groupings, windows and numbers."""
    expression = (
        'sum by (job, le) (rate(a_total{job="p",reason!~"x|y"}[5m])) > 3e3 * on (job) group_left(b) a:rate5m or'
        ' c{d="e"} unless f'
    )
    assert list(selectors(expression)) == [
        Selector("a_total", (("reason", "!~", "x|y"),)),
        Selector("a:rate5m", ()),
        Selector("c", (("d", "=", "e"),)),
        Selector("f", ()),
    ]
    assert not Selector("a", (("reason", "!~", "x|y"),)).takes({"reason": "x"})
    assert Selector("a", (("reason", "=~", "x|y"),)).takes({"reason": "y"})


def test_prometheus_takes_all_of_it() -> None:
    """Rules and settings are such; each alert fires when it should, and not before."""
    promtool = program("promtool")
    for command in (
        ("check", "rules", "deploy/monitoring/alerts.yaml"),
        ("test", "rules", "tests/deploy/alerts.test.yaml"),
        ("check", "config", "--syntax-only", "deploy/compose/prometheus.yaml"),
    ):
        run = subprocess.run(
            [promtool, *command], capture_output=True, text=True, check=False, cwd=ROOT
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr


def test_prometheus_takes_the_dashboard(tmp_path: Path) -> None:
    """Each expression is one."""
    shown = [{"record": "shown", "expr": target["expr"]} for panel in panels() for target in panel["targets"]]
    file = tmp_path / "dashboard.yaml"
    for expressions, status in ((shown, 0), ([{"record": "shown", "expr": "rate(a[5m)"}], 1)):
        text = yaml.safe_dump({"groups": [{"name": "dashboard", "rules": expressions}]})
        file.write_text(text.replace("$instance", ".*"), encoding="utf-8")
        run = subprocess.run(
            [program("promtool"), "check", "rules", "--lint=none", str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == status, run.stdout + run.stderr


# --- a real Prometheus -----------------------------------------------------------------------------


def quick_rules() -> str:
    """The rules with every time in them divided, the window of a rate as well as the patience of an alert."""

    def quicker(match: re.Match[str]) -> str:
        seconds = int(match[2]) * {"s": 1, "m": 60}[match[3]]
        return f"{match[1]}{seconds * 1000 // QUICKENING}ms"

    text = (MONITORING / "alerts.yaml").read_text(encoding="utf-8")
    assert "polybus_feed_silence_seconds > 30" in text
    text = text.replace(
        "polybus_feed_silence_seconds > 30", f"polybus_feed_silence_seconds > {30 / QUICKENING}"
    )
    return re.sub(r"(\[|for: )(\d+)([sm])\b", quicker, text)


@asynccontextmanager
async def served(handler: Any) -> AsyncIterator[str]:
    """An HTTP server for the length of a block; `host:port`."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, lambda stream: serve_http(stream, handler))
        yield f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


class Pager:
    """Stands where Prometheus expects its Alertmanager."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        """The labels of what fired and is not `STARVED`."""
        self.rang = anyio.Event()
        """Set by the first alert that a starved machine does not explain."""

    async def answer(self, request: Request) -> Response:
        for alert in msgspec.json.decode(request.body, type=list[dict[str, Any]]):
            if alert["labels"]["alertname"] not in STARVED:
                self.alerts.append(alert["labels"])
                self.rang.set()
        return Response(200, {})


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
async def test_a_stall_rings(tmp_path: Path) -> None:
    """While the feed flows a real Prometheus has nothing to say; it stalls, and the alert about that feed comes first."""
    prometheus = program("prometheus")
    telemetry, pulse, pager = Telemetry("gw0"), Pulse(), Pager()
    scraped, scrapes = anyio.Condition(), 0

    async def metrics(_request: Request) -> Response:
        nonlocal scrapes
        async with scraped:
            scrapes += 1
            scraped.notify_all()
        return Response(200, telemetry.scrape(), content_type="text/plain; version=0.0.4")

    async def until_scraped(times: int) -> None:
        async with scraped:
            wanted = scrapes + times
            while scrapes < wanted:
                await scraped.wait()

    # With its usual patience the gateway lets a silent feed be for a minute.
    patient = msgspec.structs.replace(PROFILES["market"], dial_interval_s=0.01)
    options = SimulatorOptions(markets=4, seed=5, speed=10)
    with anyio.fail_after(120):
        async with (
            rigged(options, patient, watcher=telemetry.watcher) as rig,
            telemetry.watching(lambda: snapshot(rig.gateway, pulse, 0.8, telemetry.failures)),
            served(metrics) as target,
            served(pager.answer) as alertmanager,
        ):
            await rig.subscribe(*rig.assets)
            settings = {
                "global": {
                    "scrape_interval": "250ms",
                    "scrape_timeout": "250ms",
                    "evaluation_interval": "250ms",
                },
                "rule_files": ["alerts.yaml"],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
                "scrape_configs": [{"job_name": "polybus", "static_configs": [{"targets": [target]}]}],
            }
            (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
            command = [
                prometheus,
                f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ]
            with (tmp_path / "log").open("wb") as log:
                async with await anyio.open_process(command, stdout=log, stderr=log) as process:
                    try:
                        # It looks for targets only seconds after it has begun to follow rules: no gateway is there.
                        await until_scraped(1)
                        (tmp_path / "alerts.yaml").write_text(quick_rules(), encoding="utf-8")
                        process.send_signal(signal.SIGHUP)
                        await until_scraped(20)
                        assert pager.alerts == []
                        await rig.admin.fault_on("stall", feed="market")
                        await pager.rang.wait()
                    finally:
                        process.terminate()
            first = pager.alerts[0]
            assert (first["alertname"], first["feed"], first["instance"]) == ("FeedSilent", "market", target)
            assert first["severity"] == "critical"
            await rig.admin.fault_off("stall")
