"""`polybus tail`: events as a consumer gets them."""

import math
import sys
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import click
import msgspec
from nats.aio.msg import Msg
from rich.text import Text

from polybus_actors.publishing.streams import PLANS
from polybus_protocol.control.asking import EVENT_TYPES
from polybus_protocol.events import AnyEvent, LastBook, decode_event, type_of
from polybus_services.cli.duration import DURATION
from polybus_services.cli.sights import SEEN, sight_options, subjects_seen
from polybus_services.cli.support import (
    Invocation,
    async_command,
    common_options,
    json_option,
    pass_invocation,
    until_stopped,
)
from polybus_services.client import ControlClient, NatsUnreachable
from polybus_services.order import Follower, Jump
from polybus_services.present.events import event_line, jump_line
from polybus_services.replay import Start, ago, at, stream_of


@click.command(
    epilog="""\b
Examples:
  polybus tail                                   all events, what could not be read, and the gateway's notices
  polybus tail --asset 71321045679252212594 --type last_trade_price
  polybus tail --market 0xd7a1... --seconds 60
  polybus tail --account alice --type trade
  polybus tail --feed rtds                       the venue's activity, comments and prices
  polybus tail --symbol BTC/USD --symbol aapl --json | jq -r '[.symbol, .value, .source] | @tsv'
  polybus tail --feed sports --league nfl
  polybus tail --family unknown --family system  what could not be read, and what connections do
  polybus tail 'polymarket.v1.market.*.*.book' --count 10
  polybus tail --json | jq -r 'select(.type == "gap") | .reason'
  polybus tail --account alice --since 2h        what was recorded in the last two hours, and then live
  polybus tail --feed market --from-seq 1500     from this sequence of the stream POLYBUS_MARKET on
  polybus tail --asset 71321045679252212594 --last  its last book, and then live

It only listens: what nobody has subscribed to (see `polybus subscribe`) is not published.

Order is checked on the way: gaps, and jumps in `seq` that no gap explains, get a line of their own (with --json
jumps go to standard error).
"""
)
@click.argument("subjects", metavar="[SUBJECT]...", nargs=-1)
@sight_options
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice(EVENT_TYPES),
    metavar="TYPE",
    help=f"Show only these, and gaps: {', '.join(EVENT_TYPES)}.",
)
@click.option("--since", type=DURATION, help="Begin with what was recorded so long ago, as 5m or 2h.")
@click.option(
    "--from-seq", type=click.IntRange(1), help="Begin at this sequence of the one stream looked at."
)
@click.option("--last", is_flag=True, help="Begin with the last book of each asset.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many events.")
@click.option("--seconds", type=DURATION, help="Stop after so long, as 30 or 5m.")
@json_option
@common_options()
@pass_invocation
@async_command
async def tail(
    invocation: Invocation,
    *,
    subjects: tuple[str, ...],
    feeds: tuple[str, ...],
    types: tuple[str, ...],
    since: float | None,
    from_seq: int | None,
    last: bool,
    count: int | None,
    seconds: float | None,
    as_json: bool,
    **narrowing: tuple[str, ...],
) -> None:
    """Show events from NATS, live or out of the record, and whether any is missing."""
    config = invocation.config()
    prefix = config.gateway.prefix
    named = [*subjects, *subjects_seen(feeds, narrowing, prefix)]
    beginnings = [option for option in (since, from_seq, last or None) if option is not None]
    if len(beginnings) > 1:
        raise click.UsageError(
            "--since, --from-seq and --last are three beginnings: choose one", click.get_current_context()
        )
    seen = ("market",) if last else RECORDED if beginnings else SEEN
    wanted = named or [f"{prefix}.{family}.>" for family in seen]
    for subject in wanted:
        if not all(subject.split(".")) or any(letter.isspace() for letter in subject):
            raise click.UsageError(f"{subject!r} is not a NATS subject", click.get_current_context())
    start = ago(since) if since is not None else at(from_seq) if from_seq is not None else None
    books = books_of(wanted, prefix) if last else []
    if start is not None:
        _check_recorded(wanted, prefix, config.streams.name, one_only=from_seq is not None)
    # A subject that names a type leaves out the events between: there, a jump says nothing.
    in_order = all(subject.endswith(".>") for subject in wanted)
    output = JsonOutput() if as_json else TextOutput(invocation)
    viewer = Viewer(output, frozenset(types), in_order=in_order)

    def nats_changed(*, connected: bool) -> None:
        output.note("NATS is back" if connected else "NATS is away: what is published meanwhile is missed")

    async with (
        ControlClient.connect(
            config.nats, prefix=prefix, name="polybus-tail", on_connection=nats_changed
        ) as client,
        _messages(client, wanted, start, config.streams.name) as messages,
    ):
        with anyio.move_on_after(math.inf if seconds is None else seconds):
            async with until_stopped():
                output.note(f"listening on {', '.join(wanted) if named else f'all events of {prefix}'}")
                for recorded in await client.last_of_each(*books, streams=config.streams.name):
                    viewer.show(recorded.message)
                await viewer.follow(messages, count)
        if client.dropped:
            output.note(f"{client.dropped:,} events came faster than they could be shown, and were left out")
        gaps, jumps = (
            viewer.follower.gaps,
            f"{viewer.follower.jumps:,} jumps" if in_order else "order not checked",
        )
        output.note(f"{viewer.shown:,} events shown, {gaps:,} gaps seen, {jumps}")


