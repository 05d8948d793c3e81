"""`erase`: a person leaves everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output, vaults

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.services import erasing
    from gateway.store import keyring


def erase(
    number: Annotated[str, typer.Argument(help="The person's number with its country: +74951234567", metavar="NUMBER")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. It cannot be undone.")] = False,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Remove a person everywhere: recordings, records, events, exports, journal and archive. Prints a receipt.

    Outcome, times, route and source of the calls stay, so that counts stay true. A replay does not bring the person
    back. Recordings under legal hold stay and are named. Exits 1 when something could not be removed: run it again.

    Example: dialmark erase +74951234567 --format json > receipt.json
    """
    from gateway.core import erasure
    from gateway.store import scrubbing

    settings = context.settings(config)
    wanted = context.number_filter(number, "NUMBER")
    if wanted is None or not wanted.startswith("+"):
        raise failures.Misuse("NUMBER: write it with its country: +74951234567")
    ring = vaults.needed_ring(settings)
    if not yes and not typer.confirm(f"Erase {wanted} everywhere? It cannot be undone.", err=True):
        raise failures.Failure("nothing was erased")
    receipt = context.run(_erase(settings, wanted, ring))
    if (problem := scrubbing.scrub(settings.database.url, erasure.spellings(wanted)[0])) is not None:
        receipt.problems.append(problem)
    if form is output.Format.JSON:
        output.json_document(receipt.document())
    else:
        rows = [{"what": name, "value": _said(value)} for name, value in receipt.document().items()]
        output.listing(rows, (output.Column("what", "What"), output.Column("value", "Value")), form)
    if receipt.problems:
        raise typer.Exit(failures.EXIT_PROBLEM)


def _said(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return ", ".join(
        f"{one['target']} ({one['events']} events until {one['last_at']})" if isinstance(one, dict) else str(one)
        for one in value
    )


async def _erase(settings: Settings, number: str, ring: keyring.KeyRing) -> erasing.Receipt:
    from gateway.cli import moments
    from gateway.services import erasing
    from gateway.store import keyring

    async with context.database(settings) as database:
        try:
            return await erasing.erase(
                database,
                number,
                ring=ring,
                places=vaults.erasing_places(settings),
                backup_days=settings.retention.backup_days,
                actor=vaults.actor(),
                now_us=moments.micros(context.now()),
                targets=await vaults.targets(database, settings),
            )
        except keyring.KeyMissing as error:
            raise failures.Failure(f"the tombstones cannot be read: {error}") from None
