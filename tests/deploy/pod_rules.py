"""The rules about a single pod: restricted Pod Security, resources, probes, mounts, secrets, its end."""

import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from .manifests import Manifests, Object, containers, label, pod, quantity

SOUND_VOLUMES = {
    "configMap",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""What restricted Pod Security allows."""

HANDLERS = {"exec", "grpc", "httpGet", "tcpSocket"}

QUESTIONS = {"startupProbe": "/startup", "livenessProbe": "/live", "readinessProbe": "/ready"}
"""The three questions that a gateway answers; a liveness that asked NATS would restart all at an outage of it."""

SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSPHRASE|TOKEN|API_KEY|CREDENTIAL|PRIVATE")

AROUND_THE_DRAIN_S = 20
"""Seconds of the grace besides those that draining may take: for what goes before and after."""


def pods_are_restricted(workload: Object) -> Iterator[str]:
    """Restricted Pod Security, and beyond it a numeric user and a file system that cannot be written."""
    spec = pod(workload)
    context = spec.get("securityContext", {})
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(flag):
            yield f"{flag} is set"
    if context.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not set"
    for key in ("runAsUser", "runAsGroup"):
        if not isinstance(context.get(key), int) or context[key] < 1:
            yield f"{key} is no number above 0"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccompProfile is not RuntimeDefault"
    for container in containers(workload):
        own = container.get("securityContext", {})
        for key, wanted in (("allowPrivilegeEscalation", False), ("readOnlyRootFilesystem", True)):
            if own.get(key) is not wanted:
                yield f"{key} is not {str(wanted).lower()}"
        if own.get("privileged") or own.get("runAsUser", 1) == 0 or own.get("runAsNonRoot") is False:
            yield "a container is privileged, or root"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield "capabilities are not dropped, all of them"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield "it takes a port of its node"


def volumes_fit(workload: Object) -> Iterator[str]:
    """What is mounted is a volume of a harmless kind, and no secret can be read by others."""
    volumes = {volume["name"]: volume for volume in pod(workload).get("volumes", [])}
    mounted = [mount for container in containers(workload) for mount in container.get("volumeMounts", [])]
    for name in sorted({mount["name"] for mount in mounted} - set(volumes)):
        yield f"it mounts {name}, which is no volume"
    for name in sorted(set(volumes) - {mount["name"] for mount in mounted}):
        yield f"the volume {name} is not mounted"
    for name, volume in volumes.items():
        if not (set(volume) - {"name"}) <= SOUND_VOLUMES:
            yield f"the volume {name} is of a kind that Pod Security refuses"
        if "secret" in volume and volume["secret"].get("defaultMode") != 0o440:
            yield f"the secret {name} is not of mode 0440"
        if "emptyDir" in volume and quantity((volume["emptyDir"] or {}).get("sizeLimit")) is None:
            yield f"the volume {name} may fill its node"
    if any("secret" in volume for volume in volumes.values()) and not pod(workload)["securityContext"].get(
        "fsGroup"
    ):
        yield "without fsGroup nobody but root can read a secret"


def nothing_is_given_away(workload: Object) -> Iterator[str]:
    """No token of the API server, no variables of other Services, no secret in a variable."""
    if pod(workload).get("automountServiceAccountToken") is not False:
        yield "it mounts a token of the API server"
    if pod(workload).get("enableServiceLinks") is not False:
        yield "Services add variables, some of which would begin with POLYBUS_"
    for container in containers(workload):
        for entry in container.get("env", []):
            secret = SECRET_NAME.search(entry["name"]) and not entry["name"].endswith("_FILE")
            if "secretKeyRef" in entry.get("valueFrom", {}) or (secret and "value" in entry):
                yield f"the variable {entry['name']} holds a secret, which belongs into a file"
        if any("secretRef" in source for source in container.get("envFrom", [])):
            yield "it takes variables from a Secret, which belongs into files"


def resources_are_bounded(workload: Object) -> Iterator[str]:
    """Requests of both, a limit of memory, none of processor time; all of them readable and in order."""
    for container in containers(workload):
        resources = container.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        for kind, values in (("request", requests), ("limit", limits)):
            for name, value in values.items():
                if quantity(value) is None:
                    yield f"{value} is no {kind} of {name}"
        if not {"cpu", "memory"} <= set(requests):
            yield "it requests no cpu, or no memory"
        if "memory" not in limits:
            yield "it has no limit of memory"
        if "cpu" in limits:
            yield "a limit of cpu makes every event late that comes in a burst"
        if "ephemeral-storage" in requests:
            yield "a request of ephemeral-storage keeps it pending on nodes that report none"
        for name in set(requests) & set(limits):
            if (quantity(requests[name]) or 0) > (quantity(limits[name]) or 0):
                yield f"it requests more {name} than its limit"


def images_are_fixed(workload: Object) -> Iterator[str]:
    """An image has a tag that stays what it is, or a digest."""
    for container in containers(workload):
        image = container.get("image", "")
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"the image {image} may be another one tomorrow"


def probes_ask(workload: Object) -> Iterator[str]:
    """Each container is asked all three questions over HTTP, at a port that it declares."""
    for container in pod(workload)["containers"]:
        for probe, path in QUESTIONS.items():
            asked = container.get(probe)
            if asked is None:
                yield f"it has no {probe}"
                continue
            if len(HANDLERS & set(asked)) != 1:
                yield f"its {probe} needs exactly one handler"
            http = asked.get("httpGet")
            if http is None:
                yield f"its {probe} does not ask over HTTP; a program that is started for it costs more than it tells"
                continue
            if "host" in http:
                yield f"its {probe} names a host, which Pod Security refuses from 1.34 on"
            if not _declares(container, http.get("port")):
                yield f"its {probe} asks at {http.get('port')}, which is no port of the container"
            if container["name"] == "gateway" and http.get("path") != path:
                yield f"its {probe} asks {http.get('path')}, not {path}"


def _declares(container: Object, port: object) -> bool:
    return any(port in (one.get("name"), one["containerPort"]) for one in container.get("ports", []))


def it_ends_in_time(workload: Object) -> Iterator[str]:
    """What is done before the end fits into the grace."""
    grace = pod(workload).get("terminationGracePeriodSeconds")
    if grace is None:
        yield "terminationGracePeriodSeconds is not set"
        return
    for container in containers(workload):
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if sleep >= grace:
            yield "its preStop.sleep is not below the grace"


def the_gateway_is_configured(these: Manifests) -> Iterator[str]:
    """The file that the gateway reads is mounted, speaks of the port that is declared, and drains within the grace."""
    gateway = these.find("Deployment", "gateway")
    settings: dict[str, Any] = tomllib.loads(
        these.find("ConfigMap", "gateway-config")["data"]["polybus.toml"]
    )
    http = settings.get("http", {})
    if http.get("host") != "0.0.0.0" or not _declares(pod(gateway)["containers"][0], http.get("port")):
        yield f"{label(gateway)}: [http] is not 0.0.0.0 at a port of its container"
    drain = settings.get("gateway", {}).get("drain_timeout_s", 10.0)
    if pod(gateway).get("terminationGracePeriodSeconds", 30) < drain + AROUND_THE_DRAIN_S:
        yield f"{label(gateway)}: the grace is less than drain_timeout_s and {AROUND_THE_DRAIN_S} s"


def accounts_hold_no_token(these: Manifests) -> Iterator[str]:
    """ServiceAccounts are one per workload, and mount nothing by themselves."""
    for one in these.of("ServiceAccount"):
        if one.get("automountServiceAccountToken") is not False:
            yield f"{label(one)}: it mounts a token of the API server"
    used = [pod(workload).get("serviceAccountName") for workload in these.workloads()]
    for name in sorted({str(name) for name in used if used.count(name) > 1}):
        yield f"ServiceAccount/{name}: two workloads share it"


def _each_pod(rule: Callable[[Object], Iterator[str]]) -> Callable[[Manifests], Iterator[str]]:
    def of_all(these: Manifests) -> Iterator[str]:
        for workload in these.workloads():
            yield from (f"{label(workload)}: {fault}" for fault in rule(workload))

    return of_all


RULES = (
    *map(
        _each_pod,
        (
            pods_are_restricted,
            volumes_fit,
            nothing_is_given_away,
            resources_are_bounded,
            images_are_fixed,
            probes_ask,
            it_ends_in_time,
        ),
    ),
    the_gateway_is_configured,
    accounts_hold_no_token,
)
