"""The component `streams`: what NACK makes is what the gateway would make."""

from polybus_actors.publishing.streams import PLANS, Limits, StreamsSettings, stream_name
from polybus_protocol import PREFIX

from .manifests import Manifests, load_all, rendered

TOLD = {"subjects", "storage", "replicas", "maxAge", "maxBytes", "duplicateWindow", "maxMsgsPerSubject"}
"""What the gateway's settings say of a stream."""


def test_the_streams_are_the_gateways() -> None:
    """As resources they are what the gateway would make of its defaults."""
    found = {
        one["spec"]["name"]: {key: value for key, value in one["spec"].items() if key in TOLD}
        for one in Manifests(load_all(rendered("everything"))).of("Stream")
    }
    settings = StreamsSettings()
    wanted = {}
    for plan in PLANS:
        limits: Limits = getattr(settings, plan.key)
        wanted[stream_name(settings.name, plan)] = {
            "subjects": [f"{PREFIX}.{family}.>" for family in plan.families],
            "storage": settings.storage,
            "replicas": settings.replicas,
            "maxAge": f"{limits.max_age_s / 3600:.0f}h",
            "maxBytes": limits.max_bytes,
            "duplicateWindow": f"{settings.duplicate_window_s:.0f}s",
        } | ({"maxMsgsPerSubject": plan.per_subject} if plan.per_subject > 0 else {})
    assert found == wanted
