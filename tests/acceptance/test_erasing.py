"""A person is erased after real calls, with one of them up, and no replay brings them back (N14); retention (R34, N10).

Everything is searched byte for byte: database with its write-ahead log, journal, archive, events, vault, spool, log.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.store import vault
from tests.acceptance import faults, sound, stages
from tests.acceptance.stages import Site, Stage
from tests.acceptance.test_faults_store import PostgresDaemon
from tests.conftest import POSTGRES_DSN, NodeFactory
from tests.rig import AGENT_HZ, CALLER_HZ, AsteriskNode, Behaviour, Callee, Daemon, Rig, Voice
from tests.rig.dialmark import CommandFailed, Record

FIRST, SECOND, THIRD = "74990000001", "74990000002", "74990000003"
PERSON, OTHER = "+79165550101", "+79165550202"
KEPT = ("call_id", "outcome", "route", "destination", "agent", "talk_seconds", "started_at", "ended_at", "missed")
"""What is counted of a call."""

ROUTING = """
[[route]]
key = "sales"
forward = ["first"]
ring_seconds = 10
recording = "none"

[[route]]
key = "service"
forward = ["second"]
ring_seconds = 10
recording = "none"

[[route]]
key = "nobody"
forward = ["third"]
ring_seconds = 10

[[tracking_number]]
number = "+74990000001"
route = "sales"
source = "radio"

[[tracking_number]]
number = "+74990000002"
route = "service"

