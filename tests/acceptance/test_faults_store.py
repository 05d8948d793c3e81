"""The database is full, locked or gone: calls go on, records come later, nothing is lost (N1)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import resource
import shutil
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import faults, stages
from tests.acceptance.faults import SALES
from tests.acceptance.stages import Stage
from tests.conftest import NodeFactory
from tests.rig import AsteriskNode, Daemon, Rig, ports, processes, waits
from tests.rig.asterisk import new_folder

pytestmark = pytest.mark.real_time

LOCKED_SECONDS = 8
"""More than the 5 s for which SQLite itself waits for a lock."""


@pytest.fixture(scope="module")
def site(make_node: NodeFactory) -> Iterator[stages.Site]:
    with stages.site(make_node, faults.ROUTING, files=faults.SITE_DIALPLAN) as site:
        yield site


@pytest.fixture
async def stage(site: stages.Site, rig_of: Callable[[AsteriskNode], Rig]) -> AsyncIterator[Stage]:
    yield Stage(site, rig_of(site.node))
    await site.daemon.until_ready()
    await asyncio.to_thread(site.conserved)


async def calls(stage: Stage, number: int = 5) -> list[str]:
    """So many calls, one after the other, each put through at once; their SIP Call-IDs."""
    placed = []
    for _ in range(number):
        result = await stage.rig.call(SALES, caller=stage.site.caller(), hold_ms=30)
        assert result.status == 200
        rang = result.first(180)
        assert rang is not None and rang < 2000
        placed.append(result.call_id or "")
    return placed


async def all_stored(stage: Stage, placed: list[str]) -> None:
    for call_id in placed:
        record = await stage.daemon.until_record_of(call_id, 20)
        assert (record["outcome"], record["revision"]) == ("answered", 1)


@contextlib.contextmanager
def full_disk(daemon: Daemon) -> Iterator[None]:
    """No file of the daemon may grow: database, events, log. As on a full disk, every write is refused (EFBIG)."""
    former = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (4096, former[1]))
    yield
    if daemon.is_running:
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, former)


def trouble(daemon: Daemon) -> str:
    """What ``/readyz`` says of the journal's way into the database while it is not ready."""
    try:
        urllib.request.urlopen(f"http://{daemon.admin}/readyz", timeout=30).close()
    except urllib.error.HTTPError as answer:
        with answer:
            return str(json.load(answer)["checks"]["journal"]["summary"])
    return ""


async def test_a_full_disk(stage: Stage) -> None:
    """Database, event file and log on it: calls go on, the health says what is wrong, records come with the space."""
    stage.phone("desk-1", ring_ms=20, traced=False)
    await calls(stage, 1)
    with full_disk(stage.daemon):
        placed = await calls(stage)
        await faults.until(lambda: "records wait" in trouble(stage.daemon), 30, "the complaint in the health")
        placed += await calls(stage, 2)
        assert stage.daemon.is_running
    await all_stored(stage, placed)
    await stage.daemon.until_ready()
    await faults.until(lambda: set(placed) <= completed(stage.daemon), 45, "their events")


def completed(daemon: Daemon) -> set[str]:
    """SIP Call-IDs of calls whose end was told."""
    return {event["data"]["sip_call_id"] for event in daemon.events() if event["type"] == "call.completed"}


async def test_full_and_killed(stage: Stage) -> None:
    """The daemon is killed while its disk is full, and comes back to the space."""
    stage.phone("desk-1", ring_ms=20, traced=False)
    with full_disk(stage.daemon):
        placed = await calls(stage, 3)
        await asyncio.to_thread(stage.daemon.kill)
        placed += await calls(stage, 2)
        stage.daemon.start()
    await all_stored(stage, placed)


