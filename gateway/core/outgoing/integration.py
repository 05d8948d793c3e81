"""One `[[integration]]` of the routing file: which service, whose account, how it is proved who asks. Values only.

Secrets are references (`file:/path`, `env:NAME`); `gateway.senders.catalogue` reads them when something is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.core import addresses
from gateway.core.outgoing import adapters

if TYPE_CHECKING:
    # These import the book, which holds values of this module.
    from gateway.core.outgoing import crm, ga4, google_ads, hubspot, meta, metrica, salesforce


class Kind(StrEnum):
    """The services, as the routing file calls them."""

    GA4 = "ga4"
    METRICA = "metrica"
    GOOGLE_ADS = "google_ads"
    META = "meta"
    BITRIX24 = "bitrix24"
    AMOCRM = "amocrm"
    HUBSPOT = "hubspot"
    SALESFORCE = "salesforce"
    PIPEDRIVE = "pipedrive"


CRMS = frozenset({Kind.BITRIX24, Kind.AMOCRM, Kind.HUBSPOT, Kind.SALESFORCE, Kind.PIPEDRIVE})


@dataclass(frozen=True, slots=True)
class Auth:
    """A token, or what gets one by OAuth. All but `client_id` and `redirect_uri` are references."""

    token: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    refresh_token: str | None = None
    redirect_uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """A service that is told of calls. `account` is the service's own; secrets in it are references."""

    key: str
    kind: Kind
    account: (
        ga4.Account | metrica.Account | google_ads.Account | meta.Account | hubspot.Account | salesforce.Account | None
    ) = None
    policy: crm.Policy | None = None
    """CRMs have one."""
    auth: Auth = field(default_factory=Auth)
    address: str | None = None
    """Where the service is, if not where all find it: a portal, an instance."""
    allow: tuple[addresses.Network, ...] = ()
    visit_covers_ads: bool = False
    """Who lets the site remember them has agreed to advertising too."""
    dry_run: bool = False
    """Everything is written down and nothing is sent."""
    enabled: bool = True
    options: Mapping[str, str] = field(default_factory=dict)
    """What a single service wants besides."""

    per_second = 0
    """Each service has a pace of its own, by request."""

    @property
    def target(self) -> str:
        """Its name in the outbox."""
        return f"{self.kind.value}:{self.key}"

    @property
    def events(self) -> tuple[str, ...]:
        """Types of the events it is given."""
        wants = set(adapters.CLOSING)
        if self.policy is not None:
            wants |= {adapters.RECORDED} | ({adapters.RINGING} if self.policy.cards else set())
        return tuple(sorted(wants))