RECORDED = tuple(family for plan in PLANS if plan.key != "books" for family in plan.families)
"""The families that can be replayed; the last books are the market's."""


def books_of(wanted: Sequence[str], prefix: str) -> list[str]:
    """The subjects of the last books of what is looked at."""
    market = f"{prefix}.market."
    if not all(subject.startswith(market) for subject in wanted):
        raise click.UsageError(
            "--last is about books: look at assets or markets", click.get_current_context(silent=True)
        )
    # The type is another there, and what is narrower than an asset is still about its book.
    ids = (subject.removeprefix(market).split(".")[:2] for subject in wanted)
    return list(
        dict.fromkeys(f"{prefix}.books.{'.'.join(one if '>' in one else [*one, '>'])}" for one in ids)
    )


def _check_recorded(wanted: Sequence[str], prefix: str, streams: str, *, one_only: bool) -> None:
    context = click.get_current_context(silent=True)
    try:
        found = {stream_of(subject, prefix, streams) for subject in wanted}
    except ValueError as error:
        raise click.UsageError(str(error), context) from None
    if one_only and len(found) > 1:
        raise click.UsageError(
            f"--from-seq is about one stream, not {', '.join(sorted(found))}: name a --feed", context
        )


@asynccontextmanager
async def _messages(
    client: ControlClient, wanted: Sequence[str], start: Start | None, streams: str
) -> AsyncIterator[AsyncIterable[Msg]]:
    """What is published from now on, or from a place in the record onwards."""
    if start is None:
        async with client.listen(*wanted) as messages:
            yield messages
    else:
        async with client.replay(*wanted, start=start, streams=streams) as events:
            yield (recorded.message async for recorded in events)


class TextOutput:
    """Coloured lines for a person; notes go to standard error."""

    def __init__(self, invocation: Invocation) -> None:
        self._events = invocation.console()
        self._notes = invocation.console(stderr=True)

    def event(self, _message: Msg, event: AnyEvent) -> None:
        """An event."""
        self._print(event_line(event))

    def other(self, message: Msg) -> None:
        """A message that is no event of ours."""
        self._print(Text(f"{message.subject}  {message.data.decode(errors='replace')}", no_wrap=True))

    def jump(self, jump: Jump) -> None:
        """A break in the order."""
        self._print(jump_line(jump))

    def note(self, text: str) -> None:
        """Something about us."""
        self._notes.print(Text(text, style="dim"), soft_wrap=True)

    def _print(self, line: Text) -> None:
        # A terminal gets what fits in its width; a file or a pipe gets all of it.  Said here, since rich forgets
        # what the line says of itself.
        if self._events.is_terminal:
            self._events.print(line, no_wrap=True, overflow="ellipsis")
        else:
            self._events.print(line, soft_wrap=True)


class JsonOutput:
    """Payloads as they are, one a line; what is no payload goes to standard error."""

    def event(self, message: Msg, _event: AnyEvent) -> None:
        """An event."""
        self.other(message)

    def other(self, message: Msg) -> None:
        """A message that is no event of ours."""
        sys.stdout.write(message.data.decode(errors="replace") + "\n")
        sys.stdout.flush()

    def jump(self, jump: Jump) -> None:
        """A break in the order."""
        sys.stderr.write(msgspec.json.encode({"jump": jump}).decode() + "\n")

    def note(self, text: str) -> None:
        """Something about us, which no program needs."""


class Viewer:
    """Decides what is shown of what arrives."""

    def __init__(self, output: TextOutput | JsonOutput, types: frozenset[str], *, in_order: bool) -> None:
        self._output = output
        self._types = types | {"gap"} if types else types
        self._in_order = in_order
        self.follower = Follower()
        self.shown = 0

    async def follow(self, messages: AsyncIterable[Msg], count: int | None) -> None:
        """Show messages until there are `count`.

        Raises:
            NatsUnreachable: there will be no more.
        """
        async for message in messages:
            self.show(message)
            if self.shown == count:
                return
        raise NatsUnreachable("NATS closed the connection for good")

    def show(self, message: Msg) -> None:
        """Show one message, if it is one of those that are wanted."""
        try:
            event = decode_event(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.shown += 1
            self._output.other(message)
            return
        may_repeat = "Nats-Msg-Id" in (message.headers or {})
        jump = self.follower.see(message.subject, event, may_repeat=may_repeat)
        if jump is not None and self._in_order:
            self._output.jump(jump)
        # A last book repeats what its stream said: it is for who asks for it.
        if type_of(event) in self._types or (not self._types and not isinstance(event, LastBook)):
            self.shown += 1
            self._output.event(message, event)
