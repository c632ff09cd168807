"""`compose.yaml`: it mirrors the manifests, and every file that it mounts is there."""

import json
import re
from typing import Any

import pytest
import yaml

from .manifests import ROOT, Manifests, containers, load_all, pod, rendered

(COMPOSE,) = load_all((ROOT / "compose.yaml").read_text(encoding="utf-8"))

SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_do_nothing_it_need_not(service: str) -> None:
    """Like its pod: no root, no capabilities, nothing written but to memory, seen by this machine alone."""
    has = SERVICES[service]
    assert has["read_only"] is True
    assert has["cap_drop"] == ["ALL"]
    assert has["security_opt"] == ["no-new-privileges:true"]
    assert has["user"] == "65532:65532"
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in has.get("ports", []))
    assert re.search(r":v?\d", has["image"])


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_mounts_is_there(service: str) -> None:
    """Files of this tree, which it cannot change; a wrong name would make an empty folder."""
    for volume in SERVICES[service].get("volumes", []):
        source, _, mode = volume.split(":")
        assert (ROOT / source).exists(), source
        assert mode == "ro"


@pytest.mark.parametrize("service", ["gateway", "simulator", "nats"])
def test_a_service_is_its_pod(service: str) -> None:
    """Image, command and files of secrets are those of the overlay `dev`, and the end may take as long."""
    workload = Manifests(load_all(rendered("dev"))).find("Deployment", service)
    (container,) = containers(workload)
    has = SERVICES[service]
    assert has["image"] == container["image"]
    assert has["command"] == container.get("command", []) + container.get("args", [])
    files = {e["name"]: e["value"] for e in container.get("env", []) if e["name"].endswith("_FILE")}
    assert has.get("environment", {}) == files
    if "stop_grace_period" in has:
        assert has["stop_grace_period"] == f"{pod(workload)['terminationGracePeriodSeconds']}s"


def test_it_waits_for_what_it_needs() -> None:
    """The gateway starts once NATS and the simulator are healthy, which both can say."""
    needed = SERVICES["gateway"]["depends_on"]
    assert set(needed) == {"nats", "simulator"}
    assert all(entry == {"condition": "service_healthy"} for entry in needed.values())
    assert all("healthcheck" in SERVICES[name] for name in needed)


def test_the_dashboard_finds_its_data() -> None:
    """Each panel asks the data source that Grafana is given, and Grafana the Prometheus that is there."""
    folder = ROOT / "deploy/compose/grafana"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    dashboard = json.loads((ROOT / "deploy/monitoring/dashboard.json").read_text(encoding="utf-8"))
    named = re.findall(r'"datasource": \{[^}]*"uid": "([^"]+)"', json.dumps(dashboard))
    assert set(named) <= {source["uid"], "${datasource}"}
    assert source["url"] == "http://prometheus:9090"
    assert dashboard["uid"]


def test_the_rules_are_one_source() -> None:
    """What prometheus-operator gets is what stands in the rule file; `make rules` makes it so."""
    folder = ROOT / "deploy/monitoring"
    plain = yaml.safe_load((folder / "alerts.yaml").read_text(encoding="utf-8"))
    wrapped = yaml.safe_load((folder / "prometheusrule.yaml").read_text(encoding="utf-8"))
    assert wrapped["spec"] == plain


def test_every_alert_says_what_to_do() -> None:
    """How grave it is, what happened, and a section of the runbooks that is there."""
    folder = ROOT / "deploy/monitoring"
    runbooks = (folder / "runbooks.md").read_text(encoding="utf-8")
    groups = yaml.safe_load((folder / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        assert {"summary", "description", "runbook_url"} <= set(alert["annotations"])
        assert alert["annotations"]["runbook_url"].endswith(f"runbooks.md#{alert['alert'].lower()}")
        assert f"## {alert['alert']}\n" in runbooks
