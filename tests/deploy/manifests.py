"""What `deploy/` renders to: the objects of an overlay, and what the rules ask of them."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, override

import pytest
import yaml

ROOT = Path(__file__).parents[2]

OVERLAYS = {
    "dev": ROOT / "deploy/kustomize/overlays/dev",
    "prod": ROOT / "deploy/kustomize/overlays/prod",
    "everything": ROOT / "tests/deploy/everything",
}
"""What is rendered and held against the rules; `everything` has each component switched on."""

CUSTOM_KINDS = {"PodMonitor", "PrometheusRule", "ScaledObject", "Stream"}
"""Of operators; no schema of Kubernetes knows them."""

TEMPLATED = {"Deployment", "StatefulSet", "DaemonSet", "Job"}
"""Kinds that make pods from a template."""

MERGE = "tag:yaml.org,2002:merge"
"""The key `<<`, which may stand as often as one likes."""

Object = dict[str, Any]


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which every other loader silently keeps the last."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value if key.tag != MERGE]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def load_all(text: str) -> list[Object]:
    """The documents of a YAML text, empty ones left out.

    Raises:
        yaml.YAMLError: it is not YAML, or has a key twice.
    """
    return [one for one in yaml.load_all(text, StrictLoader) if one]


def kubectl() -> str:
    """The program; without it the test is skipped, or fails where CI=true promises that all tools are there."""
    if program := shutil.which("kubectl"):
        return program
    if os.environ.get("CI") == "true":
        pytest.fail("kubectl is not on this machine, and CI=true")
    pytest.skip("kubectl is not on this machine, and nothing else renders kustomizations")


@cache
def rendered(overlay: str) -> str:
    """The YAML of an overlay."""
    command = [kubectl(), "kustomize", str(OVERLAYS[overlay])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


class Manifests:
    """The objects that are applied together."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self.objects = list(objects)

    def of(self, *kinds: str) -> list[Object]:
        """The objects of some kinds, in order."""
        return [one for one in self.objects if one["kind"] in kinds]

    def find(self, kind: str, name: str) -> Object:
        """The one object of this kind and name; of a generated one the name before its hash."""
        (found,) = (
            one
            for one in self.of(kind)
            if re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", one["metadata"]["name"])
        )
        return found

    def workloads(self) -> list[Object]:
        """The objects that make pods."""
        return self.of(*TEMPLATED)

    def names(self, kind: str) -> set[str]:
        """The names of all objects of a kind."""
        return {one["metadata"]["name"] for one in self.of(kind)}

    def selected(self, selector: Mapping[str, Any] | None) -> list[Object]:
        """The workloads whose pods a selector hits: a LabelSelector with `matchLabels`, or a Service's plain labels."""
        wanted = dict(selector or {})
        wanted = wanted.get("matchLabels", wanted)
        return [one for one in self.workloads() if wanted.items() <= labels_of(template(one)).items()]


def template(workload: Object) -> Object:
    """The pod that a workload makes."""
    found: Object = workload["spec"]["template"]
    return found


def pod(workload: Object) -> Object:
    """The spec of the pod that a workload makes."""
    found: Object = template(workload)["spec"]
    return found


def containers(workload: Object) -> list[Object]:
    """All of them, those that only initialise included."""
    spec = pod(workload)
    return [*spec.get("initContainers", []), *spec["containers"]]


def labels_of(one: Object) -> dict[str, str]:
    """The labels of an object or of a pod's template."""
    found: dict[str, str] = one.get("metadata", {}).get("labels", {})
    return found


def ports_of(workload: Object) -> set[int | str]:
    """Numbers and names of the ports that a workload's containers declare."""
    return {
        port[key]
        for container in containers(workload)
        for port in container.get("ports", [])
        for key in ("name", "containerPort")
        if key in port
    }


def label(one: Object) -> str:
    """How a complaint names an object."""
    return f"{one['kind']}/{one.get('metadata', {}).get('name', '?')}"


def mappings(node: Any) -> Iterator[Object]:
    """Every mapping within, the node itself included."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from mappings(child)


_FACTORS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(1000),
    "M": Decimal(1000**2),
    "G": Decimal(1000**3),
    "Ki": Decimal(1024),
    "Mi": Decimal(1024**2),
    "Gi": Decimal(1024**3),
}


def quantity(text: object) -> Decimal | None:
    """What a resource quantity says, such as `250m` or `512Mi`; None for one that the API server refuses."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|Ki|Mi|Gi|)", str(text))
    return Decimal(match[1]) * _FACTORS[match[2]] if match else None
