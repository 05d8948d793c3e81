"""`webhooks …`: who is told of events: how they are, their last deliveries, a test, sending again."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, moments, output

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import receivers
    from gateway.store import targets

app = typer.Typer(help="Webhooks and other receivers of events.", no_args_is_help=True)

SECRET_BYTES = 32

Target = Annotated[str, typer.Argument(help="Key of the webhook, or a target: mqtt:bus.", metavar="TARGET")]

COLUMNS = (
    output.Column("target", "Target", is_whole=True),
    output.Column("where", "Where"),
    output.Column("events", "Events"),
    output.Column("state", "State"),
    output.Column("waiting", "Waiting", is_number=True),
    output.Column("dead", "Given up", is_number=True),
    output.Column("since", "Since", table_key="since_shown"),
    output.Column("last_error", "Last error"),
)
DELIVERIES = (
    output.Column("at", "At", table_key="at_shown"),
    output.Column("target", "Target", is_whole=True),
    output.Column("type", "Event"),
    output.Column("event_id", "Id"),
    output.Column("call_id"),
    output.Column("attempt", "Attempt", is_number=True),
    output.Column("state", "State"),
    output.Column("status", "Status", is_number=True),
    output.Column("milliseconds", "ms", is_number=True),
    output.Column("note", "Note"),
    output.Column("is_test"),
    output.Column("request"),
    output.Column("response"),
)


@app.command("list", short_help="List receivers and how they are.")
def list_targets(form: context.Format = output.Format.TABLE, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """List receivers of events, with what waits for each. Exit code 1 when one fails or is switched off."""
    rows = context.run(_list(context.settings(config)))
    output.listing(rows, COLUMNS, form, nothing="No receiver yet: write a [[webhook]] into the routing file.")
    if any(row["state"] not in ("well", "off by the routing file") for row in rows):
        raise typer.Exit(1)


@app.command(short_help="Show the last deliveries.")
def deliveries(
    target: Annotated[str | None, typer.Argument(help="Only of this one.", metavar="TARGET")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many.")] = 20,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show the last deliveries, newest first. `--format json` has requests and answers too."""
    rows = context.run(_deliveries(context.settings(config), target, limit))
    output.listing(rows, DELIVERIES, form, nothing="Nothing was delivered yet.")


