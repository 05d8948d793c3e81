"""Opens one landing page as a visitor of a case would, and tells what the browser saw of it.

The pass of the check is written into the script's own request on its way out, so that neither the page nor anybody else
on it ever sees it. Hits of web analytics are held back: a check is no visit there either.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.cli import chromium, failures
from gateway.core import webjudging
from gateway.core.webbook import WebBook
from gateway.core.webcases import Case
from gateway.core.webjudging import Level

POLL_SECONDS = 0.1
SCRIPT_SECONDS = 3.0
"""After a page has loaded, a tag manager may need so long to bring the script."""
SETTLE_SECONDS = 2.0
"""After the answer, a page may need so long to draw its numbers."""
MAX_HTML = 5_000_000

ANALYTICS = (
    *("*google-analytics.com/*collect*", "*analytics.google.com/*collect*", "*mc.yandex.*/watch*"),
    *(
        "*mc.yandex.*/clmap*",
        "*mc.yandex.*/webvisor*",
        "*facebook.com/tr*",
        "*bat.bing.com/action*",
        "*top-fwz1.mail.ru/*",
    ),
)

_SCRIPT = re.compile(r"/dni/v1/([a-z0-9-]{1,63})\.js(?:[?#]|$)")
_VISIT = re.compile(r"/dni/v1/visit(?:[?#]|$)")
_WORLD = "dialmark-check"
_AGREE = 'if (top === self) { (window.dialmark = window.dialmark || []).push(["start", "granted"]); }'
_WATCH = """if (top === self) { globalThis.dialmarkBlocked = [];
  document.addEventListener("securitypolicyviolation", (event) => dialmarkBlocked.push(event.blockedURI)); }"""
_STATE = "JSON.stringify(window.dialmark && dialmark.status ? dialmark.status() : {})"
_LOOK = (Path(__file__).parent / "webpage.js").read_text(encoding="utf-8")


@dataclass(slots=True)
class _Request:
    url: str
    at: float
    body: dict[str, Any] = field(default_factory=dict)
    status: int | None = None
    failure: str = ""
    seconds: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)
    is_over: bool = False


@dataclass(slots=True)
class _Watch:
    """What happens on a page, put together from its events."""

    session: chromium.Session
    pass_id: str
    case: Case
    requests: dict[str, _Request] = field(default_factory=dict)
    document: str = ""
    status: int | None = None
    failure: str = ""
    html: str = ""
    is_loaded: bool = False
    faults: list[str] = field(default_factory=list)
    state: str = ""
    looked: dict[str, list[str]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    # ---- Events ----

    def hear(self, method: str, event: dict[str, Any]) -> None:
        """One event of the page."""
        match method:
            case "Fetch.requestPaused":
                self._go_on(event)
            case "Page.javascriptDialogOpening":
                self.session.send("Page.handleJavaScriptDialog", accept=False)
            case "Page.loadEventFired":
                self.is_loaded = True
            case "Runtime.exceptionThrown":
                self._threw(event["exceptionDetails"])
            case "Network.requestWillBeSent":
                self._sent(event)
            case "Network.responseReceived":
                self._answered(event)
            case "Network.responseReceivedExtraInfo":
                self._hidden(event)
            case "Network.loadingFinished" | "Network.loadingFailed":
                self._over(event)

    def _go_on(self, event: dict[str, Any]) -> None:
        """The script asks for its numbers: the pass goes with it."""
        body = _object(event["request"].get("postData", ""))
        if event["request"]["method"] != "POST" or not body:
            self.session.send("Fetch.continueRequest", requestId=event["requestId"])
            return
        check = {"pass": self.pass_id, "country": self.case.country, "city": self.case.city}
        body["check"] = {name: value for name, value in check.items() if value is not None}
        data = base64.b64encode(json.dumps(body).encode()).decode()
        self.session.send("Fetch.continueRequest", requestId=event["requestId"], postData=data)

    def _threw(self, details: dict[str, Any]) -> None:
        if _SCRIPT.search(details.get("url", "")):
            thrown = details.get("exception", {}).get("description") or details.get("text", "")
            self.faults.append(str(thrown).splitlines()[0][:200])

    def _sent(self, event: dict[str, Any]) -> None:
        request, url = event["request"], event["request"]["url"]
        if event.get("type") == "Document" and event.get("frameId") == self.session.target_id:
            self.document = event["requestId"]
        if _SCRIPT.search(url) or (_VISIT.search(url) and request["method"] == "POST"):
            self.requests[event["requestId"]] = _Request(url, event["timestamp"], _object(request.get("postData", "")))

    def _answered(self, event: dict[str, Any]) -> None:
        if event["requestId"] == self.document:
            self.status = event["response"]["status"]
        request = self.requests.get(event["requestId"])
        if request is not None:
            request.status = event["response"]["status"]
            request.seconds = event["timestamp"] - request.at

    def _hidden(self, event: dict[str, Any]) -> None:
        """The status of an answer that the browser keeps from the page, too: one that does not name its origin."""
        request = self.requests.get(event["requestId"])
        if request is not None and request.status is None:
            request.status = event.get("statusCode")

    def _over(self, event: dict[str, Any]) -> None:
        request = self.requests.get(event["requestId"])
        if request is not None:
            request.seconds = event["timestamp"] - request.at
            request.failure = event.get("blockedReason") or event.get("errorText", "")
            request.is_over = True
        if event["requestId"] == self.document and "errorText" in event:
            self.failure = event["errorText"]
        if "errorText" not in event and (event["requestId"] == self.document or _is_visit(request)):
            task = asyncio.create_task(self._read(event["requestId"]))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _read(self, request_id: str) -> None:
        try:
            got = await self.session.call("Network.getResponseBody", requestId=request_id)
        except (chromium.CallFailed, chromium.BrowserGone):
            return
        text = str(got.get("body", ""))
        if got.get("base64Encoded"):
            text = base64.b64decode(text).decode("utf-8", "replace")
        if request_id == self.document:
            self.html = text[:MAX_HTML]
        else:
            self.requests[request_id].answer = _object(text)

    # ---- What it comes to ----

    @property
    def is_answered(self) -> bool:
        """Whether every request of the script has its answer, read to its end."""
        return all(one.is_over for one in self.requests.values()) and not self.tasks

    @property
    def has_failed(self) -> bool:
        """Whether the page has asked for a script of ours, and none came."""
        scripts = [one for one in self.requests.values() if _SCRIPT.search(one.url)]
        return bool(scripts) and all(one.is_over and one.status != 200 for one in scripts)

    def seen(self, failure: str = "") -> webjudging.Seen:
        """All of it."""
        scripts = [
            webjudging.Fetched(one.url, match[1], one.status, one.failure, one.seconds)
            for one in self.requests.values()
            if (match := _SCRIPT.search(one.url))
        ]
        asked = [_asked(one) for one in self.requests.values() if _is_visit(one) and (one.is_over or failure)]
        return webjudging.Seen(
            status=self.status,
            failure=self.failure or failure,
            html=self.html,
            scripts=tuple(scripts),
            asked=tuple(asked),
            state=self.state,
            faults=tuple(self.faults),
            blocked=tuple(url for url in self.looked.get("blocked", ()) if "/dni/v1/" in url),
            **{name: tuple(self.looked.get(name, ())) for name in ("texts", "links", "json_ld")},
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """A case, what was seen, what is wrong with it, and how long it took."""

    case: Case
    seen: webjudging.Seen
    findings: list[webjudging.Finding]
    seconds: float
    screenshot: Path | None = None


async def check(
    browser: chromium.Browser,
    web: WebBook,
    case: Case,
    pass_id: str,
    *,
    most_seconds: float,
    screenshot: Path | None = None,
) -> Checked:
    """Opens a case's page, waits until its numbers stand, and judges it. A page that failed in a way that passes is
    opened once more: nobody is to be woken by one lost packet. Each time takes `most_seconds` at most, and a little
    more for the picture."""
    first = await _check(browser, web, case, pass_id, most_seconds=most_seconds, screenshot=screenshot)
    if not any(one.what in webjudging.PASSING for one in first.findings):
        return first
    return await _check(browser, web, case, pass_id, most_seconds=most_seconds, screenshot=screenshot)


async def _check(
    browser: chromium.Browser,
    web: WebBook,
    case: Case,
    pass_id: str,
    *,
    most_seconds: float,
    screenshot: Path | None = None,
) -> Checked:
    began = time.monotonic()
    async with _watched(browser, case, pass_id) as watch:
        failure = ""
        try:
            async with asyncio.timeout(most_seconds):
                await _open(watch)
                await _until_asked(watch)
                seen = await _until_settled(watch, web)
        except TimeoutError:
            failure = f"after {most_seconds:g} s"
            with contextlib.suppress(chromium.CallFailed, TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await _look(watch)
            seen = watch.seen(failure)
        seconds = time.monotonic() - began
        drawn = await _draw(watch.session, screenshot) if screenshot is not None else None
    return Checked(case, seen, webjudging.judge(web, case, seen), seconds, drawn)


@asynccontextmanager
async def _watched(browser: chromium.Browser, case: Case, pass_id: str) -> AsyncIterator[_Watch]:
    agent = str((await browser.call("Browser.getVersion")).get("userAgent", ""))
    async with browser.page() as session:
        watch = _Watch(session, pass_id, case)
        session.heard = watch.hear
        await session.call("Page.enable")
        await session.call("Runtime.enable")
        await session.call("Network.enable")
        await session.call("Network.setBypassServiceWorker", bypass=True)
        # Sites show some other page to a browser that says it is headless.
        await session.call("Network.setUserAgentOverride", userAgent=agent.replace("Headless", ""))
        await session.call("Network.setBlockedURLs", urls=list(ANALYTICS))
        await session.call("Fetch.enable", patterns=[{"urlPattern": "*/dni/v1/visit*", "requestStage": "Request"}])
        await session.call("Page.addScriptToEvaluateOnNewDocument", source=_AGREE)
        await session.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH, worldName=_WORLD)
        try:
            yield watch
        finally:
            for task in watch.tasks:
                task.cancel()
            await asyncio.gather(*watch.tasks, return_exceptions=True)


async def _open(watch: _Watch) -> None:
    went = {"url": watch.case.url, "referrer": watch.case.referrer, "referrerPolicy": "unsafeUrl"}
    answer = await watch.session.call("Page.navigate", **{name: value for name, value in went.items() if value})
    watch.failure = str(answer.get("errorText", ""))


async def _until_asked(watch: _Watch) -> None:
    """Until the script has its answer, or there will be none."""
    loaded_at: float | None = None
    while not watch.failure:
        await _look_at_state(watch)
        if watch.state in ("ready", "failed") or (watch.state == "slow" and watch.is_answered):
            return
        if watch.is_loaded:
            if watch.has_failed:
                return
            now = time.monotonic()
            loaded_at = now if loaded_at is None else loaded_at
            is_waiting = watch.state in ("asking", "slow") or not watch.is_answered
            if now - loaded_at > SCRIPT_SECONDS and not is_waiting:
                return
        await asyncio.sleep(POLL_SECONDS)


async def _until_settled(watch: _Watch, web: WebBook) -> webjudging.Seen:
    """Looks at the page until it is as it should be, or has had its time."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        await _look(watch)
        seen = watch.seen()
        is_well = all(one.level is Level.OK for one in webjudging.judge(web, watch.case, seen))
        is_whole = watch.is_loaded and watch.is_answered
        is_hopeless = bool(watch.failure) or (watch.state != "ready" and watch.is_answered)
        if (is_well and is_whole) or is_hopeless or time.monotonic() > until:
            return seen
        await asyncio.sleep(POLL_SECONDS)


