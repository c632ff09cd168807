"""`polybus contract`: what consumers in any language rely on, as files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from polybus_protocol.control.replies import ContractReply
from polybus_services.cli.support import (
    Failure,
    Invocation,
    common_options,
    json_option,
    pass_invocation,
    print_json,
)


@click.command(
    "contract",
    epilog="""\b
Examples:
  polybus contract > asyncapi.json               the AsyncAPI 3 document
  polybus contract --out contract                that, and a JSON Schema for each event, request and reply
  polybus contract --pages docs                  events and control verbs for people, as two pages of Markdown
  polybus contract --against asyncapi.json       does this version still keep what that file promises?
  polybus contract --prefix desk.polymarket      for a gateway that publishes under another prefix

A gateway tells its own: nats req polymarket.v1.control.contract ''
""",
)
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write all of it as files into this folder.",
)
@click.option(
    "--pages",
    "pages_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write it for people, as Markdown, into this folder.",
)
@click.option(
    "--against",
    "promise",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Name what breaks those who rely on this AsyncAPI document; exit status 1 if anything does.",
)
@json_option
@common_options()
@pass_invocation
def contract(
    invocation: Invocation,
    *,
    folder: Path | None,
    pages_folder: Path | None,
    promise: Path | None,
    as_json: bool,
) -> None:
    """Write down what this version promises: subjects, events, control verbs.

    Without an option, the AsyncAPI document goes to standard output.
    """
    from polybus_protocol.contract import asyncapi, files, pages

    prefix = invocation.config().gateway.prefix
    if sum(option is not None for option in (folder, pages_folder, promise)) > 1:
        raise click.UsageError("--out, --pages and --against are different things: give one of them")
    if pages_folder is not None:
        told = {name: page.encode() for name, page in pages(asyncapi(prefix)).items()}
        _write_all(invocation, pages_folder, told, as_json=as_json)
    elif folder is not None:
        _write_all(invocation, folder, files(prefix), as_json=as_json)
    elif promise is not None:
        broken = _broken(promise)
        if as_json:
            print_json({"breaking_changes": broken})
        else:
            invocation.console().print("\n".join(broken) or f"all that {promise} promises is kept")
        if broken:
            raise click.exceptions.Exit(1)
    elif as_json:
        print_json(asyncapi(prefix))
    else:
        click.echo(files(prefix)["asyncapi.json"], nl=False)


def _write_all(invocation: Invocation, folder: Path, made: Mapping[str, bytes], *, as_json: bool) -> None:
    for name, content in made.items():
        _write(folder / name, content)
    if as_json:
        print_json({"folder": str(folder), "files": list(made)})
    else:
        invocation.console().print(f"{len(made)} files written to {folder}")


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from None


def _broken(promise: Path) -> list[str]:
    """What breaks those who rely on a document, under whatever prefix it has."""
    from polybus_protocol.contract import asyncapi, breaking_changes

    try:
        old: dict[str, Any] = msgspec.to_builtins(
            msgspec.json.decode(promise.read_bytes(), type=ContractReply)
        )
        prefix = old["info"]["x-nats"]["prefix"]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise Failure(f"{promise} is not an AsyncAPI document of polybus: {error}") from None
    return breaking_changes(old, asyncapi(prefix))
