"""What `vault` hears recordings by: the real daemon's API, and aiohttp with a plain file, both on the loopback.

python -m bench.playback FILE        the peer: serves the file at /, prints its port
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from gateway import store
from gateway.store import keyring, recordings, vault
from tests.rig import Address, AsteriskNode, processes, waits
from tests.rig.asterisk import ROOT, new_folder
from tests.rig.dialmark import Daemon

START_SECONDS = 30.0
RANGE_BYTES = vault.FRAME_BYTES
NO_LIMIT = 10_000_000


@dataclass
class Player:
    """One connection that is kept, as a player's is."""

    place: Address
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    _wire: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self._wire = http.client.HTTPConnection(self.place.host, self.place.port, timeout=10)

    def read(self, start: int) -> bytes:
        """Bytes from `start`. Raises RuntimeError when the answer is not 206."""
        span = f"bytes={start}-{start + RANGE_BYTES - 1}"
        self._wire.request("GET", self.path, headers={**self.headers, "Range": span})
        answer = self._wire.getresponse()
        body = answer.read()
        if answer.status != 206:
            raise RuntimeError(f"HTTP {answer.status}: {body[:200]!r}")
        return body

    def answers(self) -> bool:
        """Whether it can be played now."""
        try:
            return bool(self.read(0))
        except (OSError, http.client.HTTPException):
            self._wire.close()
            return False

    def close(self) -> None:
        self._wire.close()


@contextlib.contextmanager
def daemon(one: recordings.Recording, container: Path, key: bytes) -> Iterator[Player]:
    """`dialmark run` with this recording in its vault. There is no Asterisk: nobody needs one to listen."""
    node = AsteriskNode(new_folder("bench-playback"))
    mine = Daemon(node, {"limits": {"api_per_minute": NO_LIMIT}}, name="bench", records=True)
    try:
        token = mine.run("token", "add", "bench", "--scope", "recordings:listen").split()[0]
        asyncio.run(_register(mine, one, container, key))
        mine.start()
        headers = {"Authorization": f"Bearer {token}"}
        player = Player(mine.admin, f"/api/v1/recordings/{one.recording_id}/audio", headers)
        waits.wait_until(player.answers, START_SECONDS, "a daemon that plays:\n" + mine.log())
        yield player
        player.close()
    finally:
        mine.stop()
        node.close()


async def _register(mine: Daemon, one: recordings.Recording, container: Path, key: bytes) -> None:
    path = vault.file_of(mine.vault, one.recording_id, one.started_us)
    path.parent.mkdir(parents=True)
    shutil.copyfile(container, path)
    ring = keyring.parse(mine.ring_file.read_text())
    database = await store.Database.open(f"sqlite:///{mine.database}")
    try:
        async with database.begin() as tx:
            await recordings.register(tx, one, ring.wrap(key, recordings.subject(one.recording_id)))
    finally:
        await database.close()


@contextlib.contextmanager
def plain_file(path: Path) -> Iterator[Player]:
    """The peer, for this file."""
    process = subprocess.Popen(
        processes.guarded([sys.executable, "-m", "bench.playback", str(path)]),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        player = Player(Address("127.0.0.1", int(process.stdout.readline())), "/")
        waits.wait_until(player.answers, START_SECONDS, "a peer that plays")
        yield player
        player.close()
    finally:
        processes.stop(process)


async def serve(path: Path) -> None:
    """The peer itself."""

    async def answer(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
