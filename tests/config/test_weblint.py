"""What is hardly meant in the web part of the routing file (R24, R28, R40, R46): each with line, key and guess."""

from __future__ import annotations

import pytest

from gateway.config import routingfile, weblint
from gateway.config.weblint import Places
from tests.config import files

CLEAN = (
    files.SMALL.replace('country = "RU"\n', 'country = "RU"\nbusiness_number = "+74990000000"\n')
    .replace('number = "+74990000001"\n', 'number = "+74990000001"\nsource = "radio"\n')
    .replace("[local]", '[site.web]\nhosts = ["clinic.example"]\n\n[local]')
    .replace(
        "[[agent]]",
        """\
[[source]]
key = "google"
channel = "search"
medium = "cpc"
campaign = "spring"

[[source.visits]]
utm = { source = "google", medium = "cpc" }

[[source]]
key = "social"
channel = "social"

[[source.visits]]
kinds = ["paid_social", "social"]
click_ids = ["ttclid"]

[[agent]]""",
    )
    + """
[[pool]]
key = "moscow"
route = "sales"
numbers = ["+74990000101..+74990000103"]
overflow = "+74990000199"

[[display_rule]]
key = "leaflet"
landing_pages = ["/leaflet*", "/?offer=spring"]
number = "+74990000001"

[[display_rule]]
key = "ads"
sources = ["google"]
cities = ["Moscow"]
countries = ["RU"]
pool = "moscow"
"""
)
BOTH = Places(countries=True, cities=True)


def found(text: str, places: Places = BOTH) -> list[tuple[str, str]]:
    """Key and message of each warning."""
    warned = weblint.warnings(text, routingfile.parse(text, 1), places)
    assert [one.line for one in warned] == sorted(one.line for one in warned)
    return [(one.key, f"{one.message} ({one.suggestion})") for one in warned]


def changed(old: str, new: str, text: str = CLEAN) -> str:
    assert text.count(old) == 1, (old, text.count(old))
    return text.replace(old, new)


def test_a_file_that_is_meant_has_no_warning() -> None:
    assert found(CLEAN) == []


VISITS = 'utm = { source = "google", medium = "cpc" }'
KINDS = 'kinds = ["paid_social", "social"]\nclick_ids = ["ttclid"]'
PAGES = 'landing_pages = ["/leaflet*", "/?offer=spring"]'
ADS = 'sources = ["google"]\ncities = ["Moscow"]\ncountries = ["RU"]'


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        # Tags that other tools tell apart, or that never come so.
        ('source = "google", ', 'source = "Google", ', "source.google.visits[1].utm.source", "has capitals"),
        ('source = "google", ', 'source = " google", ', "source.google.visits[1].utm.source", "the blanks around them"),
        ('source = "google", ', 'campaign = "spring sale", ', "source.google.visits[1].utm.campaign",
         "has a space, which some tools write as + and some as %20 (spring_sale)"),
        ('source = "google", ', 'campaign = "spring+sale", ', "source.google.visits[1].utm.campaign", "(spring sale)"),
        ('source = "google", ', 'campaign = "spring%20sale", ', "source.google.visits[1].utm.campaign", "are spaces"),
        ('source = "google", ', 'term = "{keyword}", ', "source.google.visits[1].utm.term", "looks like a placeholder"),
        ('medium = "cpc" }', 'utm_medium = "cpcc" }', "source.google.visits[1].utm.utm_medium",
         "'cpcc' is no medium that the table of traffic knows: its visits are of kind other (cpc)"),
        ('medium = "cpc"\n', 'medium = "bannner"\n', "source.google.medium", "(banner)"),
        ('campaign = "spring"', 'campaign = "Spring"', "source.google.campaign", "(spring)"),
        # Conditions that hold for few visits, or none.
        (VISITS, VISITS + '\nclick_ids = ["gclid"]', "source.google.visits[1].click_ids", "gclid and for manual tags"),
        (VISITS, VISITS + '\nkinds = ["email"]', "source.google.visits[1].kinds",
         "never holds: visits as the rest asks for are display, paid_search, paid_social"),
        (KINDS, 'kinds = ["direct"]\nclick_ids = ["ttclid"]', "source.social.visits[1].kinds", "never holds"),
        (KINDS, 'kinds = ["direct"]\nreferrers = ["forum.example"]', "source.social.visits[1].kinds", "never holds"),
        (KINDS, VISITS + '\nlanding_pages = ["/a"]', "source.social.visits[1]", "source google, which comes first"),
        (ADS, 'sources = ["radio"]', "display_rule.ads.sources", "nothing says which visits are of radio"),
        ('"/?offer=spring"', '"/?utm_source=vk*"', "display_rule.leaflet.landing_pages", "utm_source at a fixed place"),
        ('"/?offer=spring"', '"/?gclid=*"', "display_rule.leaflet.landing_pages", "gclid at a fixed place"),
        # Numbers and pools.
        ('[[agent]]', '[[source]]\nkey = "jazz"\nchannel = "offline"\nparent = "radio"\n\n[[agent]]', "source.jazz",
         "no tracking number names it"),
        ('channel = "social"', 'channel = "social"\ncampaign_type = "call-only"', "source.social.visits[1]",
         "nobody sees the site for a call-only ad"),
        (PAGES, 'sources = ["google"]\nutm = { term = "x" }', "display_rule.leaflet.number",
         "its calls are counted for radio, and it is shown to visits of google"),
        ('overflow = "+74990000199"', "", "pool.moscow.numbers", "has no overflow number"),
        ('pool = "moscow"', 'number = "+74990000001"', "pool.moscow", "no display rule names it"),
    ],
)  # fmt: skip
def test_what_is_hardly_meant_is_told_where_it_stands(old: str, new: str, key: str, message: str) -> None:
    """R46: and the file is taken all the same."""
    warned = found(changed(old, new))
    assert [said for where, said in warned if where == key and message in said], warned


