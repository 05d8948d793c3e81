"""`token …`: tokens of the API and of the page's login."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.store import tokens as stored_tokens

app = typer.Typer(help="API tokens: add, list, revoke.", no_args_is_help=True)

SCOPES = {
    "calls:read": "call records",
    "calls:hang-up": "end a call that is up",
    "calls:make": "call customers back by click",
    "agents:manage": "put agents on break, and back",
    "routing:read": "what is in force",
    "live:read": "the calls that are up",
    "metrics:read": "/metrics and the details of /readyz",
    "recordings:pause": "pause and resume recordings",
    "recordings:listen": "play recordings",
    "recordings:download": "keep recordings as files",
    "visitors:read": "visitors of the web sites",
    "visitors:erase": "erase a visitor",
    "audiences:export": "export callers for ad platforms, hashed",
    "deals:write": "say what became of calls: qualified, spam, goal, note, tags, deal",
    "reports:read": "what calls brought and cost, deals and spend included",
    "costs:read": "spend per source, campaign and day",
    "costs:write": "enter spend",
    "wages:manage": "see and enter agents' wages and staffed hours",
    "webhooks:manage": "receivers of events, their deliveries, tests and replays",
    "tickets:read": "tickets of missed calls",
    "tickets:manage": "assign, note and close tickets",
    "admin": "everything",
}
"""As in `gateway.web.auth.Scope`, which would take a fifth of a second to import; a test compares them."""

COLUMNS = (
    output.Column("name", "Name"),
    output.Column("scopes", "Scopes"),
    output.Column("state", "State"),
    output.Column("created_at", "Created", table_key="created"),
    output.Column("expires_at", "Expires", table_key="expires"),
    output.Column("last_used_at", "Last used", table_key="last_used"),
    output.Column("revoked_at"),
)


@app.command(short_help="Make a token.")
def add(
    name: Annotated[str, typer.Argument(help="For the list and the log.", metavar="NAME")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help=f"{', '.join(SCOPES)}; may be given several times.", metavar="SCOPE"),
    ] = None,
    expires: Annotated[
        int | None, typer.Option("--expires", min=1, max=3650, help="Days it is good for. [default: no end]")
    ] = None,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Make a token and print it. It cannot be shown again: only its hash is stored.

    \b
    Example:
        dialmark token add crm --scope calls:read --expires 365
    """
    scopes = {part for one in scope or () for part in one.split(",")}
    if not scopes:
        raise failures.Misuse(f"--scope is missing: what may the token do? {_said_scopes()}")
    if unknown := scopes - set(SCOPES):
        raise failures.Misuse(f"--scope: there is no scope '{min(unknown)[:40]}'; there are {_said_scopes()}")
    if not name.strip() or len(name) > 64 or not name.isprintable():
        raise failures.Misuse("NAME must be 1 to 64 printable characters")
    text = context.run(_add(context.settings(config), name, scopes, expires))
    print(text)
    output.note("Keep it now: it cannot be shown again.")


@app.command("list", short_help="List tokens.")
def list_tokens(
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List tokens, oldest first, revoked and expired ones included."""
    rows = context.run(_list(context.settings(config)))
    output.listing(rows, COLUMNS, form, nothing="No token yet: `dialmark token add NAME --scope admin` makes one.")


@app.command(short_help="End a token at once.")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """End a token at once; sessions that were opened with it end within seconds."""
    if not context.run(_revoke(context.settings(config), name)):
        raise failures.Failure(f"there is no valid token '{output.plain(name[:64])}'; see `dialmark token list`")
    print(f"Token '{name}' is revoked.")


def _said_scopes() -> str:
    return ", ".join(f"{scope} ({what})" for scope, what in SCOPES.items())


async def issue(database: store.Database, name: str, scopes: set[str], expires_days: int | None = None) -> str:
    """Store a new token and return its text. Raises Failure when the name is taken."""
    from gateway.cli import moments
    from gateway.store import tokens as stored_tokens

    now = context.now()
    expires_us = None if expires_days is None else moments.micros(now + timedelta(days=expires_days))
    try:
        async with database.begin() as tx:
            return await stored_tokens.issue(
                tx, name=name, scopes=sorted(scopes), now_us=moments.micros(now), expires_us=expires_us
            )
    except stored_tokens.TokenNameTaken:
        raise failures.Failure(
            f"there is a token '{name}' already (revoked ones keep their name): choose another name"
        ) from None


async def _add(settings: Settings, name: str, scopes: set[str], expires_days: int | None) -> str:
    async with context.database(settings, migrate=True) as database:
        return await issue(database, name, scopes, expires_days)


async def _list(settings: Settings) -> list[dict[str, Any]]:
    from gateway.cli import moments
    from gateway.store import tokens as stored_tokens

    now_us = moments.micros(context.now())
    async with context.database(settings) as database:
        async with database.read() as connection:
            found = await stored_tokens.list_tokens(connection)
        zone = await context.site_zone(database)
    return [
        {
            "name": one.name,
            "scopes": " ".join(sorted(one.scopes)),
            "state": _state(one, now_us),
            "created_at": moments.rfc3339(one.created_us),
            "created": moments.shown(one.created_us, zone),
            "expires_at": moments.rfc3339(one.expires_us),
            "expires": moments.shown(one.expires_us, zone),
            "last_used_at": moments.rfc3339(one.last_used_us),
            "last_used": moments.shown(one.last_used_us, zone),
            "revoked_at": moments.rfc3339(one.revoked_us),
        }
        for one in found
    ]


def _state(token: stored_tokens.ApiToken, now_us: int) -> str:
    if token.revoked_us is not None:
        return "revoked"
    return "expired" if token.expires_us is not None and token.expires_us <= now_us else "valid"


async def _revoke(settings: Settings, name: str) -> bool:
    from gateway.cli import moments
    from gateway.store import tokens as stored_tokens

    async with context.database(settings) as database, database.begin() as tx:
        return await stored_tokens.revoke(tx, name, now_us=moments.micros(context.now()))