async def test_locked_by_another_process(stage: Stage) -> None:
    """Longer than SQLite's own patience. Routing goes on by the book in memory."""
    stage.phone("desk-1", ring_ms=20, traced=False)
    with closing(sqlite3.connect(stage.daemon.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        placed = await calls(stage, 3)
        await faults.until(lambda: "locked" in stage.daemon.log(100), LOCKED_SECONDS, "the complaint in the log")
        assert stage.daemon.is_running
        placed += await calls(stage, 2)
        other.execute("ROLLBACK")
    await all_stored(stage, placed)
    assert {one["route_source"] for one in stage.daemon.stored() if one["sip_call_id"] in placed} == {"agi"}


async def test_moved_away_and_back(stage: Stage) -> None:
    """The disk with the database is away: nothing is written into a file that nobody finds again."""
    stage.phone("desk-1", ring_ms=20, traced=False)
    await calls(stage, 1)
    away = stage.daemon.database.rename(stage.daemon.database.with_name("away"))
    placed = await calls(stage, 3)
    await faults.until(lambda: "will be tried again" in stage.daemon.log(100), 30, "the complaint in the log")
    assert stage.daemon.is_running
    away.rename(stage.daemon.database)
    await all_stored(stage, placed)


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


class Cluster:
    """A PostgreSQL of its own, which can be stopped: the suite's is shared. It refuses to run as root."""

    def __init__(self) -> None:
        self.folder = new_folder("postgres")
        self.port = ports.free_port()
        self._bin = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))[-1].parent
        if os.geteuid() == 0:
            os.chown(self.folder, *_postgres())
        self._process: subprocess.Popen[bytes] | None = None
        made = self._command(
            "initdb", "-D", str(self.folder / "data"), "-U", "rig", "-A", "trust", "-E", "UTF8", "--no-sync"
        )
        subprocess.run(made, check=True, capture_output=True, cwd=self.folder, env=self._environment())

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._bin / program), *arguments]
        if os.geteuid() != 0:
            return processes.guarded(command)
        # Unlike Asterisk it needs a user with a name.
        user, group = map(str, _postgres())
        return ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--pdeathsig", "KILL", "--", *command]

    def _environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.folder)}

    def start(self) -> None:
        options = ["-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", *options, "-c", "fsync=off"),
                cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        waits.wait_until(self._answers, 20, "PostgreSQL up")

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def dsn(self, name: str) -> str:
        return f"postgresql://rig@127.0.0.1:{self.port}/{name}"

    def kill(self) -> None:
        """SIGQUIT: it is gone at once, without a word to its clients, and recovers at its next start."""
        if self._process is not None:
            self._process.send_signal(3)
            self._process.wait(20)
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _postgres() -> tuple[int, int]:
    """Ids of the user that Debian's package makes."""
    user = pwd.getpwnam("postgres")
    return user.pw_uid, user.pw_gid


class PostgresDaemon(Daemon):
    """Reads the records of a database that is no file."""

    dsn = ""

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql.replace("?", "%s::text"), parameters).fetchall()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


async def test_postgresql_gone_and_back(
    make_node: NodeFactory, rig_of: Callable[[AsteriskNode], Rig], cluster: Cluster
) -> None:
    """Its server crashes with calls up and stays away: the daemon goes on routing, and waits with the records."""
    site = stages.Site(make_node, faults.ROUTING, files=faults.SITE_DIALPLAN)
    site.daemon = daemon = PostgresDaemon(site.node, {"database": {"url": cluster.dsn("postgres")}})
    daemon.dsn = cluster.dsn("postgres")
    site.node.start()
    daemon.apply(site.routing)
    daemon.start()
    try:
        await daemon.until_ready()
        await asyncio.to_thread(daemon.until_plan)
        await asyncio.to_thread(site.node.until_endpoint, "carrier-a")
        stage = Stage(site, rig_of(site.node))
        stage.phone("desk-1", ring_ms=20, traced=False)
        up = await stage.dial(SALES)
        await up.until(200)
        await all_stored(stage, await calls(stage, 1))
        await asyncio.to_thread(cluster.kill)
        placed = await calls(stage, 3)
        await faults.until(lambda: "will be tried again" in daemon.log(100), 20, "the complaint in the log")
        assert daemon.is_running
        up.hang_up()
        placed += await calls(stage, 1)
        cluster.start()
        await all_stored(stage, [*placed, up.call_id])
        await asyncio.to_thread(site.conserved)
    finally:
        daemon.stop()
