"""A daemon as `dialmark run` starts it, with a spool and a vault, without Asterisk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway import store
from gateway.cli import agi_probe
from gateway.pbx import planfile
from gateway.store import keyring
from gateway.store import routing as revisions
from tests import told
from tests.config import files
from tests.rig import ports, waits
from tests.rig.asterisk import ROOT

KEYS = keyring.new_line("2026-11")
RECORDED = files.with_line('key = "sales"', 'recording = "none"')
"""A route whose calls are recorded, and nobody is asked."""
NODE = "main"


class Site:
    """Folders and settings of one daemon; `running` runs it."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.agi, self.admin, self.public = (ports.free_port() for _ in range(3))
        self.spool, self.vault, self.keys = folder / "spool", folder / "vault", folder / "vault.keys"
        self.signing_key = folder / "receipts.key"
        self.said: list[str] = []
        self.code: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        for name in ("cel", "generated", "spool"):
            (folder / name).mkdir()
        self.keys.write_text(f"{KEYS}\n")
        self.settings: dict[str, dict[str, object]] = {
            "node": {"name": NODE},
            "database": {"url": database_url},
            "asterisk": {"journal_dir": f"{folder}/cel", "generated_dir": f"{folder}/generated"},
            "ami": {"enabled": False},
            "agi": {"port": self.agi},
            "web": {"port": self.public, "admin_port": self.admin},
            "journal": {"ballast_bytes": 0, "batch_milliseconds": 10},
            "events": {"jsonl_path": f"{folder}/events.jsonl"},
            "caller": {"region": False},
            "prompts": {"dir": f"{folder}/p", "own_dir": f"{folder}/own", "engine": "none"},
            "vault": {"dir": str(self.vault), "keys_file": str(self.keys)},
            "recording": {
                "spool_dir": str(self.spool),
                "settle_seconds": 0.1,
                "poll_seconds": 0.05,
                "min_free_percent": 1,
                "signing_key_file": str(self.signing_key),
            },
        }

    @contextlib.asynccontextmanager
    async def open_store(self) -> AsyncIterator[store.Database]:
        """The database beside the daemon, made if it is not there."""
        database = await store.Database.open(self.database_url)
        try:
            yield database
        finally:
            await database.close()

    async def apply(self, text: str) -> None:
        """Put a routing file in force."""
        async with self.open_store() as database, database.begin() as tx:
            latest = await revisions.latest(tx)
            await revisions.add(
                tx, document=text, applied_at=datetime.now(UTC), applied_by="test", comment="", based_on=latest
            )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Site]:
        """The daemon, READY; afterwards it was stopped by SIGTERM, unless it is gone."""
        config = self.folder / "dialmark.toml"
        config.write_text(
            "".join(
                f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
                for section, values in self.settings.items()
            )
        )
        self.said = []
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "--config", str(config), "run"),
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("DIALMARK_")},
            stderr=asyncio.subprocess.PIPE,
        )
        reading = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(90):
                await self.until_said("READY")
            yield self
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            self.code = await self._process.wait()
            await reading
            assert [wrong for event in self.events() for wrong in told.problems(event)] == []

    async def _read(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        async for line in self._process.stderr:
            self.said.append(line.decode())

    async def until_said(self, words: str) -> None:
        """Wait for a line of the log."""
        while not any(words in line for line in self.said):
            assert self._process is not None and self._process.returncode is None, "".join(self.said)
            await asyncio.sleep(0.01)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something outside."""
        await asyncio.to_thread(waits.wait_until, condition, 20, what)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()

    async def check(self, name: str = "recordings") -> dict[str, Any]:
        """One check of `/readyz`."""
        document = json.loads(await asyncio.to_thread(self._fetch, "readyz"))
        found: dict[str, Any] = document["checks"][name]
        return found

    async def until_check(self, wanted: Mapping[str, object]) -> dict[str, Any]:
        """The check of recordings, once it has these facts."""
        patience = waits.Patience(20)
        while not wanted.items() <= (found := await self.check())["facts"].items():
            assert not patience.is_over(), f"{found} {''.join(self.said)}"
            await asyncio.sleep(0.02)
        return found

    async def metrics(self) -> dict[str, float]:
        """Samples without the node's label."""
        text = await asyncio.to_thread(self._fetch, "metrics")
        found = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name.replace(f'node="{NODE}"', "").replace("{,", "{").replace("{}", "")] = float(value)
        return found

    def _fetch(self, page: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/{page}", timeout=30) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as refused:
            return refused.read().decode()

    async def plan(self) -> dict[str, str]:
        """What a call to the first number is told."""
        return (await agi_probe.ask("127.0.0.1", self.agi, "74990000001")).variables

    async def run(self, *arguments: str) -> str:
        """What a command prints."""
        config = str(self.folder / "dialmark.toml")
        command = (sys.executable, "-m", "gateway", "--config", config, *arguments)
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        return printed.decode()

    def events(self) -> list[dict[str, Any]]:
        """What went out."""
        path = self.folder / "events.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def globals(self) -> dict[str, str]:
        """Variables of the generated plan."""
        text = (
            (self.folder / "generated" / planfile.FILE_NAME).read_text().partition("[globals]")[2].partition("\n[")[0]
        )
        return dict(re.findall(r"(?m)^(\w+) =[ ]?(.*)$", text))
