"""Each rule catches what it is there for: faults planted into manifests that have none."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import yaml

from .manifests import Manifests, Object, load_all, pod, rendered
from .rules import RULES, faults


@cache
def parsed() -> list[Object]:
    """Every component's objects."""
    return load_all(rendered("everything"))


def everything() -> Manifests:
    """A copy of them, to plant a fault into."""
    return Manifests(deepcopy(parsed()))


def deployment(these: Manifests) -> Object:
    """The gateway's Deployment."""
    return these.find("Deployment", "gateway")


def spec(these: Manifests) -> Object:
    """The spec of the gateway's pod."""
    return pod(deployment(these))


def box(these: Manifests) -> Object:
    """The gateway's container."""
    first: Object = spec(these)["containers"][0]
    return first


def policy(these: Manifests) -> Object:
    """The spec of the gateway's NetworkPolicy."""
    found: Object = these.find("NetworkPolicy", "gateway")["spec"]
    return found


def budget(these: Manifests) -> Object:
    """The spec of the gateway's PodDisruptionBudget."""
    found: Object = these.find("PodDisruptionBudget", "gateway")["spec"]
    return found


def drop(of: Callable[[Manifests], Object], *path: str) -> Callable[[Manifests], Any]:
    """A fault: something is not there."""

    def planted(these: Manifests) -> None:
        node = of(these)
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]

    return planted


def put(of: Callable[[Manifests], Object], path: str, value: object) -> Callable[[Manifests], Any]:
    """A fault: something is different; of lists the first entry is meant."""

    def planted(these: Manifests) -> None:
        node = of(these)
        *way, last = path.split(".")
        for key in way:
            node = node[key]
            node = node[0] if isinstance(node, list) else node
        node[last] = value

    return planted


def autoscaler(**changes: object) -> Callable[[Manifests], Any]:
    """A fault: a HorizontalPodAutoscaler for NATS with something wrong about it."""

    def planted(these: Manifests) -> None:
        model = these.find("ScaledObject", "gateway")["metadata"]
        scaled = {
            "scaleTargetRef": {"kind": "Deployment", "name": "nats"},
            "minReplicas": 1,
            "maxReplicas": 2,
        }
        these.objects.append(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": model | {"name": "nats"},
                "spec": scaled | changes,
            }
        )

    return planted


def named(kind: str, name: str) -> Callable[[Manifests], Object]:
    """An object, to plant a fault into."""
    return lambda these: these.find(kind, name)


VARIABLE = "POLYBUS_NATS__PASSWORD"

