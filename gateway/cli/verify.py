"""`verify` and `replay`: the journal against the records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from gateway.config.settings import Settings
    from gateway.core import conservation
    from gateway.pbx import journalfiles
    from gateway.services import forgotten
    from gateway.store import keyring

DUE_SECONDS = 60
"""A call that waits to be read for longer is a problem: the tracker is down or far behind."""
EDGE_US = 3_600_000_000
"""Records are fetched from an hour around the span, so that no call at its edge is judged by half of it."""
LISTED = 50
"""Calls of each kind that the text names; JSON and CSV name all."""


def verify(
    urls: Annotated[
        list[str] | None,
        typer.Argument(help="With --web: pages to open. [default: `pages` of each site]", metavar="[URL]…"),
    ] = None,
    web: Annotated[
        bool, typer.Option("--web", help="Open landing pages in Chromium, and check the numbers that stand there.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Calls started at or after. [default: all the journal]")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Calls started before.")] = None,
    site: Annotated[str, typer.Option("--site", help="With --web: only this site.", metavar="KEY")] = "",
    screenshots: Annotated[
        Path | None, typer.Option("--screenshots", help="With --web: a picture of each page goes here.", metavar="DIR")
    ] = None,
    page_seconds: Annotated[
        float, typer.Option("--page-seconds", help="With --web: for each page at most.", min=1, max=300)
    ] = 15.0,
    browser: Annotated[
        str | None, typer.Option("--browser", help="With --web: Chromium or Chrome. [default: that on PATH]")
    ] = None,
    no_sandbox: Annotated[
        bool, typer.Option("--no-sandbox", help="With --web: for root and containers, where all pages are your own.")
    ] = False,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Prove that every call in the journal is exactly one record, and every record a call in the journal (N1).

    Reads the journal and its archive (14 days). Exits 1 when a record is missing, doubled or invented, when calls wait
    to be read for more than a minute, or when a record or the journal still names a person who was erased.

    With --web: opens landing pages with each campaign's tags in headless Chromium and compares the number that stands
    there with the one that the rules say (R28, R40). Takes no number of any pool. Exits 1 when a page is wrong.

    \b
    Examples:
        dialmark verify --since yesterday
        dialmark verify --web --screenshots /tmp/pages
        dialmark verify --web "https://clinic.example/?utm_source=vk&utm_medium=cpc"
    """
    if web:
        from gateway.cli import webcheck

        if since is not None or until is not None:
            raise failures.Misuse("--since and --until say nothing with --web")
        wish = webcheck.Wish(tuple(urls or ()), site, browser, not no_sandbox, page_seconds, screenshots)
        webcheck.run(context.settings(config), wish, form)
        return
    if urls or site or screenshots is not None or browser is not None or no_sandbox:
        raise failures.Misuse("pages are checked with --web")
    found = context.run(_verify(context.settings(config), since, until))
    balance, damaged, zone = found.balance, found.damaged, found.zone
    now_us = _now_us()
    late = [one for one in balance.waiting if now_us - one.started_us > DUE_SECONDS * 1_000_000]
    rows = list(_rows(balance, zone))
    match form:
        case output.Format.JSON:
            output.json_document(
                {
                    "channels": balance.channels,
                    "records": balance.records,
                    "open": balance.open,
                    "missing": len(balance.missing),
                    "doubled": len(balance.doubled),
                    "invented": len(balance.invented),
                    "waiting": len(balance.waiting),
                    "damaged_rows": damaged,
                    "naming_erased": found.naming_erased,
                    "calls": [{key: value for key, value in row.items() if key != "started"} for row in rows],
                }
            )
        case output.Format.CSV:
            output.listing(rows, [output.Column(key) for key in ("what", "started_at", "unique_id", "call_ids")], form)
        case output.Format.TABLE:
            _print(balance, damaged, rows, late)
            if found.naming_erased:
                print(f"{found.naming_erased} records and journal rows name a person who was erased: erase them again")
    if late or found.naming_erased or not balance.is_even:
        raise typer.Exit(failures.EXIT_PROBLEM)


