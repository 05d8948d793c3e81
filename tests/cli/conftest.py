"""An operator at a terminal: runs commands in this process on a real database, with journals recorded from Asterisk."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway import cli, store
from gateway.cli import context
from gateway.core import book
from gateway.pbx import journalfiles
from gateway.services import forgotten, tracker
from gateway.store import keyring, signatures
from tests import journals

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "routing.example.toml"

ROUTING = """\
[[site]]
key = "clinic"
name = "Clinic"
time_zone = "Europe/Moscow"
country = "RU"
default_destination = "desk"

[[source]]
key = "radio"
name = "Radio"
channel = "offline"

[[destination]]
key = "desk"
dial = "sip:desk-1"

[[destination]]
key = "second"
dial = "sip:desk-2"

[[route]]
key = "sales"
forward = ["desk"]
reserve = ["second"]

[[tracking_number]]
number = "+74990000001"
route = "sales"
source = "radio"
"""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Operator:
    """Runs commands as `dialmark ARGUMENTS` would."""

    def __init__(self, folder: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.config = config
        self.routing = folder / "routing.toml"
        self.journal = folder / "cel" / "dialmark.csv"
        self._capsys = capsys

    def __call__(self, *arguments: object, code: int = 0) -> Said:
        """Run one command; any other exit code than `code` fails the test, as a traceback does."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        printed = self._capsys.readouterr()
        said = Said(int(ended.value.code or 0), printed.out, printed.err)
        assert said.code == code, f"exit {said.code}\n{said.out}\n{said.err}"
        assert "Traceback" not in said.err
        return said

    def apply(self, text: str = ROUTING, *arguments: str) -> Said:
        """Apply a routing file with this text."""
        self.routing.write_text(text, encoding="utf-8")
        return self("apply", self.routing, *arguments)

    def write_journal(self, *names: str) -> None:
        """Put recorded calls into the journal."""
        self.journal.write_bytes(b"".join(journals.content(name) for name in names))

    def use(self, database_url: str) -> None:
        """Work on this database instead of the folder's."""
        text = self.config.read_text()
        self.config.write_text(text.replace(f"sqlite:///{self.folder}/dialmark.db", database_url))

    def track(
        self,
        *,
        now_us: int = 1_900_000_000_000_000,
        signer: signatures.Signer | None = None,
        ring: keyring.KeyRing | None = None,
    ) -> None:
        """Let the daemon's tracker read the journal to its end."""
        asyncio.run(self._track(now_us, signer, ring))

    async def _track(self, now_us: int, signer: signatures.Signer | None, ring: keyring.KeyRing | None) -> None:
        async def book_of(_: int | None) -> book.Book | None:
            return await context.book_in_force(database, context.settings(self.config))

        async def nothing_known() -> tracker.Alive | None:
            return None

        database = await store.Database.open(context.settings(self.config).database.url)
        try:
            reading = tracker.Tracker(
                database,
                journalfiles.JournalReader(self.journal.parent),
                node="main",
                book_of=book_of,
                outlets=tracker.Outlets(changed=lambda _: None, events_added=lambda: None, targets=["jsonl"]),
                alive=nothing_known,
                now_us=lambda: now_us,
                signer=signer,
                erased=forgotten.Forgotten(database, ring),
            )
            await reading.restore()
            while await reading.step() or not reading.is_caught_up:
                pass
        finally:
            await database.close()


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Operator:
    """An operator of a machine with settings and an empty database folder; nothing is applied yet."""
    (tmp_path / "cel").mkdir()
    (tmp_path / "generated").mkdir()
    secret = tmp_path / "ami.secret"
    secret.write_text("not-a-secret\n")
    secret.chmod(0o640)
    config = tmp_path / "dialmark.toml"
    config.write_text(
        f"""\
[database]
url = "sqlite:///{tmp_path}/dialmark.db"
[asterisk]
journal_dir = "{tmp_path}/cel"
generated_dir = "{tmp_path}/generated"
[ami]
secret_file = "{secret}"
[events]
jsonl_path = "{tmp_path}/events.jsonl"
"""
    )
    monkeypatch.setenv("DIALMARK_CONFIG", str(config))
    # Listings are as wide as their text when piped, whatever the terminal of whoever runs the tests.
    monkeypatch.delenv("COLUMNS", raising=False)
    return Operator(tmp_path, config, capsys)


@pytest.fixture
def unused_port() -> int:
    """A TCP port on loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def busy_day(operator: Operator) -> Operator:
    """Routing applied, six recorded calls in the journal and in the database."""
    operator.apply()
    operator.write_journal(
        "answered_agent_ends", "busy_then_reserve", "all_fail", "abandoned_first", "outbound", "hostile"
    )
    operator.track()
    return operator
