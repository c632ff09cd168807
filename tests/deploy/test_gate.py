"""`make check`: what others know about manifests, images and compose files, each shown to catch something.

The tools live in an environment of their own, which the variable POLYBUS_CHECK names.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .manifests import CUSTOM_KINDS, OVERLAYS, ROOT, rendered

pytestmark = pytest.mark.skipif(
    "POLYBUS_CHECK" not in os.environ, reason="these want tools of their own: `make check` has them"
)

VERSIONS = ("1.30", "1.34", "1.37")
"""Of Kubernetes: the oldest that knows every field in use, the one whose Pod Security is strictest, the newest."""


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the tools."""
    command = [str(ROOT / os.environ["POLYBUS_CHECK"] / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def schema_faults(version: str, *files: Path) -> list[str]:
    """What kubernetes-validate complains of; it only warns of a kind it does not know, and exits with 0."""
    run = tool("kubernetes-validate", "--strict", "--quiet", "-k", version, *files)
    lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    own = tuple(f"Couldn't find schema for kind {kind} " for kind in CUSTOM_KINDS)
    found = [line for line in lines if not any(sentence in line for sentence in own)]
    return found or ([f"exit status {run.returncode}"] if run.returncode else [])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Each overlay, rendered into a file."""
    written = {}
    for overlay in OVERLAYS:
        written[overlay] = tmp_path / f"{overlay}.yaml"
        written[overlay].write_text(rendered(overlay), encoding="utf-8")
    return written


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(version: str, files: dict[str, Path]) -> None:
    """The schemas of three versions, strictly: no unknown kind, field or type."""
    assert schema_faults(version, *files.values()) == []


@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        ("enableServiceLinks", "enableServiceLink", "enableServiceLink"),
        ("replicas: 1", "replicas: one", "is not of type 'integer'"),
        ("whenUnsatisfiable: ScheduleAnyway", "", "'whenUnsatisfiable' is a required property"),
        ("apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n", "Couldn't find schema"),
    ],
)
def test_a_schema_catches(right: str, wrong: str, sentence: str, tmp_path: Path) -> None:
    """A field's name or type, one that is missing, an API that is gone."""
    file = tmp_path / "planted.yaml"
    assert right in rendered("prod")
    file.write_text(rendered("prod").replace(right, wrong), encoding="utf-8")
    assert any(sentence in fault for fault in schema_faults("1.34", file))


def test_checkov_finds_nothing_but_what_is_planted(files: dict[str, Path], tmp_path: Path) -> None:
    """All that it knows of Kubernetes and Dockerfiles, less what deploy/checkov.yaml gives reasons for."""
    planted = tmp_path / "planted.yaml"
    planted.write_text(
        rendered("prod")
        .replace("readOnlyRootFilesystem: true", "privileged: true")
        .replace("livenessProbe:", "probe:"),
        encoding="utf-8",
    )
    wanted = [
        argument for file in (*files.values(), planted, ROOT / "Dockerfile") for argument in ("-f", file)
    ]
    run = tool(
        "checkov",
        *("--config-file", "deploy/checkov.yaml", "--framework", "kubernetes", "dockerfile"),
        *("--skip-download", "--quiet", "--compact", "--output", "json"),
        *wanted,
    )
    reports: list[dict[str, Any]] = json.loads(run.stdout)
    assert {report["check_type"] for report in reports} == {"kubernetes", "dockerfile"}
    assert all(report["summary"]["passed"] > 20 for report in reports)
    failed = {
        (Path(check["file_path"]).name, check["check_id"])
        for report in reports
        for check in report["results"]["failed_checks"]
    }
    privileged, writable, alive = "CKV_K8S_16", "CKV_K8S_22", "CKV_K8S_8"
    assert failed == {("planted.yaml", check) for check in (privileged, writable, alive)}


def test_hadolint_likes_the_dockerfile(tmp_path: Path) -> None:
    """It finds nothing, and something in a worse one."""
    run = tool("hadolint", "Dockerfile")
    assert run.returncode == 0, run.stdout
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN pip install polybus\nCMD polybus run\n", encoding="utf-8")
    assert {"DL3006", "DL3013", "DL3025"} <= set(tool("hadolint", bad).stdout.split())


def test_the_compose_file_is_one(tmp_path: Path) -> None:
    """By the schema of the compose specification, which refuses a misspelt key."""
    schema = ("--builtin-schema", "vendor.compose-spec")
    run = tool("check-jsonschema", *schema, "compose.yaml")
    assert run.returncode == 0, run.stdout
    bad = tmp_path / "compose.yaml"
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    bad.write_text(text.replace("read_only:", "readonly:"), encoding="utf-8")
    assert "readonly" in tool("check-jsonschema", *schema, bad).stdout