def replay(
    journals: Annotated[
        list[Path] | None,
        typer.Argument(help="Journal files, plain or .gz. [default: the journal and its archive]", metavar="JOURNAL…"),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Store what differs; without it nothing is written.")] = False,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Make records from journal files again and compare them with what is stored: new, changed, same.

    With --write the new and changed ones are stored; doing it twice changes nothing, and no event goes out twice.
    Give all files of the span at once: a call whose rows are not all there is left out.

    \b
    Example:
        dialmark replay /var/log/asterisk/cel-custom/archive/*.gz
    """
    from gateway.cli import replaying

    settings = context.settings(config)
    result = context.run(replaying.replay(settings, _existing(journals or []), write=write))
    rows = [{"what": change.what, "call_id": change.call_id, "fields": change.fields} for change in result.changes]
    if form is output.Format.JSON:
        output.json_document({**result.counts(), "written": write, "calls": rows})
        return
    columns = [output.Column("what", "What"), output.Column("call_id", "Call"), output.Column("fields", "Fields")]
    if form is output.Format.CSV or rows:
        output.listing(rows, columns, form)
    if form is output.Format.TABLE:
        counts = result.counts()
        left_out = f"left out: {counts['open']} open, {counts['partial']} not whole"
        if counts["receipts"]:
            print(f"{counts['receipts']} receipts of consent are missing")
        said = "Written." if write else "Nothing was written (--write)."
        print(f"{counts['new']} new, {counts['changed']} changed, {counts['same']} same; {left_out}. {said}")


def _existing(paths: list[Path]) -> list[Path]:
    for path in paths:
        if path.is_dir():
            raise failures.Misuse(f"{path} is a folder: name the journal files in it ({path}/*)")
        if not path.is_file():
            raise failures.Misuse(f"{path}: there is no such file")
    return paths


def archive_folder(settings: Settings) -> Path:
    """Where the daemon keeps passed journals."""
    from gateway.pbx import journalfiles

    return settings.asterisk.journal_dir / journalfiles.ARCHIVE_FOLDER


@dataclass(frozen=True, slots=True)
class _Found:
    """What `verify` found. `naming_erased`: records and journal rows in which an erased person stands."""

    balance: conservation.Balance
    damaged: int
    naming_erased: int
    zone: tzinfo


async def _verify(settings: Settings, since: str | None, until: str | None) -> _Found:
    from gateway.cli import moments
    from gateway.services import forgotten, tracker
    from gateway.store import journal as stored_journal

    now = context.now()
    node = settings.node.name
    async with context.database(settings) as database:
        zone = await context.site_zone(database)
        since_us = since and moments.micros(moments.parse(since, "--since", now=now, zone=zone))
        until_us = until and moments.micros(moments.parse(until, "--until", now=now, zone=zone))
        span = (since_us if isinstance(since_us, int) else None, until_us if isinstance(until_us, int) else None)
        erased = forgotten.Forgotten(database, _ring(settings))
        await erased.load()
        # How far was read is taken first, the records then, the journal last: whatever happens in between, a row that
        # counts as read has its record, and a record has its rows.
        async with database.read() as connection:
            progress = tracker.progress(await stored_journal.files(connection, node))
        records, named = await _records(database, node, *span, erased)
    ledger, damaged, rows_named = _read_journal(settings, progress, erased)
    return _Found(ledger.balance(records, since_us=span[0], until_us=span[1]), damaged, named + rows_named, zone)


def _ring(settings: Settings) -> keyring.KeyRing | None:
    """None for who may not read it: then erased persons are known by their calls only."""
    from gateway.cli import vaults

    try:
        return vaults.ring(settings)
    except failures.Failure as error:
        output.note(f"erased persons are looked for by their calls only: {error}")
        return None


async def _records(
    database: Any, node: str, since_us: int | None, until_us: int | None, erased: forgotten.Forgotten
) -> tuple[list[conservation.Record], int]:
    """The records, and how many name an erased person."""
    from gateway.core import conservation
    from gateway.store import calls

    wanted = calls.CallFilter(
        node=node,
        since_us=None if since_us is None else since_us - EDGE_US,
        until_us=None if until_us is None else until_us + EDGE_US,
    )
    found, named = [], 0
    async for row in calls.export(database, wanted):
        found.append(conservation.Record(row.call_id, row.unique_id, row.started_us, row.state == "open"))
        number = row.did if row.direction == "outbound" else row.caller
        named += erased.is_named(row.call_id, number, row.started_us)
    return found, named


def _read_journal(
    settings: Settings, progress: dict[str, int], erased: forgotten.Forgotten
) -> tuple[conservation.Ledger, int, int]:
    """All rows of journal and archive; how many lines were damaged, and how many name an erased person. Raises Failure
    when it cannot be read."""
    from gateway.core import conservation
    from gateway.pbx import journalfiles

    folder = settings.asterisk.journal_dir
    ledger = conservation.Ledger()
    damaged = named = 0
    try:
        for file, line in journalfiles.read_everything(lambda: journal_files(settings)):
            if isinstance(line, journalfiles.DamagedLine):
                damaged += 1
            else:
                ledger.feed(line.row, is_read=line.offset < progress.get(file.fingerprint, 0))
                named += erased.is_entry_of_erased(line.row)
    except OSError as error:
        if not folder.is_dir():
            raise failures.Failure(f"{folder} is not there: correct asterisk.journal_dir") from error
        raise failures.Failure(f"journal not readable: {error}: run it as the daemon's user") from None
    return ledger, damaged, named


def journal_files(settings: Settings) -> list[journalfiles.JournalFile]:
    """The journal and its archive, oldest first."""
    from gateway.pbx import journalfiles

    archive = archive_folder(settings)
    return journalfiles.everything(
        settings.asterisk.journal_dir, archive if archive.is_dir() else None, settings.asterisk.journal_name
    )


def _rows(balance: conservation.Balance, zone: tzinfo) -> Iterator[dict[str, Any]]:
    from gateway.cli import moments

    def row(what: str, started_us: int, unique_id: str, call_ids: list[str]) -> dict[str, Any]:
        return {
            "what": what,
            "started_at": moments.rfc3339(started_us),
            "started": moments.shown(started_us, zone),
            "unique_id": unique_id,
            "call_ids": " ".join(call_ids),
        }

    for channel in balance.missing:
        yield row("missing", channel.started_us, channel.unique_id, list(channel.call_ids))
    for one in balance.doubled:
        yield row("doubled", one.channel.started_us, one.channel.unique_id, [each.call_id for each in one.records])
    for record in balance.invented:
        yield row("invented", record.started_us, record.unique_id, [record.call_id])
    for channel in balance.waiting:
        yield row("waiting", channel.started_us, channel.unique_id, list(channel.call_ids))


def _print(
    balance: conservation.Balance, damaged: int, rows: list[dict[str, Any]], late: list[conservation.Channel]
) -> None:
    print(
        f"{len(balance.missing)} of {balance.channels} missing, {len(balance.doubled)} doubled, "
        f"{len(balance.invented)} invented ({balance.records} records, {balance.open} of calls that are up)"
    )
    if balance.waiting:
        print(f"{len(balance.waiting)} calls wait to be read" + (": does the daemon run?" if late else ""))
    if damaged:
        print(f"{damaged} damaged rows in the journal")
    columns = [
        output.Column("what", "What"),
        output.Column("started_at", "Started", table_key="started"),
        output.Column("unique_id", "Channel"),
        output.Column("call_ids", "Call"),
    ]
    shown = [row for what in ("missing", "doubled", "invented") for row in _first(rows, what)]
    if shown:
        output.table(shown, columns)
    if len(rows) > len(shown) + len(balance.waiting):
        print("More of them with --format csv.")


def _first(rows: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["what"] == what][:LISTED]


def _now_us() -> int:
    from gateway.cli import moments

    return moments.micros(context.now())