[[tracking_number]]
number = "+74990000003"
route = "nobody"
"""


@contextmanager
def _postgres() -> Iterator[str]:
    """DSN of a database of its own."""
    if POSTGRES_DSN is None:
        pytest.fail("no PostgreSQL: run ./scripts/test, or set DIALMARK_TEST_POSTGRES", pytrace=False)
    import psycopg
    from psycopg import sql

    name = sql.Identifier(f"dialmark_{uuid.uuid4().hex}")
    with psycopg.connect(POSTGRES_DSN, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(name))
    given = psycopg.conninfo.conninfo_to_dict(POSTGRES_DSN)
    place = {"password": "", **given, "dbname": name.as_string().strip('"')}
    yield "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**place)
    with psycopg.connect(POSTGRES_DSN, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, make_node: NodeFactory) -> Iterator[Site]:
    made = Site(make_node, stages.SITE + ROUTING, records=True)
    if request.param == "sqlite":
        with stages.up(made):
            yield made
        return
    with _postgres() as dsn:
        made.daemon = PostgresDaemon(made.node, {"database": {"url": dsn}}, records=True)
        made.daemon.dsn = dsn
        with stages.up(made):
            yield made


@pytest.fixture
def stage(site: Site, rig_of: Callable[[AsteriskNode], Rig]) -> Stage:
    return Stage(site, rig_of(site.node))


async def test_erased_with_a_call_up_and_never_back(stage: Stage, tmp_path: Path) -> None:
    """Also by a copy of the journal from before, and when all is read again."""
    daemon = stage.daemon
    stage.phone("desk-3", Behaviour.BUSY)
    phone = stage.phone("desk-1", voice=Voice(AGENT_HZ))
    stage.phone("desk-2", voice=Voice(AGENT_HZ))
    # Theirs is the first row of the journal, by which it is known.
    await talked(stage, (FIRST, PERSON), (SECOND, OTHER))
    await stage.call(THIRD, caller=PERSON)
    await archived(stage)
    await talked(stage, (FIRST, PERSON), (SECOND, OTHER))
    up = await stage.dial(FIRST, caller=PERSON, voice=Voice(CALLER_HZ))
    await up.headset.until_talk(AGENT_HZ, 1.0)
    await faults.until(lambda: len(answered(daemon)) == 1, 30, "the call in the database")
    [talking] = answered(daemon)
    before = counted(daemon)
    kept = shutil.copytree(stage.node.journal.parent, tmp_path / "journals")
    assert {"database", "journal", "archive", "exports", "vault"} & set(places_of(stage, PERSON))

    receipt = json.loads(await asyncio.to_thread(daemon.run, "erase", PERSON, "--yes", "--format", "json"))
    assert (receipt["calls"], receipt["recordings_shredded"], receipt["problems"]) == (4, 2, [])
    assert receipt["spool_files"] == 2
    assert [one["target"] for one in receipt["receivers_served"]] == ["jsonl"]
    assert PERSON.lstrip("+") not in json.dumps(receipt)
    assert places_of(stage, PERSON) == []
    await pressed(stage, phone)
    up.hang_up()
    # Its SIP Call-ID is gone with the person.
    await faults.until(lambda: not daemon.stored(state="open"), 30, "the end of the call in the database")
    await sound.until_spool_is_empty(stage, talking["call_id"])
    await stage.events_of(talking["call_id"], "call.completed")
    assert sound.rows(daemon, talking["call_id"]) == []
    check(stage, receipt["pseudonym"], before)

    replayed = json.loads(await asyncio.to_thread(daemon.run, "replay", "--write", "--format", "json"))
    assert (replayed["new"], replayed["changed"]) == (0, 0)
    check(stage, receipt["pseudonym"], before)

    await asyncio.to_thread(daemon.stop)
    lose_position(daemon)
    daemon.start()
    await daemon.until_ready()
    await faults.until(lambda: not daemon.verify()["waiting"], 15, "all read again")
    check(stage, receipt["pseudonym"], before)

    copies = [str(path) for path in sorted(kept.rglob("*.csv*"))]
    assert len(copies) >= 2
    replayed = json.loads(await asyncio.to_thread(daemon.run, "replay", "--write", "--format", "json", *copies))
    assert (replayed["new"], replayed["changed"]) == (0, 0)
    check(stage, receipt["pseudonym"], before)

    # The records went too, as after a backup that is older than they are.
    gone = [f"DELETE FROM {table} WHERE call_id <> '{talking['call_id']}'" for table in ("attempts", "calls")]
    execute(daemon, *gone, "DELETE FROM forgotten_calls")
    replayed = json.loads(await asyncio.to_thread(daemon.run, "replay", "--write", "--format", "json", *copies))
    assert replayed["new"] == len(before) - 1
    assert places_of(stage, PERSON) == []
    again = await stage.call(THIRD, caller=PERSON)
    assert again.record["caller"]["number"] == PERSON


def check(stage: Stage, pseudonym: str, before: dict[str, dict[str, Any]]) -> None:
    """Nobody finds the person, and all that is counted is as it was."""
    daemon = stage.daemon
    assert places_of(stage, PERSON) == []
    now = counted(daemon)
    assert now.keys() == before.keys()
    closed = {call_id for call_id, one in before.items() if one["ended_at"]}
    assert {call_id: now[call_id] for call_id in closed} == {call_id: before[call_id] for call_id in closed}
    records = daemon.stored()
    assert sorted(one["caller"]["number"] for one in records) == sorted([pseudonym] * 4 + [OTHER] * 2)
    assert sorted(one["caller"]["calls_before"] for one in records) == [0, 0, 1, 1, 2, 3]
    with ThreadPoolExecutor() as beside:
        balance, *checks = [
            beside.submit(daemon.verify),
            *(beside.submit(daemon.run, one, "verify") for one in ("recordings", "audit")),
        ]
    found = balance.result()
    assert all(one.exception() is None for one in checks), [one.exception() for one in checks]
    assert [found[key] for key in ("missing", "doubled", "invented", "damaged_rows")] == [0] * 4, found
    assert daemon.query("SELECT count(*) FROM recordings WHERE state = 'stored'") == [(2,)]


def places_of(stage: Stage, number: str) -> list[str]:
    """Where the number's digits stand, byte for byte; without its country's, so that 8 for +7 is found too."""
    digits = number[2:].encode()
    daemon, cel = stage.daemon, stage.node.journal.parent
    texts: dict[str, Iterator[bytes]] = {
        "database": contents(daemon),
        "journal": (path.read_bytes() for path in cel.iterdir() if path.is_file()),
        "archive": (gzip.decompress(path.read_bytes()) for path in (cel / "archive").glob("*.gz")),
        "archive's drafts": (path.read_bytes() for path in (cel / "archive").glob("*") if path.suffix != ".gz"),
        "exports": (path.read_bytes() for path in daemon.state.glob("events.jsonl*")),
        "vault": (str(path).encode() + path.read_bytes() for path in daemon.vault.rglob("*") if path.is_file()),
        "spool": (str(path).encode() + path.read_bytes() for path in stage.node.recordings.iterdir()),
        "generated files": (path.read_bytes() for path in stage.node.etc.glob("dialmark_*")),
        "log": iter([daemon.log_file.read_bytes()]),
    }
    return [name for name, parts in texts.items() if any(digits in part for part in parts)]


def contents(daemon: Daemon) -> Iterator[bytes]:
    """All bytes of the database: its files, or every row of every table."""
    if not isinstance(daemon, PostgresDaemon):
        yield from (path.read_bytes() for path in daemon.state.glob("dialmark.db*"))
        return
    tables = daemon.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for (table,) in tables:
        for (row,) in daemon.query(f'SELECT t::text FROM "{table}" t'):
            yield row.encode()
            # bytea is shown as hexadecimal digits.
            yield from (bytes.fromhex(word) for word in re.findall(r"\\x((?:[0-9a-f]{2})+)", row))


def execute(daemon: Daemon, *statements: str) -> None:
    """Behind the daemon's back."""
    if isinstance(daemon, PostgresDaemon):
        import psycopg

        with psycopg.connect(daemon.dsn) as connection:
            for statement in statements:
                connection.execute(statement)
        return
    with closing(sqlite3.connect(daemon.database, timeout=10)) as file, file:
        for statement in statements:
            file.execute(statement)


