"""Who is told of events: webhooks and brokers of the routing book, and the names of all targets with what they want."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.core import addresses
from gateway.core.outgoing.integration import Integration

ALL = ("*",)
TIMEOUT_SECONDS = 20
PER_SECOND = 50


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that gets events by POST, signed by the rules of Standard Webhooks."""

    key: str
    url: str
    secret: str
    """Reference, `file:/path` or `env:NAME`; two secrets there while it is being changed."""
    events: tuple[str, ...] = ALL
    """Types, or beginnings of them with `*` behind."""
    allow: tuple[addresses.Network, ...] = ()
    """Networks that are not the internet's and may be reached all the same."""
    per_second: int = PER_SECOND
    timeout_seconds: int = TIMEOUT_SECONDS
    ca_file: str | None = None
    """Certificates of your own authority, PEM; None: those of the system."""
    enabled: bool = True

    @property
    def target(self) -> str:
        """Its name in the outbox."""
        return f"webhook:{self.key}"


@dataclass(frozen=True, slots=True)
class Broker:
    """A message broker that gets events over MQTT, each under `topic`/its type."""

    key: str
    host: str
    port: int
    topic: str
    is_tls: bool = False
    username: str | None = None
    password: str | None = None
    """Reference, `file:/path` or `env:NAME`."""
    ca_file: str | None = None
    events: tuple[str, ...] = ALL
    per_second: int = 0
    """0: no limit."""
    timeout_seconds: int = TIMEOUT_SECONDS
    enabled: bool = True

    @property
    def target(self) -> str:
        """Its name in the outbox."""
        return f"mqtt:{self.key}"


@dataclass(frozen=True, slots=True)
class Inbound:
    """Who may tell us of deals, by messages signed by the rules of Standard Webhooks."""

    key: str
    secret: str
    """Reference, `file:/path` or `env:NAME`; two secrets there while it is being changed."""
    enabled: bool = True


Receiver = Webhook | Broker | Integration


@dataclass(frozen=True, slots=True)
class Receivers:
    """The part of the book that names them, by key."""

    webhooks: Mapping[str, Webhook] = field(default_factory=dict)
    brokers: Mapping[str, Broker] = field(default_factory=dict)
    integrations: Mapping[str, Integration] = field(default_factory=dict)
    inbound: Mapping[str, Inbound] = field(default_factory=dict)
    """Who tells us, and is told nothing."""

    def everyone(self) -> list[Receiver]:
        """Also those that are not in use."""
        return [*self.webhooks.values(), *self.brokers.values(), *self.integrations.values()]

    def by_target(self) -> dict[str, Receiver]:
        """Those that are in use."""
        return {one.target: one for one in self.everyone() if one.enabled}


def place(receiver: Receiver | None) -> str:
    """Where its events go, for people: without what may be secret; empty where that is no address of ours to name."""
    match receiver:
        case Webhook():
            return receiver.url.partition("?")[0]
        case Broker():
            return f"{receiver.host}:{receiver.port} {receiver.topic}"
    return ""


def wants(patterns: Iterable[str], event_type: str) -> bool:
    """Whether one of the patterns (`*`, `call.*`, `call.missed`) is of this type."""
    return any(
        event_type.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == event_type for pattern in patterns
    )


class Subscriptions(Collection[str]):
    """Targets that events are written for, with what each wants. One value for the whole process: what is put in force
    later is seen by everyone who writes events."""

    def __init__(self, fixed: Mapping[str, Iterable[str]] | None = None) -> None:
        """`fixed` ones stay whatever is put in force."""
        self._fixed = {target: tuple(patterns) for target, patterns in (fixed or {}).items()}
        self._by_target = dict(self._fixed)

    def use(self, by_target: Mapping[str, Iterable[str]]) -> None:
        """These and the fixed ones are in force from now on."""
        self._by_target = {**{target: tuple(patterns) for target, patterns in by_target.items()}, **self._fixed}

    def takers(self, event_type: str) -> list[str]:
        """Targets that want events of this type, in a fixed order."""
        return sorted(target for target, patterns in self._by_target.items() if wants(patterns, event_type))

    def __contains__(self, target: object) -> bool:
        return target in self._by_target

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_target)

    def __len__(self) -> int:
        return len(self._by_target)
