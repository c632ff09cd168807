"""Programs of others that tests run, each with the packages it needs.

They are installed from tests/clients, or from an example's folder, at the versions and hashes in the locks there, into
a cache of the user's: never into the project's environment.  A test is skipped only where there is no Node.js or no registry; with `CI=true` a machine
that has Node.js must also get at its packages.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parents[1] / "clients"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polybus-tests"
INSTALL_S = 300.0

UNREACHABLE = (
    "ENOTFOUND",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "EAI_AGAIN",
    "E404",
    "No matching distribution",
    "Failed to establish a new connection",
)
"""What npm and pip say where the registry, or the package in it, cannot be had."""


def installed(source: Path, lock: str, *commands: list[str], probe: str, required: bool = False) -> Path:
    """The folder in which a client is installed; made at the first use, and again when its lock changes.

    Args:
        source: the folder that has its lock and its driver.
        lock: the lock's file name.
        commands: what installs it, run in the new folder.
        probe: a path in the folder that tells that the last command has done its work.
        required: a registry out of reach is a failure, not a reason to skip.
    """
    name = source.name
    digest = hashlib.sha256((source / lock).read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = CACHE / f"{name}-{digest}"
    done = folder / "installed"
    if not (done.exists() and (folder / probe).exists()):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("node_modules", "build"))
        for command in commands:
            ran = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
            said = f"{ran.stdout}\n{ran.stderr}"
            why = [line for line in said.splitlines() if any(word in line for word in UNREACHABLE)]
            if ran.returncode and why and not required:
                pytest.skip(f"{name}: the registry, or a package in it, cannot be had: {why[-1]}")
            assert ran.returncode == 0, said
        done.touch()
    else:
        # The driver may be newer than the installation.
        for script in source.glob("driver.*"):
            shutil.copy(script, folder)
    return folder


def installed_by_npm(source: Path, probe: str) -> Path:
    """The folder in which a client for Node.js, or what one needs, is installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not on this machine")
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    return installed(
        source, "package-lock.json", install, probe=probe, required=os.environ.get("CI") == "true"
    )