async def _look_at_state(watch: _Watch) -> None:
    with contextlib.suppress(chromium.CallFailed):
        got = await watch.session.call("Runtime.evaluate", expression=_STATE, returnByValue=True)
        watch.state = str(_object(str(got.get("result", {}).get("value", ""))).get("state", ""))


async def _look(watch: _Watch) -> None:
    await _look_at_state(watch)
    try:
        world = await watch.session.call("Page.createIsolatedWorld", frameId=watch.session.target_id, worldName=_WORLD)
        got = await watch.session.call(
            "Runtime.evaluate", expression=_LOOK, returnByValue=True, contextId=world["executionContextId"]
        )
    except chromium.CallFailed:
        # It is on its way to another page.
        return
    found = _object(str(got.get("result", {}).get("value", "")))
    watch.looked = {name: [str(one) for one in texts] for name, texts in found.items() if isinstance(texts, list)}


async def _draw(session: chromium.Session, file: Path) -> Path | None:
    try:
        async with asyncio.timeout(chromium.CALL_SECONDS):
            shot = await session.call("Page.captureScreenshot", format="png")
        _write(file, base64.b64decode(shot["data"]))
    except (chromium.CallFailed, TimeoutError):
        return None
    return file


def _write(file: Path, picture: bytes) -> None:
    try:
        file.write_bytes(picture)
    except OSError as error:
        raise failures.Failure(f"{file}: {error.strerror}") from None


def _is_visit(request: _Request | None) -> bool:
    return request is not None and _VISIT.search(request.url) is not None


def _asked(request: _Request) -> webjudging.Asked:
    numbers = request.answer.get("numbers")
    shown = {
        str(target): str(formats.get("e164", ""))
        for target, formats in (numbers.items() if isinstance(numbers, dict) else ())
        if isinstance(formats, dict)
    }
    return webjudging.Asked(
        url=str(request.body.get("url", "")),
        referrer=str(request.body.get("referrer", "")),
        status=request.status,
        failure=request.failure,
        reason=str(request.answer.get("reason", "")),
        answer=shown,
        seconds=request.seconds,
    )


def _object(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
