"""Our own rules for manifests: what neither a schema nor the API server sees, or sees only once it is applied.

A rule takes the objects that are applied together and yields a sentence per fault.  Those about a single pod are in
`pod_rules`; `test_rules` plants a fault for each.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

from . import pod_rules
from .manifests import (
    CUSTOM_KINDS,
    Manifests,
    containers,
    label,
    labels_of,
    mappings,
    pod,
    ports_of,
    template,
)

Rule = Callable[[Manifests], Iterator[str]]

KNOWN = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "Secret": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "StatefulSet": "apps/v1",
    "Stream": "jetstream.nats.io/v1beta2",
}
"""Every kind in use and the version of its API; a schema checker only warns of one that it does not know."""

COMMON_LABELS = {"app.kubernetes.io/part-of": "polybus", "app.kubernetes.io/managed-by": "kustomize"}

SELECTED_BY = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component")
"""What tells one workload from all others, also from those of somebody else in the same namespace."""

OUTSIDE_SECRETS = {"polybus-nats", "polybus-accounts"}
"""Named in the base and made by whoever runs it: no secret is in these files."""

DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", re.ASCII)

LONGEST_REPLICA = 32
"""Characters of `gateway.replica`, which is the pod's name."""

SUFFIX_OF_A_POD = len("-") + 10 + len("-") + 5
"""Characters that a Deployment adds to its own name, at most."""


def kinds_are_known(these: Manifests) -> Iterator[str]:
    """Kind and version of the API belong together."""
    for one in these.objects:
        if KNOWN.get(one["kind"]) != one.get("apiVersion"):
            yield f"{label(one)}: {one.get('apiVersion')} is not the API of this kind"


def one_namespace(these: Manifests) -> Iterator[str]:
    """All are in one namespace, which is among them and enforces restricted Pod Security."""
    namespaces = these.of("Namespace")
    if len(namespaces) != 1:
        yield f"there are {len(namespaces)} Namespaces, not one"
        return
    name, labels = namespaces[0]["metadata"]["name"], labels_of(namespaces[0])
    for mode in ("enforce", "warn", "audit"):
        if labels.get(f"pod-security.kubernetes.io/{mode}") != "restricted":
            yield f"Namespace/{name}: Pod Security does not {mode} restricted"
    for one in these.objects:
        if one["kind"] != "Namespace" and one["metadata"].get("namespace") != name:
            yield f"{label(one)}: it lands in the namespace {one['metadata'].get('namespace')}, not {name}"


def names_are_legal(these: Manifests) -> Iterator[str]:
    """Names and labels that the API server takes, each name once."""
    seen = set[str]()
    for one in these.objects:
        if not DNS_1123.fullmatch(str(one["metadata"].get("name"))):
            yield f"{label(one)}: its name is not one"
        if label(one) in seen:
            yield f"{label(one)}: there are two"
        seen.add(label(one))
        for key, value in [pair for node in mappings(one) for pair in labels_of(node).items()]:
            if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(str(value)):
                yield f"{label(one)}: the label {key}={value} is not one"


def labels_are_common(these: Manifests) -> Iterator[str]:
    """Whoever lists what belongs to polybus sees all of it, its pods included."""
    for one in these.objects:
        for node in (one, template(one)) if one in these.workloads() else (one,):
            if not labels_of(node).items() >= COMMON_LABELS.items():
                yield f"{label(one)}: it lacks one of the labels {', '.join(COMMON_LABELS)}"


def selectors_fit(these: Manifests) -> Iterator[str]:
    """A workload selects its own pods, and no other's."""
    for one in these.workloads():
        selector = one["spec"].get("selector", {}).get("matchLabels", {})
        if selector and set(selector) != set(SELECTED_BY):
            yield f"{label(one)}: its selector is not {', '.join(SELECTED_BY)}"
        if not selector or these.selected(one["spec"]["selector"]) != [one]:
            yield f"{label(one)}: its selector does not hit its own pods alone"


def selectors_hit(these: Manifests) -> Iterator[str]:
    """Whatever selects pods hits some."""
    for one in these.of("Service", "PodDisruptionBudget", "PodMonitor"):
        if not one["spec"].get("selector") or not these.selected(one["spec"]["selector"]):
            yield f"{label(one)}: its selector hits no workload"
    for one in these.of("NetworkPolicy"):
        # Peers of other namespaces are not ours to know.
        peers = [peer for way in _ways(one) for peer in way if "namespaceSelector" not in peer]
        for selector in (
            one["spec"]["podSelector"],
            *(p["podSelector"] for p in peers if "podSelector" in p),
        ):
            if not these.selected(selector):
                yield f"{label(one)}: its selector hits no workload"
    for one in these.workloads():
        for spread in pod(one).get("topologySpreadConstraints", []):
            if one not in these.selected(spread.get("labelSelector")):
                yield f"{label(one)}: the selector of its spread does not hit its own pods"