def test_offline_and_call_only_sources_are_named_as_people_like() -> None:
    """R10, R13, R106: their medium is no tag."""
    number = '[[tracking_number]]\nnumber = "+74990000009"\nroute = "sales"\nsource = "google"\n\n[[pool]]'
    offline = changed('channel = "search"\nmedium = "cpc"\ncampaign = "spring"',
                      'channel = "search"\ncampaign_type = "call-only"\nmedium = "Call Ads"')  # fmt: skip
    offline = changed('[[source.visits]]\nutm = { source = "google", medium = "cpc" }\n', "", offline)
    offline = changed('sources = ["google"]', 'sources = ["social"]', changed("[[pool]]", number, offline))
    assert found(offline) == []


def test_rules_of_which_only_the_order_decides() -> None:
    """R46: the second is named, as it is the one that loses."""
    more = CLEAN + '\n[[display_rule]]\nkey = "summer"\nutm = { campaign = "summer*" }\npool = "kazan"\n'
    more += '\n[[pool]]\nkey = "kazan"\nroute = "sales"\nnumbers = ["+78430000101"]\noverflow = "+78430000199"\n'
    assert found(more) == [
        ("display_rule.summer", "rules ads and summer can both hold; ads wins as it comes first (None)")
    ]


def test_places_need_somebody_who_knows_them() -> None:
    """R94: a rule by city holds for nobody where neither a file nor a proxy tells cities."""
    message = "never holds: nothing tells where visitors are"
    both = found(CLEAN, Places())
    assert [(key, said.startswith(message)) for key, said in both] == [
        ("display_rule.ads.cities", True),
        ("display_rule.ads.countries", True),
    ]
    (only,) = found(CLEAN, Places(countries=True))
    assert only[0] == "display_rule.ads.cities" and "web.city_header" in only[1]


def test_a_site_without_pages() -> None:
    bare = changed('[site.web]\nhosts = ["clinic.example"]\n', "")
    assert [(key, said.partition(":")[0]) for key, said in found(bare)] == [
        ("pool.moscow", "site clinic has no [site.web]"),
        ("display_rule.leaflet", "site clinic has no [site.web]"),
        ("display_rule.ads", "site clinic has no [site.web]"),
    ]


def test_each_warning_has_its_line() -> None:
    text = changed('medium = "cpc" }', 'medium = "cpcc" }')
    (warned,) = weblint.warnings(text, routingfile.parse(text, 1), BOTH)
    assert text.splitlines()[warned.line - 1].endswith('medium = "cpcc" }')
    crlf = text.replace("\n", "\r\n")
    assert weblint.warnings(crlf, routingfile.parse(crlf, 1), BOTH) == [warned]


def test_the_example_file_has_no_warning_but_for_its_order() -> None:
    text = files.EXAMPLE.read_text(encoding="utf-8")
    assert {said.partition(" can both hold")[0][:5] for _, said in found(text)} <= {"rules"}
