"""What every test stands on: a clean environment, databases to throw away, a real Asterisk."""

from __future__ import annotations

import os
import signal
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import laidout
from tests.remeasuring import (
    pytest_addoption,
    pytest_report_teststatus,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_terminal_summary,
)
from tests.rig import AsteriskNode, Daemon, Rig
from tests.rig.asterisk import ROOT, installation, new_folder
from tests.rig.preloaded import Interpreter

__all__ = [
    "pytest_addoption",
    "pytest_report_teststatus",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
]

# DSN of a PostgreSQL cluster in which databases may be made and dropped: scripts/test sets it.
POSTGRES_DSN = os.environ.get("DIALMARK_TEST_POSTGRES")

# Kept: the root tree to run, and where PostgreSQL is, for xdist. All else of ours would change what is tested.
KEPT = {"DIALMARK_ASTERISK_TREE", "DIALMARK_TEST_POSTGRES"}

# The same examples in every run, and none judged by how busy the machine is.
hypothesis.settings.register_profile("dialmark", deadline=None, derandomize=True)
hypothesis.settings.load_profile("dialmark")

# To begin a Python for each daemon and command would be half of what the acceptance tests do.
Daemon.interpreter = Interpreter()

for _name in [name for name in os.environ if name.startswith("DIALMARK_") and name not in KEPT]:
    del os.environ[_name]

# A shell without job control begins what runs in the background with Ctrl-C ignored, and all that we start would
# inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


SLOW_FIRST = (
    *("test_demo.py", "acceptance/test_callbacks_calls.py", "services/test_tracker.py"),
    *("acceptance/test_recording_faults.py", "outgoing/test_posting.py", "outgoing/test_jsonlines.py"),
    *("services/test_recorder.py", "acceptance/test_faults_failopen.py"),
    *("daemon/test_recordings.py", "acceptance/test_erasing.py", "web/test_player.py", "test_docs.py"),
    *("acceptance/test_recording_audio.py", "acceptance/test_faults_asterisk.py", "acceptance/test_whisper.py"),
    *("acceptance/test_unanswered.py", "acceptance/test_press_one.py", "acceptance/test_faults_daemon.py"),
)
"""Files of half a minute and more: begun first, nobody waits for them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first; those that wait for calls evenly among those that compute, so that neither kind is alone."""
    places: dict[Path, float] = {}
    for waits in (True, False):
        paths = dict.fromkeys(item.path for item in items if ("acceptance" in item.path.parts) is waits)
        ordered = sorted(paths, key=_slowness)
        places |= {path: (number + 0.5) / len(ordered) for number, path in enumerate(ordered)}
    items.sort(key=lambda item: (_slowness(item.path) > 0, places[item.path]))


def _slowness(path: Path) -> int:
    name = path.relative_to(ROOT / "tests").as_posix()
    return SLOW_FIRST.index(name) if name in SLOW_FIRST else len(SLOW_FIRST)


@pytest.fixture(autouse=True)
def no_configuration_is_left_behind() -> Iterator[None]:
    """`dialmark --config FILE …`, run in this process, tells its commands of the file by the environment."""
    yield
    os.environ.pop("DIALMARK_CONFIG", None)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[laidout.Templates]:
    """Of databases with all tables."""
    made = laidout.Templates(tmp_path_factory.mktemp("laidout"), POSTGRES_DSN)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, templates: laidout.Templates) -> Iterator[str]:
    """SQLAlchemy URL of a fresh, empty database: the test runs once per kind. The tables are there already for a test
    that has a `database`."""
    has_tables = "database" in request.fixturenames
    if request.param == "sqlite":
        if has_tables:
            templates.copy_sqlite(tmp_path / "dialmark.db")
        yield f"sqlite+aiosqlite:///{tmp_path}/dialmark.db"
        return
    if POSTGRES_DSN is None:
        pytest.fail(
            "no PostgreSQL: run ./scripts/test, or set DIALMARK_TEST_POSTGRES to the DSN of a cluster", pytrace=False
        )
    # Here and not above, so that tests without a database need no driver.
    import psycopg
    from psycopg import sql

    name = f"dialmark_{uuid.uuid4().hex}"
    made = sql.SQL("create database {} template {}").format(
        sql.Identifier(name), sql.Identifier(templates.postgres() if has_tables else "template1")
    )
    with psycopg.connect(POSTGRES_DSN, autocommit=True) as connection:
        connection.execute(made)
    yield laidout.url(POSTGRES_DSN, name)
    with psycopg.connect(POSTGRES_DSN, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


NodeFactory = Callable[..., AsteriskNode]


@pytest.fixture(scope="module")
def make_node() -> Iterator[NodeFactory]:
    """Makes nodes that live until the end of the module: ``make_node(dialplan=…, files=…)``, not yet started."""
    nodes: list[AsteriskNode] = []

    def make(**options: Any) -> AsteriskNode:
        node = AsteriskNode(new_folder(), **options)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
async def rig_of() -> AsyncIterator[Callable[[AsteriskNode], Rig]]:
    """Makes the parties around a node; they are gone after the test, the node stays."""
    rigs: list[Rig] = []

    def of(node: AsteriskNode) -> Rig:
        rigs.append(Rig(node))
        return rigs[-1]

    yield of
    for rig in rigs:
        await rig.close()


def pytest_report_header(config: pytest.Config) -> str:
    """The versions a run stands on."""
    del config
    if POSTGRES_DSN is None:
        postgres = "DIALMARK_TEST_POSTGRES is not set"
    else:
        import psycopg

        with psycopg.connect(POSTGRES_DSN) as connection:
            postgres = connection.info.parameter_status("server_version") or "?"
    return f"Asterisk: {installation().version}, PostgreSQL: {postgres}, SQLite: {sqlite3.sqlite_version}"