def references_exist(these: Manifests) -> Iterator[str]:
    """ConfigMaps, Secrets and ServiceAccounts that pods name are applied with them, or known to come from elsewhere."""
    known = {
        "ConfigMap": these.names("ConfigMap"),
        "Secret": these.names("Secret") | OUTSIDE_SECRETS,
        "ServiceAccount": these.names("ServiceAccount"),
    }
    for one in these.workloads():
        for kind, name in _references(pod(one)):
            if name not in known[kind]:
                yield f"{label(one)}: there is no {kind} {name}"


def _references(spec: Any) -> Iterator[tuple[str, str]]:
    """Kind and name of all that a pod names."""
    yield "ServiceAccount", spec.get("serviceAccountName", "default")
    for node in mappings(spec):
        for key, kind in (
            ("configMap", "ConfigMap"),
            ("configMapKeyRef", "ConfigMap"),
            ("configMapRef", "ConfigMap"),
        ):
            if isinstance(node.get(key), dict):
                yield kind, node[key]["name"]
        for key, field in (("secret", "secretName"), ("secretKeyRef", "name"), ("secretRef", "name")):
            if isinstance(node.get(key), dict):
                yield "Secret", node[key].get(field) or node[key]["name"]


def configuration_rolls_out(these: Manifests) -> Iterator[str]:
    """A ConfigMap or Secret that pods use has a hash in its name, so that its change replaces them."""
    for one in these.workloads():
        for kind, name in _references(pod(one)):
            if (
                kind != "ServiceAccount"
                and name not in OUTSIDE_SECRETS
                and not re.search(r"-[a-z0-9]{10}$", name)
            ):
                yield f"{label(one)}: a change of {kind} {name} would not reach its pods"


def ports_exist(these: Manifests) -> Iterator[str]:
    """Ports that Services, monitors and policies mean are declared by the pods they select."""
    meant: list[tuple[Any, Any, Any]] = []
    for one in these.of("Service"):
        meant += [
            (one, one["spec"].get("selector"), p.get("targetPort", p["port"])) for p in one["spec"]["ports"]
        ]
    for one in these.of("PodMonitor"):
        meant += [
            (one, one["spec"].get("selector"), end["port"]) for end in one["spec"]["podMetricsEndpoints"]
        ]
    for one in these.of("NetworkPolicy"):
        into = [port for rule in one["spec"].get("ingress", []) for port in rule.get("ports", [])]
        meant += [(one, one["spec"]["podSelector"], port["port"]) for port in into]
    for one, selector, port in meant:
        if not any(port in ports_of(workload) for workload in these.selected(selector)):
            yield f"{label(one)}: no container that it selects declares the port {port}"


def _ways(policy: Any) -> Iterator[list[Any]]:
    """The peers of each rule of a NetworkPolicy."""
    for key, peers in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(key, []):
            yield rule.get(peers, [])


def policies_are_closed(these: Manifests) -> Iterator[str]:
    """Where there are policies, all is denied first, and each names its peers and means what it says."""
    policies = these.of("NetworkPolicy")
    if policies and not any(
        one["spec"]["podSelector"] == {} and set(one["spec"].get("policyTypes", [])) == {"Ingress", "Egress"}
        and not one["spec"].get("ingress") and not one["spec"].get("egress")
        for one in policies
    ):  # fmt: skip
        yield "no NetworkPolicy denies everything that no other allows"
    for one in policies:
        types = set(one["spec"].get("policyTypes", []))
        if not types or types - {"Ingress", "Egress"}:
            yield f"{label(one)}: policyTypes are {sorted(types)}"
        for key in ("ingress", "egress"):
            if one["spec"].get(key) and key.capitalize() not in types:
                yield f"{label(one)}: {key} is not among its policyTypes, so it does nothing"
        if any(not peers for peers in _ways(one)):
            yield f"{label(one)}: a rule without peers lets everything through"
        for block in [peer["ipBlock"] for peers in _ways(one) for peer in peers if "ipBlock" in peer]:
            yield from (f"{label(one)}: {problem}" for problem in _block_problems(block))


def _block_problems(block: Any) -> Iterator[str]:
    try:
        whole = ipaddress.ip_network(block["cidr"])
        parts = [ipaddress.ip_network(part) for part in block.get("except", [])]
    except ValueError as error:
        yield f"the CIDR is none: {error}"
        return
    if any(part.version != whole.version or not part.subnet_of(whole) for part in parts):  # type: ignore[arg-type]
        yield f"an exception is not within {whole}"
    private = ipaddress.ip_network("10.0.0.0/8" if whole.version == 4 else "fc00::/7")
    if whole.prefixlen == 0 and private not in parts:
        yield f"{whole} lets private networks through"


