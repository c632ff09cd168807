"""`deploy/` as it is: each overlay renders, and has no fault that our rules know."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from polybus_protocol import __version__
from polybus_services.config import load
from polybus_services.simulator import SimulatorOptions, running_simulator

from ..support.nats_keys import Key
from .manifests import OVERLAYS, ROOT, Manifests, containers, labels_of, load_all, rendered
from .rules import faults


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_no_fault(overlay: str) -> None:
    """It renders, as YAML without doubled keys, and no rule complains."""
    assert faults(Manifests(load_all(rendered(overlay)))) == []


def test_every_component_is_rendered() -> None:
    """What nobody switches on would be held against nothing."""
    used = "".join(
        path.joinpath("kustomization.yaml").read_text(encoding="utf-8") for path in OVERLAYS.values()
    )
    components = {path.name for path in (ROOT / "deploy/kustomize/components").iterdir()}
    switched_on = {
        line.partition("components/")[2].split()[0]
        for line in used.splitlines()
        if "components/" in line and "#" not in line.partition("components/")[0]
    }
    assert components == switched_on


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_an_overlay_wants_no_operator(overlay: str) -> None:
    """It can be applied to a cluster that knows nothing but Kubernetes itself."""
    apis = {one["apiVersion"] for one in load_all(rendered(overlay))}
    assert apis <= {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1"}


def test_the_version_is_ours() -> None:
    """Tags and labels name the version that is in this tree."""
    dev = Manifests(load_all(rendered("dev")))
    for name in ("gateway", "simulator"):
        workload = dev.find("Deployment", name)
        assert [one["image"] for one in containers(workload)] == [f"polybus:{__version__}"]
        assert labels_of(workload)["app.kubernetes.io/version"] == __version__
    assert f"ARG VERSION={__version__}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.anyio
async def test_the_account_of_dev_is_the_simulators() -> None:
    """The credentials in the tree are those that the simulator makes up of its usual seed."""
    folder = ROOT / "deploy/kustomize/overlays/dev/account"
    async with running_simulator(SimulatorOptions()) as simulator:
        account = simulator.accounts[0]
    for name in ("api_key", "secret", "passphrase"):
        assert (folder / f"main_{name}").read_text(encoding="utf-8").strip() == account[name]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_gateway_takes_its_configuration(overlay: str, tmp_path: Path) -> None:
    """File and variables, as the pod gives them: no key is misspelt; secrets are read from where they are mounted."""
    these = Manifests(load_all(rendered(overlay)))
    (container,) = containers(these.find("Deployment", "gateway"))
    secrets = {"/run/secrets/nats/gateway.nk": Key().seed}
    secrets |= dict.fromkeys((e["value"] for e in container["env"] if e["name"].endswith("_FILE")), "x")
    for path, text in secrets.items():
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    moved = str(tmp_path) + "/run/secrets/"
    toml = these.find("ConfigMap", "gateway-config")["data"]["polybus.toml"]
    (tmp_path / "polybus.toml").write_text(toml.replace("/run/secrets/", moved), encoding="utf-8")
    environ = {e["name"]: str(e.get("value", "")).replace("/run/secrets/", moved) for e in container["env"]}

    config = load(
        tmp_path / "polybus.toml", environ | {"POLYBUS_GATEWAY__REPLICA": "gateway-0123456789-01234"}
    )
    assert (config.http.host, config.http.port) == ("0.0.0.0", 9464)
    assert set(config.accounts) == ({"main"} if overlay != "prod" else set())


def test_dev_asks_nobody_outside(tmp_path: Path) -> None:
    """Every address of its configuration is one of its own Services: the real venue knows nothing of simulated assets."""
    these = Manifests(load_all(rendered("dev")))
    file = tmp_path / "polybus.toml"
    file.write_text(these.find("ConfigMap", "gateway-config")["data"]["polybus.toml"], encoding="utf-8")
    config = load(file, {})
    rests = [profile.rest_url for profile in config.feeds.values() if profile.rest_url]
    urls = [config.nats.url, *(profile.url for profile in config.feeds.values()), *rests]
    assert len(urls) == 7
    assert {urlsplit(str(url)).hostname for url in urls} == these.names("Service")
