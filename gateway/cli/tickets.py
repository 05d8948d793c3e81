"""`tickets …`: callers whom somebody has to call back (R18, R37)."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, moments, output

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.core.tickets import Ticket
    from gateway.services.tickethands import Hands

app = typer.Typer(help="Tickets of missed calls: who has to be called back.", no_args_is_help=True)

STATES = ("open", "tried", "overdue", "closed", "all")
RESULTS = ("done", "called_back", "not_reached", "unwanted")

Number = Annotated[int, typer.Argument(help="The ticket's number.", min=1, max=999_999_999, metavar="TICKET")]
Text = Annotated[str, typer.Option("--note", help="A note for the history.", metavar="TEXT")]

COLUMNS = (
    output.Column("number", "No.", is_number=True),
    output.Column("ticket_id"),
    output.Column("state", "State"),
    output.Column("result", "Result"),
    output.Column("kind"),
    output.Column("caller", "Caller", is_whole=True),
    output.Column("name", "Name"),
    output.Column("last_missed_at", "Last missed", table_key="missed"),
    output.Column("next_due_at", "Next due", table_key="due"),
    output.Column("deadline_at"),
    output.Column("cause", "Why"),
    output.Column("source", "Source"),
    output.Column("campaign"),
    output.Column("route"),
    output.Column("site"),
    output.Column("owner", "Owner"),
    output.Column("misses", "Missed", is_number=True),
    output.Column("attempts", "Attempts", is_number=True),
    output.Column("attempts_wanted"),
    output.Column("call_id"),
)
HISTORY = (
    output.Column("at", "Time", table_key="shown"),
    output.Column("what", "What"),
    output.Column("actor", "Who"),
    output.Column("note", "Note"),
    output.Column("call_id", "Call"),
)


@app.command("list", short_help="List tickets.")
def list_tickets(
    state: Annotated[
        str | None,
        typer.Option("--state", help=f"{', '.join(STATES)}. [default: all but closed]", metavar="STATE"),
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Only of this agent.", metavar="AGENT")] = None,
    route: Annotated[str | None, typer.Option("--route", help="Only of this route.", metavar="KEY")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only of this site.", metavar="KEY")] = None,
    caller: Annotated[str | None, typer.Option("--caller", help="Only of this number.", metavar="NUMBER")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many.", min=1, max=10_000)] = 100,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List tickets of missed calls and of requests for a call back, newest first.

    \b
    Examples:
        dialmark tickets list
        dialmark tickets list --state overdue --format json
    """
    if state is not None and state not in STATES:
        raise failures.Misuse(f"--state: there is no state '{state[:40]}'; there are {', '.join(STATES)}")
    number = context.number_filter(caller, "--caller")
    rows = context.run(_list(context.settings(config), state, owner, route, site, number, limit))
    output.listing(rows, COLUMNS, form, nothing="Nobody waits to be called back.")