def lose_position(daemon: Daemon) -> None:
    """All that was read of the journal is forgotten; records stay."""
    tables = ("journal_positions", "open_rows", "damaged_rows", "journal_files")
    execute(daemon, *(f"DELETE FROM {table}" for table in tables))


def answered(daemon: Daemon) -> list[Record]:
    """Calls that talk now."""
    return [one for one in daemon.stored(state="open") if one["answered_at"]]


def counted(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """What is counted, by call."""
    return {one["call_id"]: {key: one[key] for key in KEPT} for one in daemon.stored(state=None)}


async def talked(stage: Stage, *pairs: tuple[str, str]) -> list[str]:
    """Recorded talks at the same time, number and caller; over and stored. Their call ids."""
    callers = [await stage.dial(number, caller=caller, voice=Voice(CALLER_HZ)) for number, caller in pairs]
    await asyncio.gather(*(one.headset.until_talk(AGENT_HZ, 1.2) for one in callers))
    found = []
    for one in callers:
        one.hang_up()
    for one in callers:
        record = await stage.record_of(one)
        await sound.until_spool_is_empty(stage, record["call_id"])
        assert [state for _, _, state in sound.rows(stage.daemon, record["call_id"])] == ["stored"]
        found.append(record["call_id"])
    return found


async def archived(stage: Stage) -> None:
    """The journal so far is in the archive; the next row begins a new one."""
    stage.node.journal.rename(stage.node.journal.with_name(f"{stage.node.journal.name}.0"))
    archive = stage.node.journal.parent / "archive"
    stage.node.journal.touch()
    os.chown(stage.node.journal, stage.node.etc.stat().st_uid, stage.node.etc.stat().st_gid)
    await faults.until(lambda: list(archive.glob("*.csv.gz")), 15, "a file in the archive")


async def pressed(stage: Stage, phone: Callee) -> None:
    """The agent pauses and resumes: another part is recorded of a call whose person is gone."""
    for result in ("r=paused", "r=resumed"):
        number = stage.journal().count(result) + 1
        phone.headset.press("*2")
        await faults.until(functools.partial(has, stage, result, number), 8, f"{result} in the journal")


def has(stage: Stage, text: str, number: int) -> bool:
    return stage.journal().count(text) >= number


# -- retention -------------------------------------------------------------------------------------------------------


async def test_retention_takes_the_sound_and_leaves_what_is_counted(stage: Stage) -> None:
    """R34, N10: previewed, condemned, shredded after the grace; a legal hold keeps one; old records lose the person."""
    daemon = stage.daemon
    stage.phone("desk-1", voice=Voice(AGENT_HZ))
    stage.phone("desk-2", voice=Voice(AGENT_HZ))
    caller = "+79165550303"
    gone, held = await talked(stage, (FIRST, caller), (SECOND, caller))
    ids = {call_id: sound.rows(daemon, call_id)[0][0] for call_id in (gone, held)}
    before = counted(daemon)
    await told(daemon, "recordings", "hold", ids[held], "--why", "case 7")
    aged(daemon, gone, held)
    # Not older than a year by its route's rule, so only that of the other route counts.
    daemon.configure({"retention": {"rules": ["*/answered=30", "service/answered=3650"]}})
    assert of_recordings(await preview(daemon)) == {(ids[gone], "condemn")}
    daemon.configure({"retention": {"rules": ["*/answered=30"], "grace_days": 0}})
    assert of_recordings(await preview(daemon)) == {(ids[gone], "condemn"), (ids[held], "keep")}
    assert {one["action"] for one in await preview(daemon) if one["what"] == "calls"} == {"forget"}
    assert counted(daemon) == before
    assert states(daemon, gone, held) == ["stored", "stored"]

    keys = [
        bytes(key) for (key,) in daemon.query("SELECT wrapped FROM recording_keys WHERE recording_id = ?", ids[gone])
    ]
    assert any(key in part for part in contents(daemon) for key in keys)
    await told(daemon, "retention", "run")
    # Without a grace it may be shredded in the same run.
    await told(daemon, "retention", "run")
    assert states(daemon, gone, held) == ["shredded", "stored"]
    assert not list(daemon.vault.rglob(f"{ids[gone]}*"))
    with pytest.raises(CommandFailed, match="shredded"):
        daemon.run("recordings", "export", ids[gone], "--out", str(daemon.state / "gone.mp3"))
    assert len(sound.exported(daemon, ids[held])) > 1000
    assert counted(daemon) == before
    assert {one["caller"]["number"] for one in daemon.stored() if one["call_id"] in ids} == {None}
    assert not any(key in part for part in contents(daemon) for key in keys)
    for command in ("recordings", "audit"):
        await told(daemon, command, "verify")
    await told(daemon, "recordings", "release", ids[held])
    assert of_recordings(await preview(daemon)) == {(ids[held], "condemn")}
    # `verify` holds the records against a journal of today.
    execute(daemon, f"UPDATE calls SET started_us = started_us + {YEARS_US} WHERE call_id IN ('{gone}', '{held}')")


async def told(daemon: Daemon, *arguments: str) -> str:
    return await asyncio.to_thread(daemon.run, *arguments)


async def preview(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await told(daemon, "retention", "preview", "--format", "json"))
    return found


def of_recordings(due: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Recording and what would become of it."""
    return {(one["name"], one["action"]) for one in due if one["what"] == "recording"}


def states(daemon: Daemon, *call_ids: str) -> list[str]:
    return [state for call_id in call_ids for _, _, state in sound.rows(daemon, call_id)]


YEARS_US = 3 * 365 * 86_400_000_000


def aged(daemon: Daemon, *call_ids: str) -> None:
    """These calls were three years ago: rows and files, but for the records' own words."""
    for call_id in call_ids:
        [(recording_id, started_us)] = daemon.query(
            "SELECT recording_id, started_us FROM recordings WHERE call_id = ?", call_id
        )
        source = vault.file_of(daemon.vault, recording_id, started_us)
        target = vault.file_of(daemon.vault, recording_id, started_us - YEARS_US)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        for table in ("recordings", "calls"):
            execute(daemon, f"UPDATE {table} SET started_us = started_us - {YEARS_US} WHERE call_id = '{call_id}'")
