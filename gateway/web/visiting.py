"""The public web application: what the script on a site's pages asks (docs/dni.md).

Anybody can send anything here. What is not the script's is refused without being repeated; a page must be one of the
site's; bots get no number; addresses and sites have limits. A page that waits is answered within 800 ms, if only that
it keeps the number it has. No address is stored or logged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway import log, store
from gateway.core import book, leasetokens, numberformats, placenames, scriptwire, traffic, useragents, webbook
from gateway.core.displayrules import Consent, Place, Reason
from gateway.services import arrivals, callbacks, leasing
from gateway.store import webchecks
from gateway.web import clients, crawlers, origins, problems, security, turnstile
from gateway.web.dni import script

ANSWER_SECONDS = 0.8
"""After this the page has given up, and so does the gateway: a number that was lent meanwhile is given back."""
BODY_SECONDS = 5.0
"""For a body of at most 32 kB to come in."""
CALLBACK_SECONDS = 5.0
COOKIE_SECONDS = 395 * 86_400
"""13 months, as long as visits are kept; browsers cut it to 400 days."""
PATH = "/dni/"
RETRY_SECONDS = "5"

# What several numbers of one page are given for, the most telling first.
_TELLING = (Reason.POOL, Reason.OVERFLOW, Reason.STATIC, Reason.BOT, Reason.CONSENT, Reason.RULE_NONE)

_log = log.get("web")

_Heard = TypeVar("_Heard", bound=scriptwire.Sender)
_Done = TypeVar("_Done")


def nowhere(_: str) -> Place:
    return placenames.NOWHERE


def _unobserved(_: str, __: int, ___: float) -> None:
    return None


@dataclass(frozen=True, slots=True)
class VisitingParts:
    """What the application stands on."""

    leasing: leasing.Leasing
    callbacks: callbacks.Callbacks
    database: store.Database
    """For the passes of `verify --web`."""
    current_book: Callable[[], book.Book | None]
    now_us: Callable[[], int]
    place_of: Callable[[str], Place] = nowhere
    """By address."""
    trusted_proxies: tuple[clients.Network, ...] = ()
    country_header: str = ""
    city_header: str = ""
    limits: Callable[[], turnstile.Limits] = turnstile.Limits
    answer_seconds: float = ANSWER_SECONDS
    page_seconds: float = ANSWER_SECONDS
    """After which the script leaves the page as it is, whatever is answered later."""
    body_seconds: float = BODY_SECONDS
    clock: Callable[[], float] = time.monotonic
    observe: Callable[[str, int, float], None] = _unobserved
    """Told of each request: its kind, the status of its answer, seconds."""


def application(here: VisitingParts) -> web.Application:
    """What visitors' browsers may ask. Run it with `access_log=None`, `auto_decompress=False`."""
    made = web.Application(
        client_max_size=scriptwire.MAX_BODY_BYTES + 1,
        middlewares=[_observe(here), security.errors_as_problems(_instance)],
    )
    visiting = Visiting(here)
    made.router.add_get("/dni/v1/{site:[a-z0-9-]{1,63}}.js", visiting.serve_script, name="script")
    for kind in ("visit", "beat", "page", "leave", "click", "callback"):
        made.router.add_post(f"/dni/v1/{kind}", getattr(visiting, kind), name=kind)
    made.on_response_prepare.append(_add_headers)
    made.on_startup.append(_prepare)
    return made


def cookie_of(site: str) -> str:
    """The cookie with a site's visitor: sites that share a gateway do not share visitors."""
    return f"dialmark_visitor_{site}"