@app.command(short_help="Show a ticket with its history.")
def show(
    number: Number,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Show a ticket and all that happened to it. `--format json` has everything."""
    document, history = context.run(_show(context.settings(config), number))
    if form is output.Format.JSON:
        output.json_document({**document, "history": history})
        return
    if form is output.Format.TABLE:
        for name, value in _facts(document):
            print(f"{name + ':':<16}{output.plain(str(value))}")
        print()
    output.listing(history, HISTORY, form)


@app.command(short_help="Give a ticket to an agent.")
def assign(
    number: Number,
    agent: Annotated[str | None, typer.Argument(help="Key of the agent; none: nobody's.", metavar="AGENT")] = None,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Give a ticket to an agent of the routing file."""
    ticket = _change(config, lambda hands, actor: hands.assign(number, agent, actor=actor))
    print(f"Ticket {number} is {ticket.owner or 'nobody'}'s now.")


@app.command(short_help="Write a note.")
def note(
    number: Number,
    text: Annotated[str, typer.Argument(help="What to write down.", metavar="TEXT")],
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Write a note into the history of a ticket."""
    _change(config, lambda hands, actor: hands.note(number, text, actor=actor))
    print(f"Noted in ticket {number}.")


@app.command(short_help="Report an attempt.")
def attempt(
    number: Number,
    reached: Annotated[bool, typer.Option("--reached", help="The caller was reached: closes the ticket.")] = False,
    text: Text = "",
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Report that somebody called by a phone that Dialmark does not see. Calls through its Asterisk count by
    themselves."""
    ticket = _change(config, lambda hands, actor: hands.attempt(number, reached=reached, text=text, actor=actor))
    print(f"Ticket {number}: attempt {ticket.attempts} of {ticket.wanted}, {ticket.state.value}.")


@app.command(short_help="Close a ticket.")
def close(
    number: Number,
    result: Annotated[str, typer.Option("--result", help=f"{', '.join(RESULTS)}.", metavar="RESULT")] = "done",
    text: Text = "",
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Close a ticket. It closes itself when the caller gets through."""
    if result not in RESULTS:
        raise failures.Misuse(f"--result: there is no result '{result[:40]}'; there are {', '.join(RESULTS)}")

    async def work(hands: Hands, actor: str) -> Ticket:
        from gateway.core import tickets

        return await hands.close(number, tickets.Result(result), text=text, actor=actor)

    _change(config, work)
    print(f"Ticket {number} is closed.")


@app.command(short_help="Take a closed ticket up again.")
def reopen(number: Number, text: Text = "", config: context.Config = context.DEFAULT_CONFIG) -> None:
    """Take a closed ticket up again, with a new clock."""
    ticket = _change(config, lambda hands, actor: hands.reopen(number, text=text, actor=actor))
    print(f"Ticket {number} is open again, until {moments.rfc3339(ticket.deadline_us)}.")


def _change(config: Any, work: Callable[[Hands, str], Awaitable[Ticket]]) -> Ticket:
    """Does it. Raises Failure where it cannot be done."""
    return context.run(_changed(context.settings(config), work))


async def _changed(settings: Settings, work: Callable[[Hands, str], Awaitable[Ticket]]) -> Ticket:
    from gateway.core import tickets
    from gateway.daemon import outgoing
    from gateway.services import tickethands

    async with context.database(settings) as database:
        in_force = await context.book_in_force(database, settings)
        told = outgoing.Outgoing(settings)
        if in_force is not None:
            told.use(in_force)
        hands = tickethands.Hands(
            database,
            in_force=lambda: in_force,
            targets=told.subscriptions,
            now_us=lambda: moments.micros(context.now()),
        )
        try:
            return await work(hands, f"user:{getpass.getuser()}")
        except tickethands.NoSuchTicket as error:
            raise failures.Failure(f"there is no ticket {error}; see `dialmark tickets list`") from None
        except tickets.Refused as error:
            raise failures.Failure(str(error)) from None


async def _list(
    settings: Settings,
    state: str | None,
    owner: str | None,
    route: str | None,
    site: str | None,
    caller: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    from gateway.core import ticketdocs, tickets
    from gateway.store import tickets as stored

    states: tuple[tickets.State, ...] | None = tuple(one for one in tickets.State if one is not tickets.State.CLOSED)
    if state is not None:
        states = None if state == "all" else (tickets.State(state),)
    async with context.database(settings) as database:
        zone = await context.site_zone(database)
        wanted = stored.Filter(states, owner, route, site, caller)
        async with database.read() as connection:
            found = await stored.list_tickets(connection, wanted, limit=limit)
    return [
        {
            **ticketdocs.document(one),
            "caller": one.caller or one.request.get("number_raw"),
            "name": one.caller_name,
            "missed": moments.shown(one.last_miss_us, zone),
            "due": moments.shown(one.next_due_us, zone),
        }
        for one in found
    ]


async def _show(settings: Settings, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from gateway.core import ticketdocs
    from gateway.store import tickets as stored

    async with context.database(settings) as database:
        zone = await context.site_zone(database)
        async with database.read() as connection:
            ticket = await stored.by_number(connection, number)
            history = await stored.history(connection, number)
    if ticket is None:
        raise failures.Failure(f"there is no ticket {number}; see `dialmark tickets list`")
    return ticketdocs.document(ticket), [
        {**ticketdocs.entry(one), "shown": moments.shown(one.at_us, zone)} for one in history
    ]


def _facts(document: dict[str, Any]) -> list[tuple[str, Any]]:
    said = {
        "Ticket": document["number"],
        "State": document["state"] + (f" ({document['result']})" if document["result"] else ""),
        "Caller": document["caller"]["number"] or (document["request"] or {}).get("number_raw"),
        "Name": document["caller"]["name"],
        "Why": document["cause"],
        "Source": document["source"],
        "Owner": document["owner"],
        "Missed": document["misses"],
        "Attempts": f"{document['attempts']} of {document['attempts_wanted']}",
        "Next due": document["next_due_at"],
        "Deadline": document["deadline_at"],
        "Call": document["call_id"],
    }
    return [(name, value) for name, value in said.items() if value is not None]
