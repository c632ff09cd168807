"""A gateway in a process of its own, which a test may kill."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec

from .rig import QUICK_FEEDS


class Process:
    """`polybus run` in a process of its own."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self.process = process
        self.ready: dict[str, Any] = {}
        self.log = b""

    async def listen(self) -> None:
        """Read its log, or it would stand still when the pipe is full."""
        assert self.process.stderr is not None
        async for chunk in self.process.stderr:
            self.log += chunk


@asynccontextmanager
async def gateway_process(
    nats_url: str,
    urls: Mapping[str, str],
    folder: Path,
    accounts: Sequence[Mapping[str, str]] = (),
) -> AsyncIterator[Process]:
    """A gateway process that is ready, killed at the end of the block if it is still there.

    Args:
        nats_url: where NATS is.
        urls: where each feed is.
        folder: for its configuration.
        accounts: as the simulator tells them; PolyBolt is asked as the first.
    """
    lines = [f'[nats]\nurl = "{nats_url}"']
    for feed, url in urls.items():
        settings = msgspec.to_builtins(msgspec.structs.replace(QUICK_FEEDS[feed], url=url))
        backoff = settings.pop("backoff")
        lines += [
            f"[feeds.{feed}]",
            *(f"{k} = {json.dumps(v)}" for k, v in settings.items() if v is not None),
        ]
        lines += [f"[feeds.{feed}.backoff]", *(f"{key} = {value}" for key, value in backoff.items())]
    if accounts:
        lines += ["[prices]", f'account = "{accounts[0]["label"]}"']
    for account in accounts:
        lines += [f"[accounts.{account['label']}]"]
        lines += [f'{field} = "{account[field]}"' for field in ("api_key", "secret", "passphrase")]
    config = folder / "gateway.toml"
    config.write_text("\n".join(lines))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("POLYBUS_", "NATS_"))}
    process = await anyio.open_process(
        [sys.executable, "-m", "polybus_services", "run", "--json", "--config", str(config)],
        stdin=subprocess.DEVNULL,
        env=environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    running = Process(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.listen)
        try:
            with anyio.fail_after(20):
                assert process.stdout is not None
                line = b""
                while b"\n" not in line:
                    line += await process.stdout.receive()
                running.ready = json.loads(line)
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await process.aclose()
