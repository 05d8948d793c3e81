"""`[[integration]]` of the routing file: each service's keys, and every mistake with its place (R68, R115)."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from gateway.config import routingfile
from gateway.core.outgoing import crm, ga4, google_ads, metrica, worth
from gateway.core.outgoing.integration import CRMS, Auth, Integration, Kind
from gateway.senders import catalogue, service
from tests.config import files
from tests.fakes import handing

OAUTH = """
client_id = "app"
client_secret = "file:/etc/dialmark/secrets.d/app"
refresh_token = "file:/etc/dialmark/secrets.d/refresh"
"""

GOOD = {
    "ga4": 'measurement_id = "G-ABC123DEF4"\napi_secret = "file:/s/ga4"\nvalue = "12.50"\ncurrency = "EUR"',
    "metrica": 'counter_id = "98765"\ntoken = "file:/s/metrica"\nlink = "https://c.example/calls/{call_id}"',
    "google_ads": f'customer_id = "111"\nconversion_action_id = "222"\ndeveloper_token = "env:DEV"{OAUTH}',
    "meta": 'dataset_id = "333"\ntoken = "file:/s/meta"\nvisit_covers_ads = true',
    "bitrix24": f'address = "https://acme.example"\ndefault_user = "1"{OAUTH}',
    "amocrm": f'address = "https://acme.example"\nredirect_uri = "https://acme.example/done"{OAUTH}',
    "hubspot": 'token = "file:/s/hubspot"\n[integration.profile]\nage = "age"\n[integration.users]\nanna = "12"',
    "salesforce": 'address = "https://acme.example"\nclient_id = "app"\nclient_secret = "file:/s/sf"',
    "pipedrive": 'token = "file:/s/pipedrive"\nleads = false\ncards = false',
}


def parsed(kind: str, keys: str) -> Integration:
    made = routingfile.parse(f'{files.SMALL}\n[[integration]]\nkey = "main"\nkind = "{kind}"\n{keys}\n', revision=1)
    return made.receivers.integrations["main"]


def errors(kind: str, keys: str) -> list[str]:
    with pytest.raises(routingfile.RoutingErrors) as refused:
        parsed(kind, keys)
    return [f"{one.key}: {one.message}" for one in refused.value.errors]


@pytest.mark.parametrize("kind", list(Kind))
def test_each_service_can_be_named_and_made(kind: Kind, tmp_path: Path) -> None:
    read = parsed(kind.value, GOOD[kind.value])
    assert (read.kind, read.target, read.enabled, read.dry_run) == (kind, f"{kind.value}:main", True, False)
    assert (read.policy is not None) is (kind in CRMS)
    made = catalogue.adapter(read, catalogue.Workshop(lambda reference: f"<{reference}>", lambda: 0, tmp_path))
    assert isinstance(made, service.ServiceAdapter)
    assert (made.target, made.wants) == (read.target, frozenset(read.events))


def test_what_was_written_is_what_is_sent() -> None:
    assert parsed("ga4", GOOD["ga4"]).account == ga4.Account(
        "G-ABC123DEF4", "file:/s/ga4", value=Decimal("12.50"), currency="EUR"
    )
    assert parsed("metrica", GOOD["metrica"]).account == metrica.Account(
        "98765", call_url="https://c.example/calls/{call_id}"
    )
    assert parsed("google_ads", GOOD["google_ads"]).account == google_ads.Account("111", "222", "env:DEV")
    assert parsed("hubspot", GOOD["hubspot"]).policy == crm.Policy(profile={"age": "age"}, users={"anna": "12"})
    assert parsed("meta", GOOD["meta"]).visit_covers_ads
    assert parsed("google_ads", GOOD["google_ads"]).auth == Auth(
        None, "app", "file:/etc/dialmark/secrets.d/app", "file:/etc/dialmark/secrets.d/refresh"
    )


def test_what_counts_as_a_lead_is_chosen() -> None:
    """R90: a conversion may be a call worth having, or a deal that was won."""
    by_default = parsed("google_ads", GOOD["google_ads"]).account
    assert isinstance(by_default, google_ads.Account)
    assert by_default.counts is worth.Counts.QUALIFIED
    won = parsed("google_ads", GOOD["google_ads"] + '\ncounts = "won"').account
    assert isinstance(won, google_ads.Account)
    assert won.counts is worth.Counts.WON


def test_profile_attributes_are_off_until_they_are_named() -> None:
    """R89: free keys, off by default."""
    policy = parsed("pipedrive", GOOD["pipedrive"]).policy
    assert policy is not None
    assert (dict(policy.profile), policy.leads, policy.cards) == ({}, False, False)


def test_a_crm_without_cards_is_not_told_that_it_rings() -> None:
    assert "call.started" not in parsed("pipedrive", GOOD["pipedrive"]).events
    assert "call.started" in parsed("hubspot", GOOD["hubspot"]).events
    assert "recording.ready" not in parsed("ga4", GOOD["ga4"]).events


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [
        ("ga5", "", "there is no service 'ga5'"),
        ("ga4", "", "measurement_id: is missing"),
        ("ga4", 'measurement_id = "UA-1"\napi_secret = "file:/s"', "G- and the stream"),
        ("ga4", 'measurement_id = "G-ABC123DEF4"\napi_secret = "s3cret"', "not the secret itself"),
        ("ga4", GOOD["ga4"].replace('currency = "EUR"', ""), "value and currency, or neither"),
        ("ga4", GOOD["ga4"] + '\ntoken = "file:/s"', "token: there is no such key here"),
        ("ga4", GOOD["ga4"] + "\nleads = true", "leads: there is no such key here"),
        ("ga4", GOOD["ga4"] + '\ncounts = "sold"', "counts"),
        ("metrica", 'counter_id = "98765"', "token: is missing"),
        ("metrica", GOOD["metrica"].replace("{call_id}", "{number}"), "with {call_id} in it"),
        ("metrica", GOOD["metrica"].replace("{call_id}", "{call_id}{x}"), "with {call_id} in it"),
        ("google_ads", GOOD["google_ads"].replace('"111"', '"111-222"'), "without hyphens"),
        ("google_ads", 'customer_id = "1"\nconversion_action_id = "2"\ndeveloper_token = "env:D"', "refresh_token"),
        ("bitrix24", f'default_user = "1"{OAUTH}', "address: is missing"),
        ("bitrix24", f'address = "https://acme.example"{OAUTH}', "default_user: is missing"),
        ("bitrix24", GOOD["bitrix24"].replace("https:", "http:"), "must be an address"),
        ("bitrix24", GOOD["bitrix24"] + '\ntoken = "file:/s"', "token"),
        ("amocrm", GOOD["amocrm"] + 'token = "file:/s"', "one way to prove who asks is enough"),
        ("hubspot", "", "hubspot needs client_id, client_secret, refresh_token, or token"),
        ("hubspot", 'token = "file:/s"\n[integration.profile]\n"a b" = "age"', "our names of attributes"),
        ("hubspot", 'token = "file:/s"\n[integration.profile]\na = "age"\nb = "age"', "two fields for 'age'"),
        (
            "hubspot",
            'token = "file:/s"\n[integration.profile]\n' + "".join(f'f{place} = "n{place}"\n' for place in range(21)),
            "more than 20 attributes",
        ),
        ("salesforce", GOOD["salesforce"] + '\ncall_field = "x y"', "API name of a field"),
    ],
)
def test_a_mistake_is_told_with_its_place(kind: str, keys: str, said: str) -> None:
    assert said in "\n".join(errors(kind, keys))


async def test_a_secret_that_is_not_there_makes_events_wait_and_says_so(tmp_path: Path) -> None:
    def nothing(reference: str) -> str:
        raise ValueError(f"{reference} cannot be read")

    made = catalogue.adapter(parsed("ga4", GOOD["ga4"]), catalogue.Workshop(nothing, lambda: 0, tmp_path))
    settled = await made.deliver(handing.event(), handing.attempt())
    assert (settled.state.value, settled.note, settled.needs_attention) == (
        "failed",
        "file:/s/ga4 cannot be read",
        True,
    )
