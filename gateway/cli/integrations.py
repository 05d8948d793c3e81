"""`integrations …`: what a service would be told of a call, and who was told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, moments, output

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core.outgoing import adapters
    from gateway.core.outgoing.integration import Integration
    from gateway.senders import service

STANDINGS = (
    output.Column("target", "Target", is_whole=True),
    output.Column("state", "State"),
    output.Column("type", "Event"),
    output.Column("note", "Note"),
    output.Column("external_id", "Their id"),
    output.Column("at", "At", table_key="at_shown"),
    output.Column("next_at", "Again", table_key="next_shown"),
    output.Column("given_up", "Given up"),
)

app = typer.Typer(help="Analytics, ad platforms and CRMs that are told of calls.", no_args_is_help=True)


@app.command("try", short_help="Show what a service would be told of a call.")
def try_(
    target: Annotated[str, typer.Argument(help="Like ga4:main, as `dialmark webhooks list` has it.")],
    call: Annotated[str, typer.Argument(help="Id of a call.")],
    ringing: Annotated[bool, typer.Option("--ringing", help="As if it rang now, for CRMs.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Let GA4 check it; nothing is counted.")] = False,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show what a service would be told of a call now, or why it would be told nothing. Nothing is sent; a CRM is asked
    who the caller is. Exit code 1 when the service refuses even that."""
    if check:
        _print_check(context.run(_checked(context.settings(config), target, call)), target)
        return
    settled = context.run(_tried(context.settings(config), target, call, ringing))
    for text in (settled.request, settled.note):
        if text:
            print("\n".join(output.plain(line) for line in text.splitlines()))
    if settled.card is not None:
        print(json.dumps(settled.card, ensure_ascii=False, indent=1))
    if settled.state not in ("done", "skipped"):
        raise typer.Exit(1)


@app.command(short_help="Show who was told of a call.")
def status(
    call: Annotated[str, typer.Argument(help="Id of a call.")],
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show who was told of a call, and how that stands: every integration, and webhooks while their events are kept.
    Exit code 1 when anything was given up."""
    rows = context.run(_standings(context.settings(config), call))
    output.listing(rows, STANDINGS, form, nothing="Nobody was to be told of this call.")
    if any(row["given_up"] for row in rows):
        raise typer.Exit(1)


async def _standings(chosen: Settings, call_id: str) -> list[dict[str, Any]]:
    from gateway.store import calls, targets

    async with context.database(chosen) as opened:
        async with opened.read() as connection:
            if await calls.get(connection, call_id) is None:
                raise failures.Failure(f"there is no call '{output.plain(call_id[:40])}'")
            found = await targets.standings(connection, call_id)
        zone = await context.site_zone(opened)

    return [
        {
            "target": one.target,
            "state": one.state,
            "type": one.type,
            "note": one.note,
            "external_id": one.external_id,
            "at": moments.rfc3339(one.at_us),
            "at_shown": moments.shown(one.at_us, zone),
            "next_at": moments.rfc3339(one.next_us),
            "next_shown": moments.shown(one.next_us, zone),
            "given_up": one.given_up,
        }
        for one in found
    ]


@app.command(short_help="Tell a service what it must know before the first call.")
def prepare(
    target: Annotated[str, typer.Argument(help="Like metrica:main.")],
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Tell a service what it must know once, before the first call: Metrica, that calls will come for the counter. It
    may be told again. Exit code 1 when the service refuses."""
    if context.run(_prepared(context.settings(config), target)):
        print(f"{target} knows that calls will come.")
    else:
        print(f"{target} need not be told anything.")


async def _prepared(chosen: Settings, target: str) -> bool:
    from gateway.core.outgoing import talks

    async with context.database(chosen) as opened:
        made = _adapter(chosen, await _integration(opened, chosen, target))
    try:
        return await made.prepare()
    except talks.Refused as refused:
        raise failures.Failure(f"{target}: {refused}") from refused
    finally:
        await made.close()


async def _tried(chosen: Settings, target: str, call_id: str, ringing: bool) -> adapters.Settled:
    from gateway.core.outgoing import adapters
    from gateway.services import posting

    async with context.database(chosen) as opened:
        integration = await _integration(opened, chosen, target)
        kind = adapters.RINGING if ringing else "call.completed"
        event, attempt = await _event(opened, call_id, kind)
        made = _made(chosen, replace(integration, dry_run=True))
        try:
            return await made.deliver(event, attempt)
        finally:
            await posting.close(made)


async def _checked(chosen: Settings, target: str, call_id: str) -> list[str] | None:
    from gateway.core.outgoing import talks

    async with context.database(chosen) as opened:
        made = _adapter(chosen, await _integration(opened, chosen, target))
        event, attempt = await _event(opened, call_id, "call.completed")
        try:
            return await made.check(event, attempt)
        except talks.Refused as refused:
            raise failures.Failure(f"{target}: {refused}") from refused
        finally:
            await made.close()


def _print_check(found: list[str] | None, target: str) -> None:
    if found is None:
        raise failures.Misuse(f"{target} has no check of its own: leave --check out")
    for line in found:
        print(output.plain(line))
    if found:
        raise typer.Exit(1)
    print(f"{target} has nothing against it.")


async def _event(opened: store.Database, call_id: str, kind: str) -> tuple[adapters.Handed, adapters.Attempt]:
    """The call as an event of now, with what was said about it, and an attempt that sends nothing."""
    from gateway.core.outgoing import adapters
    from gateway.services import callersvisit
    from gateway.store import calls, joined

    async with opened.read() as connection:
        row = await calls.get(connection, call_id)
        documents = await joined.documents(connection, [row] if row is not None else [])
    if not documents:
        raise failures.Failure(f"there is no call '{output.plain(call_id[:40])}'")
    visitor = await callersvisit.CallersVisit(opened)(call_id)
    now_us = moments.micros(context.now())
    event = adapters.Handed(call_id, kind, now_us, documents[0], call_id)
    return event, adapters.Attempt(now_us, visitor=visitor, dry_run=True)


def _made(chosen: Settings, integration: Integration) -> adapters.Adapter:
    from gateway.daemon import outgoing

    return outgoing.adapter(integration, outgoing.workshop(chosen))


def _adapter(chosen: Settings, integration: Integration) -> service.ServiceAdapter:
    """What speaks to the service. Raises Failure when a secret is not there."""
    from gateway.senders import service

    made = _made(chosen, integration)
    if not isinstance(made, service.ServiceAdapter):
        raise failures.Failure(f"{integration.target}: a secret cannot be read, see `dialmark integrations try`")
    return made


async def _integration(opened: store.Database, chosen: Settings, target: str) -> Integration:
    book = await context.book_in_force(opened, chosen)
    known = {one.target: one for one in book.receivers.integrations.values()} if book is not None else {}
    return _named(known, target)


def _named(known: dict[str, Integration], target: str) -> Integration:
    if target not in known:
        there = ", ".join(sorted(known)) or "none"
        raise failures.Failure(f"there is no integration '{output.plain(target[:40])}', but {there}")
    return known[target]