PLANTED: dict[str, tuple[Callable[[Manifests], Any], str]] = {
    # What the API server refuses, or would only warn of.
    "removed api": (
        put(named("PodDisruptionBudget", "gateway"), "apiVersion", "policy/v1beta1"),
        "not the API",
    ),
    "bad name": (put(named("Service", "nats"), "metadata.name", "nats_dev"), "its name is not one"),
    "bad label": (put(deployment, "metadata.labels.team", "a team"), "the label team=a team"),
    "twice the same": (lambda these: these.objects.append(these.find("Service", "nats")), "there are two"),
    "selector mismatch": (
        lambda these: deployment(these)["spec"]["selector"]["matchLabels"].update(
            {"app.kubernetes.io/name": "bus"}
        ),
        "does not hit its own pods",
    ),
    "mount without volume": (put(box, "volumeMounts.name", "cache"), "it mounts cache"),
    "unused volume": (lambda these: box(these)["volumeMounts"].pop(), "the volume tmp is not mounted"),
    "bad quantity": (put(box, "resources.limits.memory", "512MB"), "512MB is no limit"),
    "request over limit": (put(box, "resources.requests.memory", "1Gi"), "more memory than its limit"),
    "bad cidr": (put(policy, "egress", [{"to": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]), "the CIDR is none"),
    "exception outside": (
        put(policy, "egress", [{"to": [{"ipBlock": {"cidr": "1.0.0.0/8", "except": ["2.0.0.0/16"]}}]}]),
        "not within",
    ),
    "two handlers": (put(box, "livenessProbe.exec", {"command": ["true"]}), "exactly one handler"),
    "both bounds": (put(budget, "minAvailable", 1), "either minAvailable or maxUnavailable"),
    "sleep over grace": (
        put(box, "lifecycle", {"preStop": {"sleep": {"seconds": 30}}}),
        "preStop.sleep is not below",
    ),
    "min over max": (autoscaler(minReplicas=3), "at least 3 and at most 2"),
    # What Pod Security refuses, if it is there.
    "not enforced": (
        lambda these: these.of("Namespace")[0]["metadata"]["labels"].pop(
            "pod-security.kubernetes.io/enforce"
        ),
        "does not enforce restricted",
    ),
    "root": (put(spec, "securityContext.runAsUser", 0), "runAsUser is no number above 0"),
    "maybe root": (drop(spec, "securityContext", "runAsNonRoot"), "runAsNonRoot is not set"),
    "no seccomp": (drop(spec, "securityContext", "seccompProfile"), "seccompProfile"),
    "privileged": (put(box, "securityContext.privileged", True), "privileged"),
    "escalation": (drop(box, "securityContext", "allowPrivilegeEscalation"), "allowPrivilegeEscalation"),
    "capabilities": (put(box, "securityContext.capabilities.add", ["NET_ADMIN"]), "capabilities"),
    "writable root": (drop(box, "securityContext", "readOnlyRootFilesystem"), "readOnlyRootFilesystem"),
    "host network": (put(spec, "hostNetwork", True), "hostNetwork is set"),
    "host port": (put(box, "ports.hostPort", 9464), "a port of its node"),
    "host path": (
        lambda these: spec(these)["volumes"].append({"name": "tmp", "hostPath": {"path": "/"}}),
        "Pod Security refuses",
    ),
    "probe host": (put(box, "livenessProbe.httpGet.host", "127.0.0.1"), "names a host"),
    # What everybody accepts, and nothing works.
    "probe port": (put(box, "readinessProbe.httpGet.port", "metrics"), "no port of the container"),
    "no probe": (drop(box, "livenessProbe"), "it has no livenessProbe"),
    "liveness asks NATS": (put(box, "livenessProbe.httpGet.path", "/ready"), "asks /ready, not /live"),
    "probe by program": (put(box, "livenessProbe", {"exec": {"command": ["polybus"]}}), "not ask over HTTP"),
    "no limit": (drop(box, "resources", "limits", "memory"), "no limit of memory"),
    "no request": (drop(box, "resources", "requests", "cpu"), "requests no cpu"),
    "throttled": (put(box, "resources.limits.cpu", "1"), "a limit of cpu"),
    "ephemeral storage": (
        put(box, "resources.requests.ephemeral-storage", "1Gi"),
        "pending on nodes that report none",
    ),
    "latest": (put(box, "image", "registry.example:5000/polybus:latest"), "another one tomorrow"),
    "no tag": (put(box, "image", "registry.example:5000/polybus"), "another one tomorrow"),
    "two images": (put(box, "image", "polybus:0.0.9"), "two images of polybus"),
    "no such ConfigMap": (
        put(spec, "volumes.configMap", {"name": "gateway-config"}),
        "there is no ConfigMap",
    ),
    "no such Secret": (
        lambda these: spec(these)["volumes"][1]["secret"].update(secretName="polybus-login"),
        "there is no Secret polybus-login",
    ),
    "no such ServiceAccount": (put(spec, "serviceAccountName", "gate"), "there is no ServiceAccount gate"),
    "shared ServiceAccount": (put(spec, "serviceAccountName", "nats"), "two workloads share it"),
    "no hash": (
        lambda these: (
            these.find("ConfigMap", "nats-config")["metadata"].update(name="nats-config"),
            pod(these.find("Deployment", "nats"))["volumes"][0]["configMap"].update(name="nats-config"),
        ),
        "a change of ConfigMap nats-config would not reach",
    ),
    "other namespace": (put(named("ScaledObject", "gateway"), "metadata.namespace", "default"), "lands in"),
    "no common label": (
        lambda these: deployment(these)["spec"]["template"]["metadata"]["labels"].pop(
            "app.kubernetes.io/part-of"
        ),
        "it lacks one of the labels",
    ),
    "Service of nothing": (
        put(named("Service", "nats"), "spec.selector", {"app": "nats"}),
        "hits no workload",
    ),
    "Service port": (
        lambda these: these.find("Service", "nats")["spec"]["ports"][0].update(targetPort="client"),
        "declares the port client",
    ),
    "monitor of nothing": (
        put(named("PodMonitor", "gateway"), "spec.selector.matchLabels", {"app": "gateway"}),
        "PodMonitor/gateway: its selector hits no workload",
    ),
    "monitor port": (
        lambda these: these.find("PodMonitor", "gateway")["spec"]["podMetricsEndpoints"][0].update(
            port="metrics"
        ),
        "declares the port metrics",
    ),
    "found twice": (
        lambda these: deployment(these)["spec"]["template"]["metadata"].update(
            annotations={"prometheus.io/scrape": "true", "prometheus.io/port": "9464"}
        ),
        "by a PodMonitor and by annotations",
    ),
    "budget of nothing": (put(budget, "selector.matchLabels", {"app": "gateway"}), "hits no workload"),
    "budget that holds": (
        lambda these: (budget(these).pop("maxUnavailable"), budget(these).update(minAvailable=1)),
        "no node can be drained",
    ),
    "broken pods keep a node": (drop(budget, "unhealthyPodEvictionPolicy"), "crash over and over"),
    "policy of nothing": (put(policy, "podSelector.matchLabels", {"app": "gateway"}), "hits no workload"),
    "policy type": (put(policy, "policyTypes", ["Ingress", "Outgress"]), "policyTypes are"),
    "policy without effect": (put(policy, "policyTypes", ["Ingress"]), "so it does nothing"),
    "egress wide open": (put(policy, "egress", [{"ports": [{"port": 443}]}]), "without peers"),
    "egress inwards": (put(policy, "egress", [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]), "lets private"),
    "no default": (
        lambda these: these.objects.remove(these.find("NetworkPolicy", "default-deny")),
        "no NetworkPolicy denies",
    ),
    "policy port": (
        lambda these: policy(these)["ingress"][0]["ports"][0].update(port="metrics"),
        "declares the port metrics",
    ),
    "spread of nothing": (
        lambda these: spec(these)["topologySpreadConstraints"][0].update(
            labelSelector={"matchLabels": {"a": "b"}}
        ),
        "the selector of its spread",
    ),
    "scaler of nothing": (
        put(named("ScaledObject", "gateway"), "spec.scaleTargetRef.name", "gate"),
        "no workload gate",
    ),
    "two gateways": (put(deployment, "spec.replicas", 2), "a second gateway"),
    "gateways by load": (
        put(named("ScaledObject", "gateway"), "spec.maxReplicaCount", 4),
        "a second gateway",
    ),
    "two scalers": (
        autoscaler(scaleTargetRef={"kind": "Deployment", "name": "gateway"}, maxReplicas=1),
        "scaled by 2 at once",
    ),
    "hole at updates": (put(deployment, "spec.strategy", {"type": "Recreate"}), "a hole at each update"),
    "long name": (put(deployment, "metadata.name", "gateway-0123456789"), "too long"),
    # What gives secrets away.
    "token": (drop(spec, "automountServiceAccountToken"), "a token of the API server"),
    "token of the account": (
        drop(named("ServiceAccount", "gateway"), "automountServiceAccountToken"),
        "ServiceAccount/gateway: it mounts a token",
    ),
    "service links": (drop(spec, "enableServiceLinks"), "Services add variables"),
    "literal secret": (
        lambda these: box(these)["env"].append({"name": VARIABLE, "value": "x"}),
        "belongs into a file",
    ),
    "secret as a variable": (
        lambda these: box(these)["env"].append(
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "polybus-nats", "key": "x"}}}
        ),
        "the variable X holds a secret",
    ),
    "secrets as variables": (
        put(box, "envFrom", [{"secretRef": {"name": "polybus-nats"}}]),
        "variables from a Secret",
    ),
    "secret for all": (
        lambda these: spec(these)["volumes"][1]["secret"].update(defaultMode=0o644),
        "not of mode 0440",
    ),
    "secret for root": (drop(spec, "securityContext", "fsGroup"), "nobody but root"),
    # What ends badly.
    "short grace": (put(spec, "terminationGracePeriodSeconds", 15), "the grace is less"),
    "no grace": (drop(spec, "terminationGracePeriodSeconds"), "terminationGracePeriodSeconds is not set"),
    "unbounded volume": (
        lambda these: spec(these)["volumes"][-1].update(emptyDir={"medium": "Memory"}),
        "may fill its node",
    ),
    "health elsewhere": (
        lambda these: these.find("ConfigMap", "gateway-config")["data"].update(
            {"polybus.toml": "[http]\nport = 80"}
        ),
        "[http] is not",
    ),
    "half a monitor": (drop(named("PodMonitor", "gateway"), "spec", "selector"), "it lacks selector"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_caught(fault: str) -> None:
    """The manifests have no fault; with this one in them, a sentence says what and where."""
    plant, sentence = PLANTED[fault]
    these = everything()
    plant(these)
    assert any(sentence in found for found in faults(these)), faults(these)


def test_every_rule_catches_something() -> None:
    """No rule is there that no planted fault sets off."""
    silent = set(RULES)
    for plant, _ in PLANTED.values():
        these = everything()
        plant(these)
        silent -= {rule for rule in silent if next(rule(these), None)}
    assert silent == set()


def test_a_doubled_key_is_caught() -> None:
    """Every other loader silently keeps the last."""
    with pytest.raises(yaml.YAMLError, match="'replicas' stands twice"):
        load_all("spec:\n  replicas: 1\n  replicas: 2\n")