@dataclass(slots=True)
class Visiting:
    """The handlers."""

    _here: VisitingParts
    _turnstile: turnstile.Turnstile = field(init=False)
    _scripts: dict[str, script.Script] = field(init=False, default_factory=dict)
    _scripts_of: webbook.WebBook | None = field(init=False, default=None)
    _has_warned: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._turnstile = turnstile.Turnstile(self._here.limits, self._here.clock)

    # ---- The script ----

    async def serve_script(self, request: web.Request) -> web.Response:
        """The site's script, the same for all visitors."""
        made = self._script(request.match_info["site"])
        if made is None:
            headers = {"Cache-Control": "public, max-age=60", "Content-Type": "text/javascript; charset=utf-8"}
            return web.Response(status=404, body=b"// Dialmark: there is no such site.\n", headers=headers)
        known = request.if_none_match or ()
        if any(tag.value == "*" or f'"{tag.value}"' == made.etag for tag in known):
            headers = {name: value for name, value in made.headers.items() if name != "Content-Type"}
            return web.Response(status=304, headers=headers)
        if _takes_gzip(request):
            return web.Response(body=made.compressed, headers={**made.headers, "Content-Encoding": "gzip"})
        return web.Response(body=made.body, headers=made.headers)

    def _script(self, site: str) -> script.Script | None:
        current = self._here.current_book()
        if current is None or site not in current.web.sites:
            return None
        if self._scripts_of is not current.web:
            self._scripts, self._scripts_of = {}, current.web
        if site not in self._scripts:
            self._scripts[site] = script.render(_configuration(site, current.web.sites[site], self._here.page_seconds))
        return self._scripts[site]

    # ---- What it asks ----

    async def visit(self, request: web.Request) -> web.Response:
        """A page was opened."""
        heard = await self._hear(request, scriptwire.visit)
        site = self._of_site(request, heard, heard.url)
        if heard.check is not None and await self._is_check(heard.check):
            return self._shown(heard, site, await self._in_time(self._here.leasing.preview(_checked(heard))))
        self._turnstile.visit(self._address(request), heard.site)
        answer = await self._in_time(self._here.leasing.arrive(self._arrival(request, heard)))
        response = self._shown(heard, site, answer)
        if answer.visitor_id is not None:
            response.set_cookie(
                cookie_of(heard.site), answer.visitor_id, max_age=COOKIE_SECONDS, path=PATH,
                secure=True, httponly=True, samesite="Lax",
            )  # fmt: skip
        return response

    async def beat(self, request: web.Request) -> web.Response:
        """A page is looked at."""
        heard = await self._hear(request, scriptwire.beat)
        self._of_site(request, heard)
        if heard.ids is not None or heard.variables is not None:
            self._here.leasing.tell(heard.visitor or "", _ids(heard.ids), heard.variables or {})
        visit_id, lease_ids = await self._in_time(self._named(heard))
        is_kept = visit_id is not None and await self._in_time(self._here.leasing.beat(visit_id, lease_ids))
        return self._beaten(heard, is_kept)

    async def page(self, request: web.Request) -> web.Response:
        """The next page of a site that never loads one: a visit, as long as it is the same one."""
        heard = await self._hear(request, scriptwire.page_view)
        self._of_site(request, heard, heard.url)
        self._turnstile.visit(self._address(request), heard.site)
        answer = await self._in_time(self._here.leasing.arrive(self._arrival(request, heard)))
        return self._beaten(heard, heard.lease is not None and _token(answer) == heard.lease)

    async def leave(self, request: web.Request) -> web.Response:
        """A page is left, its answer came too late, or consent is taken back."""
        heard = await self._hear(request, scriptwire.leave)
        self._of_site(request, heard, is_beacon=True)
        visit_id, lease_ids = await self._in_time(self._named(heard))
        if visit_id is not None:
            self._here.leasing.leave(visit_id, lease_ids, was_shown=heard.shown)
        response = web.Response(status=204)
        if heard.forget and heard.visitor is not None:
            response.del_cookie(cookie_of(heard.site), path=PATH, secure=True, httponly=True, samesite="Lax")
            try:
                await self._in_time(self._here.leasing.forget(heard.visitor))
            except (store.StoreUnavailable, problems.Problem):
                # It will be: whoever took a promise back cannot be asked to come again.
                _log.warning("a visitor is forgotten later", site=heard.site)
        return response

    async def click(self, request: web.Request) -> web.Response:
        """A link with a number was followed."""
        heard = await self._hear(request, scriptwire.click)
        self._of_site(request, heard, is_beacon=True)
        self._here.leasing.click(heard.visitor or "", heard.number)
        return web.Response(status=204)

    async def callback(self, request: web.Request) -> web.Response:
        """Somebody asks to be called."""
        heard = await self._hear(request, scriptwire.callback)
        self._of_site(request, heard, heard.url)
        self._turnstile.callback(self._address(request), heard.site)
        of = self._book().sites[heard.site]
        await self._in_time(self._here.callbacks.take(heard, of), CALLBACK_SECONDS)
        return web.Response(status=202, body=scriptwire.callback_answer(), content_type="application/json")

    # ---- Reading ----

    async def _hear(self, request: web.Request, read: Callable[[bytes], _Heard]) -> _Heard:
        self._turnstile.request(self._address(request))
        if request.content_type != "text/plain" or "Content-Encoding" in request.headers:
            raise problems.Problem("invalid-body", "not plain text", errors=[_wrong("body", "no text/plain")])
        if (request.content_length or 0) > scriptwire.MAX_BODY_BYTES:
            raise problems.Problem("too-large")
        try:
            async with asyncio.timeout(self._here.body_seconds):
                body = await request.read()
        except TimeoutError:
            raise problems.Problem("too-slow") from None
        try:
            return read(body)
        except scriptwire.Refused as refused:
            errors = [_wrong(refused.field, refused.reason)]
            raise problems.Problem("invalid-body", errors=errors) from None

    def _book(self) -> book.Book:
        current = self._here.current_book()
        if current is None:
            raise problems.Problem("unavailable", headers={"Retry-After": RETRY_SECONDS})
        return current

    def _of_site(
        self, request: web.Request, heard: scriptwire.Sender, url: str | None = None, *, is_beacon: bool = False
    ) -> webbook.WebSite:
        """The site, if the request comes from a page of its. Browsers leave the origin out of a beacon when the page
        tells nobody where it is; such a request takes no number, and names a visitor that only this page knows."""
        site = self._book().web.sites.get(heard.site)
        if site is None:
            raise problems.Problem("site-not-found")
        origin = request.headers.get("Origin", "null")
        host = origins.host_of(origin)
        if host is not None and site.serves(host):
            request[origins.ALLOWED] = origin
        elif not (is_beacon and origin == "null"):
            raise problems.Problem("other-site")
        if url is not None and not site.serves(traffic.parts(url)[0]):
            raise problems.Problem("other-site")
        return site

    def _address(self, request: web.Request) -> str:
        trusted = self._here.trusted_proxies
        if not self._has_warned and clients.is_from_stranger(request, trusted):
            self._has_warned = True
            _log.warning("visits come through a proxy that is not trusted: all look like one address")
        return clients.client_of(request, trusted).rate_key

    def _place(self, request: web.Request) -> Place:
        """By a trusted proxy's headers; what they leave open, by the file, unless it is of another country."""
        trusted = self._here.trusted_proxies
        told = placenames.NOWHERE
        if clients.is_from_proxy(request, trusted):
            names = (self._here.country_header, self._here.city_header)
            told = placenames.of_headers(*(request.headers.get(name) if name else None for name in names))
        if told.country is not None and told.cities:
            return told
        found = self._here.place_of(clients.client_of(request, trusted).address)
        if told.country not in (None, found.country):
            return told
        return Place(found.country, told.cities or found.cities)

    def _arrival(self, request: web.Request, heard: scriptwire.Visit | scriptwire.PageView) -> arrivals.Arrival:
        bare = arrivals.Arrival(heard.site, heard.url, heard.referrer)
        is_bot = crawlers.is_bot(request.headers)
        if isinstance(heard, scriptwire.Visit):
            bare = replace(bare, consent=heard.consent, first=heard.landing)
            is_bot = is_bot or heard.automated
        if is_bot or bare.consent is not Consent.GRANTED:
            return replace(bare, is_bot=is_bot)
        look = useragents.look(request.headers.get("User-Agent"))
        variables = dict(heard.variables or {})
        return replace(
            bare,
            parameters=variables,
            visitor_id=heard.visitor or request.cookies.get(cookie_of(heard.site)),
            place=self._place(request),
            browser=look.browser,
            system=look.system,
            device=look.device,
            ids=_ids(heard.ids),
            variables=variables,
        )

    async def _is_check(self, check: scriptwire.Check) -> bool:
        async with self._here.database.read() as connection:
            return await webchecks.is_valid(connection, check.pass_id, now_us=self._here.now_us())

    async def _named(self, heard: scriptwire.Sender) -> tuple[str | None, tuple[str, ...]]:
        """The visit and leases of a page; None and nothing when it has none, or no longer those it was told."""
        token = leasetokens.read(heard.lease) if heard.lease is not None else None
        if token is None:
            return None, ()
        if token.digest is None:
            return token.visit_id, token.lease_ids
        known = await self._here.leasing.leases_of(heard.site, heard.visitor or "")
        return (token.visit_id, tuple(known)) if token.is_of(known) else (None, ())

    # ---- Answering ----

    async def _in_time(self, work: Awaitable[_Done], seconds: float | None = None) -> _Done:
        try:
            async with asyncio.timeout(self._here.answer_seconds if seconds is None else seconds):
                return await work
        except (TimeoutError, leasing.Unavailable):
            raise problems.Problem("unavailable", headers={"Retry-After": RETRY_SECONDS}) from None
        except KeyError:
            # A new revision took the site's web away while this was being read.
            raise problems.Problem("site-not-found") from None

    def _shown(self, heard: scriptwire.Visit, site: webbook.WebSite, answer: arrivals.Answer) -> web.Response:
        reasons = {one.reason for one in answer.shows}
        shown = [
            scriptwire.Shown(one.target, one.number, site.targets.get(one.target, ()))
            for one in answer.shows
            if one.number is not None
        ]
        body = scriptwire.visit_answer(
            next((reason for reason in _TELLING if reason in reasons), Reason.RULE_NONE),
            shown,
            visitor=answer.visitor_id,
            lease=_token(answer),
            expires_seconds=self._here.leasing.promised_seconds(heard.site),
        )
        return web.Response(body=body, content_type="application/json")

    def _beaten(self, heard: scriptwire.Sender, is_kept: bool) -> web.Response:
        promised = self._here.leasing.promised_seconds(heard.site) if is_kept else 0
        return web.Response(body=scriptwire.beat_answer(is_kept, promised), content_type="application/json")


