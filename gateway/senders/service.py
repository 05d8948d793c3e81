"""A service of `gateway.core.outgoing` as an adapter: drives its talks over HTTP.

The service says what to ask and what an answer means; here are the token, the pace, the network, and the rule that a
request which must not be repeated is not, once it may have arrived.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import urlencode
from weakref import WeakValueDictionary

import aiohttp

from gateway.core.outgoing import adapters, talks
from gateway.core.outgoing.adapters import Attempt, Handed, Settled, State
from gateway.senders import outside, tokens

TIMEOUT_SECONDS = 30.0
MAX_ANSWER = 4_000_000
"""Bytes: lists of a CRM are longer than what is kept for people."""

T = TypeVar("T")


class _DryRun(Exception):
    """This is what would have been sent."""


@dataclass(slots=True)
class _Seen:
    """The last request and answer of one attempt, as people may see them."""

    request: str = ""
    response: str = ""
    status: int | None = None


class Http:
    """Asks one service: base address, pace, token."""

    def __init__(
        self,
        reach: outside.Reach | None = None,
        *,
        base_url: str = "",
        style: talks.TokenStyle = talks.TokenStyle.BEARER,
        per_second: float = 10.0,
        seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._outside = outside.Outside(reach or outside.Reach())
        self._base_url = base_url
        self._style = style
        self._gap = 1.0 / per_second
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._free_at = 0.0
        self.tokens: tokens.Tokens | None = None

    async def drive(self, talk: talks.Talk[T], seen: _Seen | None = None, *, dry_run: bool = False) -> T:
        """Leads a talk to its end. Raises `talks.Refused`."""
        seen = seen or _Seen()
        try:
            request = next(talk)
            while True:
                try:
                    answer = await self._ask(request, seen, dry_run=dry_run)
                except talks.Refused as refused:
                    request = talk.throw(refused)
                else:
                    request = talk.send(answer)
        except StopIteration as stop:
            # The value of a finished generator has no type of its own.
            found: T = stop.value
            return found
        finally:
            talk.close()

    async def _ask(self, request: talks.Request, seen: _Seen, *, dry_run: bool) -> talks.Response:
        seen.request, seen.response, seen.status = talks.shown(request), "", None
        if dry_run and not request.changes_nothing:
            raise _DryRun
        if self.tokens is None or not request.authorised:
            return await self._once(request, seen)
        token = await self.tokens.token()
        answer = await self._once(talks.with_token(request, token, self._style), seen)
        if answer.status == 401:
            # It was not taken, so it is asked again, whatever it is.
            token = await self.tokens.token(refused=token)
            answer = await self._once(talks.with_token(request, token, self._style), seen)
        return answer

    async def _once(self, request: talks.Request, seen: _Seen) -> talks.Response:
        await self._wait_for_turn()
        headers, body = _encoded(request)
        try:
            answer = await self._outside.request(
                request.method,
                _url(self._base_url, request),
                headers={"Accept": "application/json", **headers},
                body=body,
                seconds=self._seconds,
                most=MAX_ANSWER,
                # A token does not follow anybody anywhere.
                follow=False,
            )
        except outside.FAILURES as error:
            raise _unanswered(error, request) from error
        found = talks.Response(answer.status, answer.text, answer.headers)
        seen.response, seen.status = talks.shown_answer(found), answer.status
        return found

    async def _wait_for_turn(self) -> None:
        async with self._turn:
            now = asyncio.get_running_loop().time()
            if self._free_at > now:
                await asyncio.sleep(self._free_at - now)
            self._free_at = max(now, self._free_at) + self._gap

    async def close(self) -> None:
        """Ends its connections."""
        await self._outside.close()


class ServiceAdapter:
    """One service with one account, for the post."""

    def __init__(
        self,
        target: str,
        service: adapters.Service | adapters.BatchService,
        http: Http,
        *,
        dry_run: bool = False,
        visit_covers_ads: bool = False,
    ) -> None:
        """`dry_run`: nothing is ever sent. `visit_covers_ads`: a visitor's consent is one to advertising."""
        self.target = target
        self._dry_run = dry_run
        self._visit_covers_ads = visit_covers_ads
        self.wants = service.wants
        self.needs_visitor = service.needs_visitor
        self.batching: adapters.Batching | None = getattr(service, "batching", None)
        self._service = service
        self._http = http
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of those whom more than one call is on its way for."""

    async def deliver(self, event: Handed, attempt: Attempt) -> Settled:
        """Hands over one event."""
        attempt = self._allowed(attempt)
        async with self._turn_of(event):
            return (await self._settled([(event, attempt)], self._one(event, attempt)))[0]

    async def deliver_many(self, events: Sequence[tuple[Handed, Attempt]]) -> Sequence[Settled]:
        """Hands over several: together where the service can."""
        if self.batching is None:
            return [await self.deliver(event, attempt) for event, attempt in events]
        events = [(event, self._allowed(attempt)) for event, attempt in events]
        service: adapters.BatchService = self._service  # type: ignore[assignment]  # it has `batching`
        return await self._settled(events, service.tell_many(events))

    def _turn_of(self, event: Handed) -> AbstractAsyncContextManager[None]:
        """Two calls of a caller whom a CRM does not know would both find nobody, and make two of them."""
        person_of = getattr(self._service, "person_of", None)
        person = person_of(event) if person_of is not None and event.type in self.wants else None
        return nullcontext() if person is None else self._turns.setdefault(person, asyncio.Lock())

    def _allowed(self, attempt: Attempt) -> Attempt:
        visitor = attempt.visitor
        if visitor is not None and self._visit_covers_ads:
            visitor = replace(visitor, allows_ads=True)
        return replace(attempt, visitor=visitor, dry_run=attempt.dry_run or self._dry_run)

    def _one(self, event: Handed, attempt: Attempt) -> talks.Talk[list[Settled]]:
        if event.type not in self.wants:
            return [adapters.skipped("is told of calls only; `dialmark integrations try` sends one")]
        settled = yield from self._service.tell(event, attempt)
        return [settled]

    async def _settled(
        self, events: Sequence[tuple[Handed, Attempt]], talk: talks.Talk[list[Settled]]
    ) -> list[Settled]:
        seen = _Seen()
        dry_run = any(attempt.dry_run for _, attempt in events)
        try:
            settled = await self._http.drive(talk, seen, dry_run=dry_run)
        except _DryRun:
            settled = [Settled(State.SKIPPED, "dry run: nothing was sent") for _ in events]
        except talks.Refused as refused:
            settled = [adapters.failed(refused, attempt.now_us) for _, attempt in events]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            # An answer of another shape than the contract says, or an event that is none of ours.
            note = f"not understood: {type(error).__name__}"
            settled = [Settled(State.FAILED, note) for _ in events]
        ended = [replace(one, request=seen.request, response=seen.response, status=seen.status) for one in settled]
        return [adapters.with_status(one, *pair) for one, pair in zip(ended, events, strict=True)]

    async def prepare(self) -> bool:
        """Tells the service what it must know before the first call. False: it need not be told. Raises `Refused`."""
        if not isinstance(self._service, adapters.Prepared):
            return False
        await self._http.drive(self._service.switch_on())
        return True

    async def check(self, event: Handed, attempt: Attempt) -> list[str] | None:
        """What the service has against the event, which is not counted; None: it checks nothing. Raises `Refused`."""
        if not isinstance(self._service, adapters.Checking):
            return None
        return await self._http.drive(self._service.check(event, self._allowed(attempt)))

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.close()


def _url(base_url: str, request: talks.Request) -> str:
    address = request.path if request.path.startswith(("https://", "http://")) else base_url + request.path
    query = urlencode({**request.query, **request.secret_query})
    return f"{address}?{query}" if query else address


def _encoded(request: talks.Request) -> tuple[dict[str, str], bytes | aiohttp.MultipartWriter | None]:
    headers = dict(request.headers)
    if request.upload is not None:
        writer = aiohttp.MultipartWriter("form-data")
        part = writer.append(request.upload.content, {"Content-Type": request.upload.content_type})
        part.set_content_disposition("form-data", name=request.upload.field, filename=request.upload.filename)
        return {**headers, "Content-Type": writer.content_type}, writer
    if request.form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return headers, urlencode(request.form).encode()
    if request.json is not None:
        headers["Content-Type"] = "application/json"
        return headers, json.dumps(request.json, ensure_ascii=False, separators=(",", ":")).encode()
    return headers, None


def _unanswered(error: BaseException, request: talks.Request) -> talks.Refused:
    """No answer: whether the request may have arrived decides whether it may be repeated."""
    never_left = isinstance(error, outside.Refused | aiohttp.ClientConnectorError | aiohttp.InvalidURL)
    why = outside.described(error)
    if never_left or request.repeatable:
        return talks.Refused(talks.Kind.LATER, why, may_have_arrived=not never_left)
    return talks.Refused(talks.Kind.NEVER, f"{why}; it may have arrived and is not sent again", may_have_arrived=True)
