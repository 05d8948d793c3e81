"""A Chromium of the operator's, driven through a pipe by the DevTools protocol: no port that others on the machine
could reach, no library. Each page is somebody new: a browser context of its own that keeps nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.cli import failures

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_SECONDS = 30
CALL_SECONDS = 30
END_SECONDS = 5
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A screenshot is one message."""

ARGUMENTS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,900"),
    # A page that failed is opened once more by us; what the browser does by itself hides why it failed.
    *("--disable-auto-reload", "--disable-features=Translate,MediaRouter,OptimizationHints"),
)

Event = Callable[[str, dict[str, Any]], None]


class BrowserGone(failures.Failure):
    """Chromium ended, or does not answer."""


class CallFailed(Exception):
    """Chromium refused a command; the page has moved on, mostly."""


@dataclass(slots=True)
class Session:
    """One page. `heard` gets its events."""

    browser: Browser
    session_id: str
    target_id: str
    heard: Event = lambda _, __: None

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer. Raises CallFailed and BrowserGone."""
        return await self.browser.call(method, session_id=self.session_id, **parameters)

    def send(self, method: str, **parameters: Any) -> None:
        """One command whose answer nobody waits for."""
        self.browser.send(method, session_id=self.session_id, **parameters)


@dataclass(slots=True)
class Browser:
    """A running Chromium."""

    reader: asyncio.StreamReader
    writer: asyncio.WriteTransport
    _waiting: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _sessions: dict[str, Session] = field(default_factory=dict)
    _last: int = 0
    _is_gone: bool = False

    def send(self, method: str, *, session_id: str | None = None, **parameters: Any) -> int:
        """One command; its number."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if session_id is not None:
            message["sessionId"] = session_id
        self.writer.write(json.dumps(message).encode() + b"\0")
        return self._last

    async def call(self, method: str, *, session_id: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command and its answer. Raises CallFailed and BrowserGone."""
        if self._is_gone:
            raise BrowserGone("Chromium has ended")
        number = self.send(method, session_id=session_id, **parameters)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await answer
        except TimeoutError:
            raise BrowserGone(f"Chromium does not answer {method}") from None
        finally:
            self._waiting.pop(number, None)

    async def listen(self) -> None:
        """Takes what Chromium says until it ends."""
        try:
            while True:
                self._take(json.loads((await self.reader.readuntil(b"\0"))[:-1]))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            self._is_gone = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(BrowserGone("Chromium has ended"))

    def _take(self, message: dict[str, Any]) -> None:
        answer = self._waiting.get(message.get("id", 0))
        if answer is not None and not answer.done():
            if "error" in message:
                answer.set_exception(CallFailed(str(message["error"].get("message"))))
            else:
                answer.set_result(message.get("result", {}))
        elif "method" in message:
            session = self._sessions.get(message.get("sessionId", ""))
            if session is not None:
                session.heard(message["method"], message.get("params", {}))

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Session]:
        """An empty page in a context of its own, gone afterwards."""
        context = (await self.call("Target.createBrowserContext", disposeOnDetach=True))["browserContextId"]
        try:
            made = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
            target = made["targetId"]
            attached = await self.call("Target.attachToTarget", targetId=target, flatten=True)
            session = self._sessions[attached["sessionId"]] = Session(self, attached["sessionId"], target)
            try:
                yield session
            finally:
                del self._sessions[session.session_id]
        finally:
            self.send("Target.disposeBrowserContext", browserContextId=context)


def find(binary: str | None) -> str:
    """The path of Chromium. Raises Failure that says what to install."""
    names = BINARIES if binary is None else (binary,)
    found = next((path for path in map(shutil.which, names) if path is not None), None)
    if found is None and binary is not None:
        raise failures.Failure(f"--browser: {binary} is no program that can be run")
    if found is None:
        raise failures.Failure(
            "no Chromium on PATH: install it (`apt install chromium`), or name one with --browser /path/to/chrome"
        )
    return found


@asynccontextmanager
async def running(binary: str, *, is_sandboxed: bool = True) -> AsyncIterator[Browser]:
    """A Chromium with an empty profile, ended afterwards. Raises Failure when it does not start."""
    if is_sandboxed and os.geteuid() == 0:
        raise failures.Failure(
            "Chromium does not run as root: run this as the daemon's user (`sudo -u dialmark dialmark …`), "
            "or give --no-sandbox where all pages are your own"
        )
    folder = Path(tempfile.mkdtemp(prefix="dialmark-browser-"))
    arguments = [*ARGUMENTS, f"--user-data-dir={folder}", *(() if is_sandboxed else ("--no-sandbox",))]
    said = folder / "said"
    try:
        process, ours_in, ours_out = _spawn(binary, [*arguments, "about:blank"], folder, said)
        async with _connected(ours_in, ours_out) as browser:
            try:
                await _begun(browser, binary, said)
                yield browser
            finally:
                browser.send("Browser.close")
                await asyncio.shield(_ended(process))
    finally:
        # Its children may still be closing files.
        shutil.rmtree(folder, ignore_errors=True)


def _spawn(binary: str, arguments: list[str], folder: Path, said: Path) -> tuple[int, int, int]:
    """Starts Chromium with its pipe at descriptors 3 and 4; its process and our two ends."""
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    # Out of the way of 3 and 4, onto which they are copied.
    ends = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in (their_in, their_out)]
    for one in (their_in, their_out):
        os.close(one)
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    actions = [(nothing, 0), (output, 1), (output, 2), (ends[0], 3), (ends[1], 4)]
    try:
        process = os.posix_spawn(
            binary,
            [binary, *arguments],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, *pair) for pair in actions],
            setpgroup=0,
        )
    except OSError as error:
        os.close(our_in)
        os.close(our_out)
        raise failures.Failure(f"{binary} cannot be started: {error.strerror}") from None
    finally:
        for one in (*ends, output, nothing):
            os.close(one)
    return process, our_in, our_out


@asynccontextmanager
async def _connected(ours_in: int, ours_out: int) -> AsyncIterator[Browser]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_MESSAGE_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    reading, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(ours_in, "rb", 0))
    writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours_out, "wb", 0))
    browser = Browser(reader, writing)
    listening = asyncio.create_task(browser.listen())
    try:
        yield browser
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        reading.close()
        writing.close()


async def _begun(browser: Browser, binary: str, said: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            await browser.call("Browser.getVersion")
    except (BrowserGone, TimeoutError):
        raise failures.Failure(f"{binary} does not start: {_complaint(said)[:300]}") from None


def _complaint(said: Path) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    return next((line for line in lines if "FATAL" in line or "rror" in line), lines[-1])


async def _ended(process: int) -> None:
    """Waits for Chromium's end, and makes one."""
    waiting = asyncio.ensure_future(asyncio.to_thread(os.waitpid, process, 0))
    try:
        async with asyncio.timeout(END_SECONDS):
            await asyncio.shield(waiting)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        await waiting