def _configuration(key: str, site: webbook.WebSite, page_seconds: float) -> bytes:
    targets = (numberformats.target(number, texts) for number, texts in site.targets.items())
    return scriptwire.configuration(
        key,
        [target for target in targets if target is not None],
        consent=Consent(site.asking.value),
        beat_seconds=site.beat_seconds,
        wait_ms=round(page_seconds * 1_000),
        base=f"{site.script_address}dni/v1/" if site.script_address else "",
    )


def _token(answer: arrivals.Answer) -> str | None:
    """What the page says with its signs of life: also without a lease, since how long visitors stay is asked of all."""
    if answer.visit_id is None:
        return None
    return leasetokens.write(answer.visit_id, {one.lease_id for one in answer.shows if one.lease_id is not None})


def _checked(heard: scriptwire.Visit) -> arrivals.Arrival:
    assert heard.check is not None
    place = placenames.of_headers(heard.check.country, heard.check.city)
    return arrivals.Arrival(
        heard.site, heard.url, heard.referrer, heard.variables or {}, consent=heard.consent, place=place
    )


def _ids(ids: scriptwire.Ids | None) -> dict[str, str]:
    if ids is None:
        return {}
    known = {"ga": ids.ga, "ym_uid": ids.ym_uid, "fbp": ids.fbp, "fbc": ids.fbc}
    sessions = {f"ga_session.{stream}": session for stream, session in ids.ga_sessions.items()}
    return {name: value for name, value in known.items() if value is not None} | sessions


def _wrong(field: str, message: str) -> dict[str, str]:
    return {"field": field, "message": message}


def _takes_gzip(request: web.Request) -> bool:
    for part in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


# ---- Around every request ----

HEADERS: Mapping[str, str] = {"X-Content-Type-Options": "nosniff", "Server": "dialmark"}


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    if request.method not in ("GET", "HEAD"):
        response.headers["Vary"] = "Origin"
    if origin := request.get(origins.ALLOWED):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"


def _instance(request: web.Request) -> str:
    """Not the path that was asked for, which is anybody's text."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else PATH


def _observe(here: VisitingParts) -> Middleware:
    @web.middleware
    async def observe(request: web.Request, handler: security.Handler) -> web.StreamResponse:
        started = time.perf_counter()
        status = 499
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            here.observe(request.match_info.route.name or "unknown", status, time.perf_counter() - started)

    return observe


async def _prepare(_: web.Application) -> None:
    """What takes a moment at its first use."""
    for prepare in (script.program, crawlers.prepare, useragents.prepare):
        await asyncio.to_thread(prepare)
