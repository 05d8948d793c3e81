"""From an `[[integration]]` to what speaks to its service: the one place that knows all services by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.core.outgoing import (
    adapters,
    amocrm,
    bitrix24,
    crm,
    ga4,
    google_ads,
    hubspot,
    meta,
    metrica,
    oauth,
    pipedrive,
    salesforce,
)
from gateway.core.outgoing.integration import Integration, Kind
from gateway.senders import outside, service, tokens

GRANTS = {
    Kind.GOOGLE_ADS: oauth.Grant("https://oauth2.googleapis.com/token", "", ""),
    Kind.BITRIX24: oauth.Grant("https://oauth.bitrix.info/oauth/token/", "", "", form=oauth.Form.QUERY),
    Kind.AMOCRM: oauth.Grant("{address}/oauth2/access_token", "", "", form=oauth.Form.JSON),
    Kind.HUBSPOT: oauth.Grant("https://api.hubapi.com/oauth/v1/token", "", ""),
    Kind.SALESFORCE: oauth.Grant("{address}/services/oauth2/token", "", ""),
    Kind.PIPEDRIVE: oauth.Grant("https://oauth.pipedrive.com/oauth/token", "", "", basic=True),
}
"""Where each service gives tokens, and how it wants to be asked."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What adapters are made with. `secret_of` raises ValueError; `folder` keeps rotated tokens."""

    secret_of: Callable[[str], str]
    now_us: Callable[[], int]
    folder: Path


class Unmade:
    """An adapter that cannot be made, since a secret is not there: each event waits and says why."""

    needs_visitor = False
    batching: adapters.Batching | None = None

    def __init__(self, integration: Integration, why: str) -> None:
        self.target = integration.target
        self.wants = frozenset(integration.events)
        self._why = why

    async def deliver(self, event: adapters.Handed, attempt: adapters.Attempt) -> adapters.Settled:
        """Fails, with the reason."""
        return adapters.Settled(adapters.State.FAILED, self._why, needs_attention=True)

    async def deliver_many(
        self, events: Sequence[tuple[adapters.Handed, adapters.Attempt]]
    ) -> Sequence[adapters.Settled]:
        """As `deliver`."""
        return [await self.deliver(event, attempt) for event, attempt in events]


def adapter(integration: Integration, workshop: Workshop) -> adapters.Adapter:
    """What speaks to the service of an integration."""
    try:
        made = serving(integration, workshop.secret_of)
    except ValueError as error:
        return Unmade(integration, str(error))
    http = service.Http(
        outside.Reach(integration.allow),
        base_url=made.base_url,
        style=made.token_style,
        per_second=made.per_second,
    )
    http.tokens = _tokens(integration, workshop, http)
    return service.ServiceAdapter(
        integration.target,
        made,
        http,
        dry_run=integration.dry_run,
        visit_covers_ads=integration.visit_covers_ads,
    )


def serving(integration: Integration, secret_of: Callable[[str], str]) -> adapters.Service:
    """The service itself. Raises ValueError for a secret that is not there."""
    account, address = integration.account, integration.address
    match account:
        case ga4.Account():
            return ga4.Ga4(replace(account, api_secret=secret_of(account.api_secret)), address)
        case metrica.Account():
            return metrica.Metrica(account, address or metrica.WORLD)
        case google_ads.Account():
            account = replace(account, developer_token=secret_of(account.developer_token))
            return google_ads.GoogleAds(account, address or google_ads.WORLD)
        case meta.Account():
            return meta.Meta(account, address or meta.WORLD)
    assert integration.policy is not None, "all others are CRMs"
    return crm.CrmService(_crm(integration), integration.policy)


def _crm(integration: Integration) -> crm.Crm:
    account, address = integration.account, integration.address or ""
    match integration.kind:
        case Kind.BITRIX24:
            return bitrix24.Bitrix24(address, integration.options.get("source", "CALL"))
        case Kind.AMOCRM:
            return amocrm.AmoCrm(address)
        case Kind.HUBSPOT:
            return hubspot.HubSpot(account if isinstance(account, hubspot.Account) else None, address or hubspot.WORLD)
        case Kind.SALESFORCE:
            return salesforce.Salesforce(address, account if isinstance(account, salesforce.Account) else None)
        case Kind.PIPEDRIVE:
            return pipedrive.Pipedrive(address or pipedrive.WORLD, has_api_token=integration.auth.token is not None)
    raise AssertionError(f"{integration.kind} is no CRM")


def _tokens(integration: Integration, workshop: Workshop, http: service.Http) -> tokens.Tokens | None:
    auth = integration.auth
    if auth.token is not None:
        reference = auth.token
        return tokens.Fixed(lambda: workshop.secret_of(reference))
    if auth.client_id is None:
        return None

    def grant() -> oauth.Grant:
        known = GRANTS[integration.kind]
        return replace(
            known,
            url=known.url.format(address=(integration.address or "").rstrip("/")),
            client_id=auth.client_id or "",
            client_secret=workshop.secret_of(auth.client_secret or ""),
            refresh_token=workshop.secret_of(auth.refresh_token) if auth.refresh_token else None,
            redirect_uri=auth.redirect_uri,
        )

    path = workshop.folder / f"{integration.kind.value}-{integration.key}.json"
    return tokens.Refreshed(grant, http.drive, path=path, now_us=workshop.now_us)
