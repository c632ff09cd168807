"""What all commands share: the options before or after the command, output, and what errors become.

What only some need is imported where they need it: `polybus --help` must not wait for it.
"""

import functools
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from polybus_protocol.errors import ControlError

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from rich.console import Console

    from polybus_services.config import Config

FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
"""Exit statuses besides 0; 130 is what shells give to a program that Ctrl-C ended."""

Function = TypeVar("Function", bound=Callable[..., Any])


class Failure(Exception):
    """A command ends without success; its text is one sentence for the person at the terminal."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class Invocation:
    """What was said on the command line besides the command."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.no_color = False
        self._options: dict[str, tuple[str, str]] = {}

    def remember(self, name: str, value: Any) -> None:
        """Take in the value of a common option."""
        match name:
            case "config_file":
                self.file = value
            case "nats":
                self._options["nats.url"] = (value, "--nats")
            case "prefix":
                self._options["gateway.prefix"] = (value, "--prefix")
            case _:
                self.no_color = value

    @property
    def has_settings(self) -> bool:
        """Whether anything was said that only a configuration would take in."""
        return self.file is not None or bool(self._options)

    def config(self) -> "Config":
        """The effective configuration.

        Raises:
            ConfigError: it has a fault.
        """
        from polybus_services.config import load

        return load(self.file, os.environ, self._options)

    def console(self, *, stderr: bool = False) -> "Console":
        """Where people read; plain when it is no terminal, when NO_COLOR is set or with --no-color."""
        from polybus_services.cli.console import console

        return console(stderr=stderr, no_color=self.no_color)


pass_invocation = click.make_pass_decorator(Invocation)


def common_options(*, hidden: bool = True) -> Callable[[Function], Function]:
    """The options that every command takes; they may stand before the command as well as after it."""

    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None and value is not False and param.name is not None:
            ctx.ensure_object(Invocation).remember(param.name, value)

    options = [
        click.option(
            "-c",
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            help="The TOML file with settings.",
        ),
        click.option("--nats", metavar="URL", help="NATS, as nats://host:port; several with commas."),
        click.option("--prefix", help="First tokens of the subjects  [default: polymarket.v1]."),
        click.option("--no-color", is_flag=True, help="Plain text."),
    ]

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        command_parameters = function.__click_params__  # type: ignore[attr-defined]
        for parameter in command_parameters[-len(options) :]:
            parameter.expose_value = False
            parameter.callback = remember
            parameter.hidden = hidden
        return function

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="JSON for programs instead of text.")


def print_json(value: object) -> None:
    """One JSON value on one line, at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def async_command(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Let click call a coroutine function."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        import anyio

        return anyio.run(functools.partial(function, *args, **kwargs))

    return call


@asynccontextmanager
async def until_stopped() -> AsyncIterator[None]:
    """Leave the block at Ctrl-C or SIGTERM, as if it had come to its end: for commands whose ordinary end that is."""
    import anyio

    async def listen(*, task_status: "TaskStatus[None]") -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        await tasks.start(listen)
        yield
        tasks.cancel_scope.cancel()


def report(error: BaseException, *, as_json: bool) -> int:
    """Tell what went wrong, in one sentence; the exit status."""
    error = first_error(error)
    status, kind, message = _explain(error)
    if message and as_json:
        details = {"kind": kind, "message": message}
        from polybus_services.client import ServiceRefused

        if isinstance(error, ServiceRefused | ControlError):
            details |= {"code": error.code, "field": error.field}  # type: ignore[dict-item]
        sys.stderr.write(msgspec.json.encode({"error": details}).decode() + "\n")
    elif message:
        sys.stderr.write(f"polybus: {message}\n")
    return status


def first_error(error: BaseException) -> BaseException:
    """The error itself where task groups wrapped it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _explain(error: BaseException) -> tuple[int, str, str]:
    """Exit status, kind and sentence of an error."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code, "", ""
        case click.Abort() | KeyboardInterrupt():
            return INTERRUPTED, "interrupted", ""
        case click.UsageError():
            return WRONG_USAGE, "usage", _usage(error)
        case click.ClickException():
            return error.exit_code, "failed", error.format_message()
        case Failure():
            return error.status, "failed", str(error)
        case ControlError():
            return WRONG_USAGE, "usage", error.message
        case _:
            return _explain_more(error)


def _explain_more(error: BaseException) -> tuple[int, str, str]:
    """The same of an error that comes from further away."""
    # Only these are raised for a person to read; any other is a fault of ours.
    from polybus_services.client import NatsUnreachable, NoGateway, NotPermitted, ServiceRefused
    from polybus_services.config import ConfigError
    from polybus_services.demo.processes import ChildFailed
    from polybus_services.demo.venue import VenueFailed
    from polybus_services.nats_server import NatsServerFailed, NatsServerNotFound
    from polybus_services.replay import NotRecorded

    match error:
        case ChildFailed() | VenueFailed():
            return FAILED, "failed", str(error)
        case ConfigError():
            return WRONG_USAGE, "configuration", str(error)
        case ServiceRefused():
            status = {400: WRONG_USAGE, 503: UNREACHABLE}.get(error.code, FAILED)
            return status, "refused", f"the gateway refused: {error.message} ({error.code})"
        case NotPermitted():
            return FAILED, "refused", str(error)
        case NatsUnreachable() | NoGateway() | NotRecorded() | NatsServerNotFound() | NatsServerFailed():
            return UNREACHABLE, "unreachable", str(error)
        case _:
            return FAILED, "bug", f"this is a fault in polybus, please report it: {_where(error)}"


def _usage(error: click.UsageError) -> str:
    """Click's complaint as the one sentence that it is, with where to read on."""
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:].replace(". Did you mean", ", did you mean")
    command = error.ctx.command_path if error.ctx is not None else "polybus"
    return f"{message} (see `{command} --help`)"


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
