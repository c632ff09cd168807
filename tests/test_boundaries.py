"""Imports point one way, services -> actors -> protocol, and the core needs none of the others' dependencies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_core_is_tested_alone(tmp_path: Path) -> None:
    """`make core` runs tests/protocol where nothing else is installed: a test that imports more fails there."""
    (tmp_path / "test_greedy.py").write_text(
        "def test_greedy():\n    import anyio\n\n\ndef test_content():\n    import polybus_protocol\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.core_alone", "-q", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "import of anyio halted" in run.stdout
    assert "1 failed, 1 passed" in run.stdout


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("protocol/polybus_protocol", "import anyio"),
        ("protocol/polybus_protocol", "import asyncio"),
        ("protocol/polybus_protocol", "from nats.aio.client import Client"),
        ("protocol/polybus_protocol", "from time import monotonic"),
        ("protocol/polybus_protocol", "from random import random"),
        ("protocol/polybus_protocol", "import logging"),
        ("protocol/polybus_protocol", "from datetime import datetime\n\nNOW = datetime.now()"),
        ("protocol/polybus_protocol", "from polybus_actors import pool"),
        ("protocol/polybus_protocol", "from polybus_services import cli"),
        ("actors/polybus_actors", "from polybus_services import cli"),
        ("actors/polybus_actors", "import asyncio\n\nTASK = asyncio.create_task(None)"),
    ],
)
def test_the_linter_refuses(folder: str, line: str) -> None:
    """What a layer may not use is an error that says why, before any test runs."""
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--no-cache",
            "--select=TID251",
            f"--stdin-filename={folder}/new.py",
            "-",
        ],
        cwd=ROOT,
        input=line + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "TID251" in run.stdout