@app.command(short_help="Send a test event.")
def test(
    target: Target,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent.")] = False,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Send a test event now and print request and answer. Exit code 1 when it was not taken."""
    logged = context.run(_test(context.settings(config), target, dry_run))
    print(_lines(logged.request))
    if dry_run:
        return
    print(f"\n{_lines(logged.response)}" if logged.response else "")
    print(f"{logged.state} after {logged.took_us / 1_000:.0f} ms" + (f": {logged.note}" if logged.note else ""))
    if logged.state != "done":
        raise typer.Exit(1)


@app.command(short_help="Send events again.")
def replay(
    target: Target,
    event: Annotated[
        list[str] | None, typer.Option("--id", help="Of an event; may be given several times.", metavar="ID")
    ] = None,
    call: Annotated[str | None, typer.Option("--call", help="Events of one call.", metavar="ID")] = None,
    since: Annotated[str | None, typer.Option("--since", help="From this time on, or 24h, 7d.", metavar="TIME")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Before this time.", metavar="TIME")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Like call.missed or call.*; several times.", metavar="TYPE")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that were given up.")] = False,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Send events to one receiver again, also those it never got. They keep their ids: a receiver that remembers them
    takes none twice.

    \b
    Examples:
        dialmark webhooks replay crm --dead
        dialmark webhooks replay crm --since 2026-11-20 --until 2026-11-21 --type call.missed
    """
    if not (event or call or since or until or dead):
        raise failures.Misuse("say which: --id, --call, --since, --until or --dead")
    chosen = context.settings(config)
    number = context.run(_replay(chosen, target, _Which(event, call, since, until, type_, dead)))
    print(f"{number} events will be sent to {target}.")


@app.command(short_help="Try at once what waits for its next attempt.")
def retry(target: Target, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """A receiver is back: try at once what waits for its next attempt."""
    print(f"{context.run(_retry(context.settings(config), target))} deliveries are due now.")


@app.command(short_help="Switch a receiver on again.")
def enable(target: Target, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """Switch a receiver on that was switched off because it answered 410; it gets what has waited."""
    if not context.run(_enable(context.settings(config), target)):
        raise failures.Failure(f"{target} is not switched off")
    print(f"{target} is in use again.")


@app.command(short_help="Make a secret for signatures.")
def secret() -> None:
    """Make a secret for signatures and print it. Put it into the file that `secret` of the [[webhook]] names; while
    you change it, the new one and the old one below it."""
    print("whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def _lines(text: str) -> str:
    return "\n".join(output.plain(line) for line in text.splitlines())


def _micros(written: str | None, option: str, now: datetime, zone: tzinfo) -> int | None:
    return None if written is None else moments.micros(moments.parse(written, option, now=now, zone=zone))


class _Which:
    def __init__(
        self,
        ids: list[str] | None,
        call: str | None,
        since: str | None,
        until: str | None,
        types: list[str] | None,
        dead: bool,
    ) -> None:
        self.ids, self.call, self.since, self.until, self.types, self.dead = ids, call, since, until, types, dead


async def _known(opened: store.Database, chosen: Settings) -> dict[str, receivers.Receiver]:
    book = await context.book_in_force(opened, chosen)
    if book is None:
        return {}
    return {one.target: one for one in book.receivers.everyone()}


async def _named(opened: store.Database, chosen: Settings, written: str) -> str:
    """The target. Raises Failure for one that nobody knows."""
    from gateway.config import problems
    from gateway.daemon import outgoing
    from gateway.store import outbox

    async with opened.read() as connection:
        known = {*await _known(opened, chosen), *await outbox.counts(connection), *outgoing.subscriptions(chosen)}
    for target in (written, f"webhook:{written}"):
        if target in known:
            return target
    guess = problems.closest(written, sorted({*known, *(one.partition(":")[2] for one in known)} - {""}))
    meant = f" Did you mean '{guess}'?" if guess else " See `dialmark webhooks list`."
    raise failures.Failure(f"there is no receiver '{output.plain(written[:40])}'.{meant}")


async def _list(chosen: Settings) -> list[dict[str, Any]]:
    from gateway.core import receivers
    from gateway.daemon import outgoing
    from gateway.senders import jsonlines
    from gateway.store import outbox, targets

    ours = set(outgoing.subscriptions(chosen))
    async with context.database(chosen) as opened:
        known = await _known(opened, chosen)
        async with opened.read() as connection:
            states, counts = await targets.states(connection), await outbox.counts(connection)
        zone = await context.site_zone(opened)
    rows = []
    for target in sorted({*known, *(ours - {jsonlines.TARGET}), *counts}):
        receiver, state = known.get(target), states.get(target, targets.State(target))
        waiting, dead = counts.get(target, (0, 0))
        since_us = state.off_us or state.failing_us
        rows.append(
            {
                "target": target,
                "where": receivers.place(receiver),
                "events": ", ".join(receiver.events) if receiver is not None else "",
                "state": _state(receiver, state, is_ours=target in ours),
                "waiting": waiting,
                "dead": dead,
                "since": moments.rfc3339(since_us),
                "since_shown": moments.shown(since_us, zone),
                "last_error": state.off_reason or state.last_error or "",
            }
        )
    return rows


def _state(receiver: receivers.Receiver | None, state: targets.State, *, is_ours: bool) -> str:
    if state.off_us is not None:
        return "switched off"
    if receiver is not None and not receiver.enabled:
        return "off by the routing file"
    if receiver is None and not is_ours:
        return "not in the routing file"
    return "fails" if state.failing_us is not None else "well"


async def _deliveries(chosen: Settings, target: str | None, limit: int) -> list[dict[str, Any]]:
    from gateway.store import targets

    async with context.database(chosen) as opened:
        named = await _named(opened, chosen, target) if target is not None else None
        async with opened.read() as connection:
            found = await targets.last(connection, named, limit=limit)
        zone = await context.site_zone(opened)
    return [
        {
            "at": moments.rfc3339(one.at_us),
            "at_shown": moments.shown(one.at_us, zone),
            "target": one.target,
            "type": one.type,
            "event_id": one.event_id,
            "call_id": one.call_id,
            "attempt": one.attempt,
            "state": "test " + one.state if one.is_test else one.state,
            "status": one.status,
            "milliseconds": round(one.took_us / 1_000),
            "note": one.note,
            "is_test": one.is_test,
            "request": one.request,
            "response": one.response,
        }
        for one in found
    ]


async def _test(chosen: Settings, written: str, dry_run: bool) -> targets.Logged:
    from gateway.daemon import outgoing
    from gateway.services import posting

    async with context.database(chosen) as opened:
        target = await _named(opened, chosen, written)
        book = await context.book_in_force(opened, chosen)
        made = outgoing.adapters_of(chosen, lambda: book)(target)
        if made is None:
            raise failures.Failure(f"{target} is not in the routing file")
        try:
            now_us = moments.micros(context.now())
            return await posting.try_out(opened, made, node=chosen.node.name, now_us=now_us, dry_run=dry_run)
        finally:
            await posting.close(made)


async def _replay(chosen: Settings, written: str, which: _Which) -> int:
    from gateway.core import receivers
    from gateway.services import posting
    from gateway.store import outbox

    now = context.now()
    async with context.database(chosen) as opened:
        target = await _named(opened, chosen, written)
        zone = await context.site_zone(opened)
        asked = outbox.Chosen(
            event_ids=tuple(which.ids) if which.ids else None,
            call_id=which.call,
            since_us=_micros(which.since, "--since", now, zone),
            until_us=_micros(which.until, "--until", now, zone),
            types=tuple(which.types) if which.types else receivers.ALL,
        )
        return await posting.replay(opened, target, asked, now_us=moments.micros(now), only_dead=which.dead)


async def _retry(chosen: Settings, written: str) -> int:
    from gateway.services import posting

    async with context.database(chosen) as opened:
        target = await _named(opened, chosen, written)
        return await posting.hurry(opened, target, now_us=moments.micros(context.now()))


async def _enable(chosen: Settings, written: str) -> bool:
    from gateway.store import targets

    async with context.database(chosen) as opened:
        target = await _named(opened, chosen, written)
        async with opened.begin() as tx:
            return await targets.switch_on(tx, target)
