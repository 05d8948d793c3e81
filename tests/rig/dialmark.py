"""The real daemon beside a node, and its command line: one class for tests, bench and demo."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import wave
from collections.abc import Mapping
from typing import Any, ClassVar

from tests.rig import ports, preloaded, processes, tones, waits
from tests.rig.asterisk import ROOT, AsteriskNode
from tests.rig.ports import Address

START_SECONDS = 90.0
RECORD_SECONDS = 40.0
CLOSED = "closed"

Record = dict[str, Any]
Value = str | int | float | bool | list[str]
Settings = Mapping[str, Mapping[str, Value]]


def new_ring_line(name: str) -> str:
    """A key of the vault's ring; the one that wraps new keys is followed by `` current``."""
    return f"{name}  {base64.b64encode(secrets.token_bytes(32)).decode()}"


class CommandFailed(RuntimeError):
    """A command ended with another code than 0; the text is what it said."""

    def __init__(self, arguments: tuple[str, ...], done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"dialmark {' '.join(arguments)}: {done.stdout}{done.stderr}")
        self.code = done.returncode
        self.output = done.stdout
        self.errors = done.stderr


class Daemon:
    """``dialmark run`` beside a node, and the command line on the same configuration.

    Args:
        node: whose journal it reads; its folder holds configuration, state and log of the daemon.
        settings: keys by section that win over what the rig sets: ``{"journal": {"rotate_bytes": 65536}}``.
        name: of the node in records.
        records: it has a key ring, so that calls can be recorded, from ``node.recordings`` into ``vault``.
        process: ends the names of its files, so that a second process runs beside the first on the same database.
        roles: of ``dialmark run``; all of them if "".
    """

    interpreter: ClassVar[preloaded.Interpreter | None] = None
    """Forks daemon and commands; ``None``: each begins a Python of its own, as on a site."""

    def __init__(
        self,
        node: AsteriskNode,
        settings: Settings | None = None,
        *,
        name: str = "rig",
        records: bool = False,
        process: str = "",
        roles: str = "",
    ) -> None:
        self.node = node
        self.name = name
        self.admin = Address("127.0.0.1", ports.free_port())
        self.public = Address("127.0.0.1", ports.free_port())
        self.roles = roles
        self.config = node.folder / f"dialmark{process}.toml"
        self.state = node.folder / "state"
        self.database = self.state / "dialmark.db"
        self.vault = self.state / "vault"
        self.ring_file = self.state / "vault.keys"
        self.own_prompts = self.state / "prompts"
        self.log_file = node.folder / f"daemon{process}.log"
        self._settings: dict[str, dict[str, Value]] = self._own_settings()
        self._process: subprocess.Popen[bytes] | preloaded.Process | None = None
        self.state.mkdir(mode=0o750, exist_ok=True)
        if records:
            self.write_ring(new_ring_line("rig-1") + " current")
            self.configure({"vault": {"keys_file": str(self.ring_file)}})
        self.configure(settings or {})

    def write_ring(self, text: str) -> None:
        """The vault's keys, read at the next start."""
        self.ring_file.touch(mode=0o600)
        self.ring_file.write_text(text + "\n")

    def give_prompt(self, key: str, language: str, hertz: int, seconds: float = 1.0) -> None:
        """A prompt of the operator's own: a tone, so that a test knows it by ear. Before the routing is applied."""
        self.own_prompts.mkdir(exist_ok=True)
        with wave.open(str(self.own_prompts / f"{key}.{language}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(tones.RATE)
            file.writeframes(tones.sine(hertz, seconds).tobytes())

    def configure(self, settings: Settings) -> None:
        """Write the configuration again with these keys changed; a running daemon reads it on SIGHUP or restart."""
        for section, keys in settings.items():
            self._settings.setdefault(section, {}).update(keys)
        # A TOML value of these kinds is written as its JSON.
        text = "".join(
            f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            for section, keys in self._settings.items()
        )
        self.config.touch(mode=0o640)
        self.config.write_text(text)

    def _own_settings(self) -> dict[str, dict[str, Value]]:
        node = self.node
        return {
            "node": {"name": self.name},
            "database": {"url": f"sqlite:///{self.database}"},
            "asterisk": {
                "journal_dir": str(node.journal.parent),
                "journal_name": node.journal.name,
                "generated_dir": str(node.etc),
            },
            "ami": {
                "host": node.ami.host,
                "port": node.ami.port,
                "username": node.ami_user,
                "secret": node.ami_secret,
            },
            "agi": {"host": node.agi.host, "port": node.agi.port},
            "web": {"port": self.public.port, "admin_port": self.admin.port},
            "journal": {"ballast_bytes": 1_048_576},
            "events": {"jsonl_path": str(self.state / "events.jsonl")},
            "prompts": {"dir": str(node.folder / "prompts"), "own_dir": str(self.own_prompts)},
            "vault": {"dir": str(self.vault)},
            "recording": {
                "spool_dir": str(node.recordings),
                "signing_key_file": str(self.state / "receipts.key"),
                "settle_seconds": 0.6,
                "poll_seconds": 0.1,
            },
        }

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Return at once; :meth:`until_ready` waits."""
        if self._process is not None:
            raise RuntimeError("already running")
        run = ("run", *(("--roles", self.roles) if self.roles else ()))
        with self.log_file.open("ab") as log:
            if self.interpreter is not None:
                self._process = self.interpreter.start(self._arguments(*run), self._environment(), log, log)
                return
            self._process = subprocess.Popen(
                processes.guarded(self._command(*run)),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def until_ready(self, seconds: float = START_SECONDS) -> None:
        """Return when ``/readyz`` says 200.

        Raises:
            RuntimeError: the daemon ended or is not ready in time; the text holds its log.
        """
        patience = waits.Patience(seconds)
        while not await asyncio.to_thread(self.is_ready):
            has_ended = self._process is not None and self._process.poll() is not None
            if has_ended or patience.is_over():
                raise RuntimeError("the daemon did not become ready:\n" + self.log())
            await asyncio.sleep(0.05)

    def is_ready(self) -> bool:
        """``/readyz`` says 200 now."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=30) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def begin(self) -> None:
        """As :meth:`start` and :meth:`until_ready`, for fixtures that are no coroutines."""
        self.start()
        asyncio.run(self.until_ready())

    def stop(self) -> None:
        """SIGTERM, and wait for the drain. No error when it is not running."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.thaw()
            processes.stop(self._process, 30)
            self._process = None

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def restart(self) -> None:
        """Stop with a drain, start, and wait until it is ready."""
        await asyncio.to_thread(self.stop)
        self.start()
        await self.until_ready()

    def freeze(self) -> None:
        """SIGSTOP: the kernel goes on accepting connections for it."""
        processes.freeze(self.pid)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """For SIGHUP and the like."""
        os.kill(self.pid, number)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the daemon is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def cpu_seconds(self) -> float:
        """CPU time the daemon has used since its start."""
        return processes.cpu_seconds(self.pid)

    # -- the command line ----------------------------------------------------------------------------------------

    def run(self, *arguments: str) -> str:
        """Output of one command.

        Raises:
            CommandFailed: it ended with another code than 0.
        """
        done = self._done(*arguments)
        if done.returncode != 0:
            raise CommandFailed(arguments, done)
        return done.stdout

    def apply(self, text: str) -> None:
        """Put a routing file in force, and return when the running daemon and Asterisk have its generated plan.

        Raises:
            CommandFailed: it was refused.
            TimeoutError: the generated plan did not follow.
        """
        file = self.node.folder / "routing.toml"
        file.write_text(text)
        self.run("apply", "--force", str(file))
        if self.is_running and self.node.is_running:
            self.until_plan()

    def until_plan(self, seconds: float = 60.0) -> None:
        """Return when the generated plan that Asterisk holds is of the revision in force."""
        wanted = str(self.revision())
        waits.wait_until(lambda: self._held_revision() == wanted, seconds, f"revision {wanted} in Asterisk")

    def revision(self) -> int:
        """Of the routing in force."""
        [(latest,)] = self.query("SELECT max(revision) FROM routing_revisions")
        return int(latest)

    def _held_revision(self) -> str:
        shown = self.node.cli("dialplan show globals")
        return next(
            (line.split("=", 1)[1].strip() for line in shown.splitlines() if "DM_PLAN_REVISION=" in line),
            "",
        )

    def verify(self) -> Record:
        """What ``dialmark verify`` counts: ``missing``, ``doubled``, ``invented``, ``records``, ``channels`` …

        It is not an error here when it finds something.

        Raises:
            CommandFailed: it could not count.
        """
        try:
            found: Record = json.loads(self.run("verify", "--format", "json"))
        except CommandFailed as failed:
            if not failed.output.startswith("{"):
                raise
            found = json.loads(failed.output)
        return found

    def _done(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        if self.interpreter is None:
            command = self._command(*arguments)
            return subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            words = self._arguments(*arguments)
            code = self.interpreter.start(words, self._environment(), output, errors).wait()
            said = []
            for file in (output, errors):
                file.seek(0)
                said.append(file.read().decode())
        return subprocess.CompletedProcess(words, code, said[0], said[1])

    def _arguments(self, *arguments: str) -> list[str]:
        return ["--config", str(self.config), *arguments]

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "gateway", *self._arguments(*arguments)]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DIALMARK_")}
        return {**kept, "PYTHONPATH": str(ROOT)}

    # -- records -------------------------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """All call records as the command line exports them, oldest first."""
        return [json.loads(line) for line in self.run("calls", "export").splitlines()][::-1]

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Read the database beside the daemon, for polling: a command would cost half a second each time.

        Raises:
            sqlite3.Error: there is no such database or table yet.
        """
        uri = f"{self.database.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def stored(self, *, state: str | None = CLOSED) -> list[Record]:
        """Records now in the database, oldest first; ``state=None``: of calls that are up as well."""
        with contextlib.suppress(sqlite3.OperationalError):
            rows = self.query("SELECT record FROM calls WHERE state = coalesce(?, state) ORDER BY started_us", state)
            return [json.loads(record) for (record,) in rows]
        return []

    async def until_records(self, number: int, seconds: float = RECORD_SECONDS) -> list[Record]:
        """Wait until there are at least so many records of ended calls; return all of them, oldest first.

        Raises:
            TimeoutError: there were fewer; the note holds the daemon's log.
        """
        patience = waits.Patience(seconds)
        while len(found := self.stored()) < number:
            if patience.is_over():
                error = TimeoutError(f"{len(found)} records of ended calls, not {number}")
                error.add_note(self.log())
                raise error
            await asyncio.sleep(0.05)
        return found

    async def until_record_of(self, sip_call_id: str, seconds: float = RECORD_SECONDS) -> Record:
        """The record of the ended call with this SIP Call-ID, waited for.

        Raises:
            TimeoutError: it did not come; the note holds the daemon's log.
        """
        patience = waits.Patience(seconds)
        sql = "SELECT record FROM calls WHERE sip_call_id = ? AND state = ?"
        # The dialplan keeps 64 characters of it.
        while not (rows := self.query(sql, sip_call_id[:64], CLOSED)):
            if patience.is_over():
                error = TimeoutError(f"no record of {sip_call_id}, state: {self.stored(state=None)[-1:]}")
                error.add_note(self.log())
                raise error
            await asyncio.sleep(0.05)
        assert len(rows) == 1, f"{len(rows)} records of one call"
        record: Record = json.loads(rows[0][0])
        return record

    def events(self) -> list[Record]:
        """The JSON lines that events have gone to; a line still being written is left out."""
        path = self.state / "events.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def log(self, lines: int = 30) -> str:
        """The end of the daemon's log."""
        if not self.log_file.exists():
            return ""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
