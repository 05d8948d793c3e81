"""`[[integration]]` of the routing file: analytics, ad platforms and CRMs that are told of calls.

Each kind has its own keys; one table names who reads them, so that the next service is a function and a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from gateway.config import outgoing, tables
from gateway.core.outgoing import crm, ga4, google_ads, hubspot, meta, metrica, salesforce, worth
from gateway.core.outgoing.integration import CRMS, Auth, Integration, Kind

SECRET = outgoing.SECRET
REFERENCE = outgoing.REFERENCE
MAX_SECONDS = 86_400

_DIGITS = re.compile(r"[0-9]{1,20}")
_MEASUREMENT = re.compile(r"G-[A-Z0-9]{4,16}")
_MONEY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,4})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_GUID = re.compile(r"[0-9a-f-]{36}")

_NEEDS_ADDRESS = frozenset({Kind.BITRIX24, Kind.AMOCRM, Kind.SALESFORCE})
_TOKEN = frozenset({Kind.METRICA, Kind.META, Kind.AMOCRM, Kind.HUBSPOT, Kind.PIPEDRIVE})
"""Take a token that lasts."""
_OAUTH = CRMS | {Kind.GOOGLE_ADS}
_ALONE = frozenset({Kind.SALESFORCE})
"""Need no refresh token: the application asks in its own name."""


def read(table: tables.Table, key: str) -> Integration:
    """One `[[integration]]`."""
    kinds = [kind.value for kind in Kind]
    if table.required_text("kind") not in kinds:
        if isinstance(table.raw.get("kind"), str):
            word = table.raw["kind"]
            table.wrong("kind", f"there is no service '{tables.shown(word)}'", word=word, choices=kinds)
        return Integration(key=key, kind=Kind.GA4, enabled=False)
    kind = Kind(table.raw["kind"])
    allow = outgoing.networks(table, "allow")
    found = Integration(
        key=key,
        kind=kind,
        account=_ACCOUNTS[kind](table),
        policy=_policy(table, kind) if kind in CRMS else None,
        auth=_auth(table, kind),
        address=_address(table, kind, is_plain=bool(allow)),
        allow=tuple(allow),
        visit_covers_ads=bool(table.flag("visit_covers_ads")) if kind not in CRMS else False,
        dry_run=bool(table.flag("dry_run")),
        enabled=bool(table.flag("enabled", True)),
        options=_options(table, kind),
    )
    table.refuse_unknown()
    return found


# -- accounts ---------------------------------------------------------------------------------------------------------


def _ga4(table: tables.Table) -> ga4.Account:
    return ga4.Account(
        measurement_id=_needed(table, "measurement_id", _MEASUREMENT, "G- and the stream's letters and digits"),
        api_secret=_needed(table, "api_secret", SECRET, REFERENCE),
        europe=bool(table.flag("europe")),
        send_hashed_number=bool(table.flag("send_hashed_number")),
        **_worth(table),
    )


def _metrica(table: tables.Table) -> metrica.Account:
    return metrica.Account(
        counter_id=_needed(table, "counter_id", _DIGITS, "the counter's number in quotes"),
        goal_name=table.text("goal_name") or "Звонок",
        send_number=bool(table.flag("send_number")),
        call_url=_link(table, "link"),
        **_worth(table),
    )


def _google_ads(table: tables.Table) -> google_ads.Account:
    return google_ads.Account(
        customer_id=_needed(table, "customer_id", _DIGITS, "the customer's digits in quotes, without hyphens"),
        conversion_action_id=_needed(table, "conversion_action_id", _DIGITS, "the action's digits in quotes"),
        developer_token=_needed(table, "developer_token", SECRET, REFERENCE),
        login_customer_id=table.matching("login_customer_id", _DIGITS, "digits in quotes, without hyphens"),
        send_hashed_number=bool(table.flag("send_hashed_number")),
        validate_only=bool(table.flag("validate_only")),
        **_worth(table),
    )


def _meta(table: tables.Table) -> meta.Account:
    return meta.Account(
        dataset_id=_needed(table, "dataset_id", _DIGITS, "the dataset's digits in quotes"),
        test_event_code=table.matching("test_event_code", _NAME, "letters and digits"),
        **_worth(table),
    )


def _hubspot(table: tables.Table) -> hubspot.Account:
    return hubspot.Account(dispositions=_texts(table, "dispositions", _GUID, _GUID, "GUIDs"))


def _salesforce(table: tables.Table) -> salesforce.Account:
    plain = salesforce.Account()
    what = "the API name of a field"
    return salesforce.Account(
        call_field=table.matching("call_field", _FIELD, what) or plain.call_field,
        lead_field=table.matching("lead_field", _FIELD, what) or plain.lead_field,
        company=table.text("company") or plain.company,
    )


def _none(_: tables.Table) -> None:
    return None


_ACCOUNTS: Mapping[Kind, Callable[[tables.Table], Any]] = {
    Kind.GA4: _ga4,
    Kind.METRICA: _metrica,
    Kind.GOOGLE_ADS: _google_ads,
    Kind.META: _meta,
    Kind.BITRIX24: _none,
    Kind.AMOCRM: _none,
    Kind.HUBSPOT: _hubspot,
    Kind.SALESFORCE: _salesforce,
    Kind.PIPEDRIVE: _none,
}


# -- what several have ------------------------------------------------------------------------------------------------


def _worth(table: tables.Table) -> dict[str, Any]:
    """What a qualified call is, and what it is worth."""
    value = table.matching("value", _MONEY, 'an amount in quotes, "1500.50"')
    currency = table.matching("currency", _CURRENCY, "three capital letters of ISO 4217")
    if ("value" in table.raw) != ("currency" in table.raw):
        table.wrong(None, "needs value and currency, or neither")
    return {
        "qualified_seconds": table.whole("qualified_seconds", 30, 0, MAX_SECONDS),
        "counts": table.choice("counts", worth.Counts, worth.Counts.QUALIFIED),
        "value": Decimal(value) if value is not None else None,
        "currency": currency,
    }


def _policy(table: tables.Table, kind: Kind) -> crm.Policy:
    default_user = table.matching("default_user", _NAME, "the id of a user of the CRM, in quotes")
    if kind is Kind.BITRIX24 and "default_user" not in table.raw:
        table.wrong("default_user", "is missing: a call of Bitrix24 has a user")
    return crm.Policy(
        leads=bool(table.flag("leads", True)),
        cards=bool(table.flag("cards", True)),
        profile=_profile(table),
        users=_texts(table, "users", _NAME, _NAME, "ids of users of the CRM by our agents"),
        default_user=default_user,
        link=_link(table, "link") or "",
        audio_base=(_https(table, "audio_base", is_plain=False) or "").rstrip("/"),
    )


def _profile(table: tables.Table) -> Mapping[str, str]:
    found = _texts(table, "profile", _FIELD, _NAME, "our names of attributes by the CRM's fields")
    if len(found) > crm.MAX_ATTRIBUTES:
        table.wrong("profile", f"asks for more than {crm.MAX_ATTRIBUTES} attributes")
    twice = sorted({name for name in found.values() if list(found.values()).count(name) > 1})
    if twice:
        table.wrong("profile", f"has two fields for '{tables.shown(twice[0])}'")
    return found


def _auth(table: tables.Table, kind: Kind) -> Auth:
    if kind is Kind.GA4:
        return Auth()
    names = ("client_id", "client_secret", *(() if kind in _ALONE else ("refresh_token",)))
    given = [name for name in (*names, "refresh_token", "redirect_uri") if name in table.raw]
    has_token = kind in _TOKEN and "token" in table.raw
    if has_token and given:
        table.wrong("token", f"stands beside {given[0]}: one way to prove who asks is enough")
    elif not has_token and kind not in _OAUTH:
        table.wrong("token", "is missing")
    elif not has_token:
        ways = f"{', '.join(names)}" + (", or token" if kind in _TOKEN else "")
        for name in names:
            if name not in table.raw:
                table.wrong(name, f"is missing: {kind.value} needs {ways}")
    return Auth(
        token=table.matching("token", SECRET, REFERENCE) if kind in _TOKEN else None,
        client_id=table.text("client_id") if kind in _OAUTH else None,
        client_secret=table.matching("client_secret", SECRET, REFERENCE) if kind in _OAUTH else None,
        refresh_token=table.matching("refresh_token", SECRET, REFERENCE) if kind in _OAUTH else None,
        redirect_uri=table.text("redirect_uri") if kind is Kind.AMOCRM else None,
    )


def _address(table: tables.Table, kind: Kind, *, is_plain: bool) -> str | None:
    if kind in _NEEDS_ADDRESS and "address" not in table.raw:
        table.wrong("address", "is missing: https:// and the host of your account")
    return _https(table, "address", is_plain=is_plain)


def _options(table: tables.Table, kind: Kind) -> Mapping[str, str]:
    if kind is not Kind.BITRIX24:
        return {}
    source = table.matching("source", _NAME, "an id of Bitrix24's list of sources")
    return {"source": source} if source is not None else {}


def _needed(table: tables.Table, name: str, pattern: re.Pattern[str], what: str) -> str:
    if name not in table.raw:
        table.wrong(name, "is missing")
    return table.matching(name, pattern, what) or ""


def _https(table: tables.Table, name: str, *, is_plain: bool) -> str | None:
    """An address of a host; plain http only to networks of `allow`."""
    written = table.text(name, max_length=300)
    if written is None:
        return None
    try:
        url = urlsplit(written)
        is_good = bool(url.hostname) and not (url.query or url.fragment or url.username) and " " not in written
    except ValueError:
        is_good = False
    if not is_good or url.scheme not in (("https", "http") if is_plain else ("https",)):
        table.wrong(name, "must be an address like https://acme.example.com")
        return None
    return written


def _link(table: tables.Table, name: str) -> str | None:
    """An address with `{call_id}` in it and nothing else in braces."""
    written = table.text(name, max_length=300)
    if written is None:
        return None
    bare = written.replace("{call_id}", "")
    if not written.startswith("https://") or "{call_id}" not in written or "{" in bare or "}" in bare:
        table.wrong(name, "must be an https:// address with {call_id} in it")
        return None
    return written


def _texts(
    table: tables.Table, name: str, key: re.Pattern[str], value: re.Pattern[str], what: str
) -> Mapping[str, str]:
    """A sub-table of texts."""
    inner = table.table(name)
    if inner is None:
        return {}
    found: dict[str, str] = {}
    for one in sorted(inner.raw):
        text = inner.matching(one, value, f"one of {what}")
        if not key.fullmatch(one):
            inner.wrong(one, f"must be one of {what}")
        elif text is not None:
            found[one] = text
    return found