def budgets_let_go(these: Manifests) -> Iterator[str]:
    """A disruption budget has exactly one bound, which lets at least one pod go, and never keeps a broken one."""
    for one in these.of("PodDisruptionBudget"):
        spec = one["spec"]
        if len({"minAvailable", "maxUnavailable"} & set(spec)) != 1:
            yield f"{label(one)}: it needs either minAvailable or maxUnavailable"
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{label(one)}: pods that crash over and over would keep a node"
        least = min((w["spec"].get("replicas", 1) for w in these.selected(spec.get("selector"))), default=1)
        if spec.get("maxUnavailable") in (0, "0%") or spec.get("minAvailable", 0) in (
            *range(least, 100),
            "100%",
        ):
            yield f"{label(one)}: it lets no pod go, so no node can be drained"


def scaling_is_sane(these: Manifests) -> Iterator[str]:
    """What scales has a target of its own, bounds in order, and never more than one gateway, as they share nothing."""
    owners: dict[str, int] = {}
    for one in these.of("HorizontalPodAutoscaler", "ScaledObject"):
        target, keda = one["spec"]["scaleTargetRef"]["name"], one["kind"] == "ScaledObject"
        owners[target] = owners.get(target, 0) + 1
        least = one["spec"].get("minReplicaCount" if keda else "minReplicas", 1)
        most = one["spec"].get("maxReplicaCount" if keda else "maxReplicas", 100)
        if target not in {w["metadata"]["name"] for w in these.workloads()}:
            yield f"{label(one)}: there is no workload {target} to scale"
        if least > most:
            yield f"{label(one)}: at least {least} and at most {most} replicas"
        if target == "gateway" and (least, most) != (1, 1):
            yield f"{label(one)}: a second gateway would publish every event a second time"
    yield from (f"{target} is scaled by {count} at once" for target, count in owners.items() if count > 1)


def the_gateway_is_replaced_gently(these: Manifests) -> Iterator[str]:
    """One gateway, whose successor is ready before it drains; its pod's name can be its replica's."""
    gateway = these.find("Deployment", "gateway")
    rolling = gateway["spec"].get("strategy", {}).get("rollingUpdate", {})
    if rolling.get("maxSurge") != 1 or rolling.get("maxUnavailable") != 0:
        yield f"{label(gateway)}: maxSurge must be 1 and maxUnavailable 0, else there is a hole at each update"
    if gateway["spec"].get("replicas") != 1:
        yield f"{label(gateway)}: a second gateway would publish every event a second time"
    if len(gateway["metadata"]["name"]) + SUFFIX_OF_A_POD > LONGEST_REPLICA:
        yield f"{label(gateway)}: its pods' names are too long for gateway.replica"


def metrics_are_found_once(these: Manifests) -> Iterator[str]:
    """By a PodMonitor or by annotations: by both, everything would be counted twice."""
    for one in these.workloads():
        by_monitor = any(one in these.selected(m["spec"].get("selector")) for m in these.of("PodMonitor"))
        annotations = template(one)["metadata"].get("annotations", {})
        by_annotation = annotations.get("prometheus.io/scrape") == "true"
        if by_monitor and by_annotation:
            yield f"{label(one)}: its metrics are found by a PodMonitor and by annotations"
        if one["metadata"]["name"] == "gateway" and not (by_monitor or by_annotation):
            yield f"{label(one)}: nobody finds its metrics"
        if by_annotation and int(annotations.get("prometheus.io/port", 0)) not in ports_of(one):
            yield f"{label(one)}: prometheus.io/port is no port of its containers"


def custom_resources_say_enough(these: Manifests) -> Iterator[str]:
    """The fields without which an operator refuses or ignores its resource: no schema of them is at hand."""
    needed = {
        "PodMonitor": ("selector", "podMetricsEndpoints"),
        "PrometheusRule": ("groups",),
        "ScaledObject": ("scaleTargetRef", "triggers", "minReplicaCount", "maxReplicaCount"),
        "Stream": ("name", "subjects", "storage", "retention", "maxBytes"),
    }
    assert set(needed) == CUSTOM_KINDS
    for one in these.of(*CUSTOM_KINDS):
        if missing := [field for field in needed[one["kind"]] if not one["spec"].get(field)]:
            yield f"{label(one)}: it lacks {', '.join(missing)}"
    for stream in these.of("Stream"):
        if stream["spec"].get("storage") not in ("file", "memory"):
            yield f"{label(stream)}: storage is file or memory"


def images_agree(these: Manifests) -> Iterator[str]:
    """All commands of polybus are those of one image."""
    images = {c["image"] for w in these.workloads() for c in containers(w) if "polybus" in c["image"]}
    if len(images) > 1:
        yield f"two images of polybus: {', '.join(sorted(images))}"


RULES: tuple[Rule, ...] = (
    kinds_are_known,
    one_namespace,
    names_are_legal,
    labels_are_common,
    selectors_fit,
    selectors_hit,
    references_exist,
    configuration_rolls_out,
    ports_exist,
    policies_are_closed,
    budgets_let_go,
    scaling_is_sane,
    the_gateway_is_replaced_gently,
    metrics_are_found_once,
    custom_resources_say_enough,
    images_agree,
    *pod_rules.RULES,
)


def faults(these: Manifests) -> list[str]:
    """What is wrong with them, in sentences."""
    return [fault for rule in RULES for fault in rule(these)]
