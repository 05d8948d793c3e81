"""What the daemon hands to the admin listener: values and callables, never its settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from aiohttp import web

from gateway import store
from gateway.core import book
from gateway.core.outgoing import adapters
from gateway.services import tickethands
from gateway.store import keyring
from gateway.web import auth, health, live, metrics, streams

HangUp = Callable[[str], Awaitable[None]]
"""Ends the call whose inbound channel has this unique id. Raises LookupError when there is no such channel, and
ConnectionError when Asterisk does not answer."""


MuteRecording = Callable[[str, bool], Awaitable[None]]
"""Turns the recording of the call whose inbound channel has this unique id into silence, or back into sound. Raises
LookupError when there is no such channel, NotRecorded, and ConnectionError when Asterisk does not answer."""


Click = Callable[[int, str], Awaitable[None]]
"""Rings an agent's phone for a ticket's number; see `services.callingback.CallingBack.click`."""


class NotRecorded(Exception):
    """The channel is up, and no recording runs on it."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class VaultParts:
    """Where recordings lie, and the ring that opens them (None: there is none)."""

    root: Path
    ring: keyring.KeyRing | None
    heard: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """When (microseconds) a token last had a listen of a recording written down."""


@dataclass(frozen=True, slots=True)
class AdminParts:
    """Everything the admin listener shows or asks.

    `current_book` gives the routing book in force, None before the first is loaded. `behind_seconds` tells how old
    the oldest journal row is that is not on the board yet (None: not known). `probes` are the parts of `/readyz`
    besides the database, by name. `trusted_proxies` are networks whose X-Forwarded-* headers count. `limits` is
    asked each time, so that a reload of the settings puts new ones in force.
    """

    database: store.Database
    board: live.LiveBoard
    meters: metrics.Meters
    current_book: Callable[[], book.Book | None]
    node: str
    version: str
    behind_seconds: Callable[[], float | None] = lambda: None
    probes: Mapping[str, health.Probe] = field(default_factory=dict)
    trusted_proxies: Sequence[str] = ()
    limits: Callable[[], auth.Limits] = auth.Limits
    hang_up: HangUp | None = None
    """Ends a call that is up, None on a process without a manager session."""
    mute_recording: MuteRecording | None = None
    """Pauses and resumes recordings, None on a process without a manager session."""
    click: Click | None = None
    """Begins a call-back, None on a process that answers no codes."""
    vault: VaultParts | None = None
    """None on a process that cannot play recordings."""
    exports: Sequence[Path] = ()
    """JSON-lines files that erasing a visitor changes too."""
    adapter_of: Callable[[str], adapters.Adapter | None] | None = None
    """What speaks to a target of the routing in force, to be closed afterwards; None where nothing is sent."""
    hands: tickethands.Hands | None = None
    """Changes tickets; None: they are shown only."""
    targets: Collection[str] = ()
    """Who is told of events that are written here."""
    events_added: Callable[[], None] = lambda: None
    """Wakes who delivers."""
    secret_of: Callable[[str], str] | None = None
    """Text behind a reference of the routing file; raises ValueError. None where no signed message is taken."""
    clock: Callable[[], datetime] = _utc_now
    pace: streams.Pace = field(default_factory=streams.Pace)

    @property
    def zone(self) -> tzinfo:
        """The zone of the first site, in which days begin and times are shown; UTC without a book."""
        current = self.current_book()
        return ZoneInfo(current.default_site.time_zone) if current is not None and current.sites else UTC

    async def examine(self) -> health.Report:
        """All readiness checks, the database first."""

        async def database() -> health.Check:
            await self.database.ping()
            return health.Check(True, f"{self.database.engine_name} answers")

        return await health.examine({"database": database, **self.probes})


PARTS: web.AppKey[AdminParts] = web.AppKey("parts", AdminParts)


def moment(at_us: int) -> datetime:
    """The aware time of microseconds since the epoch."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)


def micros(moment: datetime) -> int:
    """Microseconds since the epoch of an aware time."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
