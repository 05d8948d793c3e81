"""Pools, display rules and the web side of sites and sources in the routing file (R10, R13, R24, R46, R51, R94-R96,
R103, R106): what they become, and every error with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import routingfile, shipped
from gateway.core import book, displayrules, pool, traffic, traffictables, webbook
from gateway.core.displayrules import Facts, Place, Reason
from tests.config import files

WEB = (
    files.SMALL.replace('country = "RU"\n', 'country = "RU"\nbusiness_number = "+74990000000"\n')
    .replace("[local]", '[site.web]\nhosts = ["clinic.example"]\n\n[local]')
    .replace(
        "[[agent]]",
        """\
[[source]]
key = "google"
channel = "search"
parent = "radio"

[[source.visits]]
utm = { source = "google", utm_medium = "cp*" }

[[source.visits]]
click_ids = ["gclid"]

[[agent]]""",
    )
    + """
[[pool]]
key = "moscow"
route = "sales"
numbers = ["+74990000101..+74990000103", "8 499 000-01-50"]
overflow = "+74990000199"
overflow_source = "radio"

[[pool]]
key = "ural"
route = "sales"
numbers = ["+73430000101"]
freeze_seconds = 600
freeze_soft = true

[[display_rule]]
key = "leaflet"
landing_pages = ["/leaflet*"]
number = "+74990000001"

[[display_rule]]
key = "ural"
cities = ["Yekaterinburg"]
countries = ["RU"]
pool = "ural"

[[display_rule]]
key = "paid"
sources = ["radio"]
kinds = ["paid_search"]
pool = "moscow"
"""
)


def changed(old: str, new: str) -> str:
    assert WEB.count(old) == 1, (old, WEB.count(old))
    return WEB.replace(old, new)


def errors(text: str) -> list[tuple[str, str]]:
    """Key and message of each error."""
    return [(one.key, f"{one.message} ({one.suggestion})") for one in files.errors_of(text)]


def shown(made: book.Book, url: str, place: Place = Place()) -> displayrules.Shown:
    tables = made.web.traffic
    landing = traffic.landing(url, "", {}, tables)
    came = traffic.classify(landing, tables)
    source = displayrules.source_of(made.web.source_rules, landing, came)
    return displayrules.decide(made.web.rules_of("clinic"), Facts(landing, came, source, place))


def test_pools_and_their_numbers() -> None:
    """R96, R98, R103: numbers of pools are tracking numbers of a kind of their own, with the pool's route."""
    made = routingfile.parse(WEB, 1)
    moscow, ural = made.web.pools["moscow"], made.web.pools["ural"]
    assert moscow.numbers == ("+74990000101", "+74990000102", "+74990000103", "+74990000150")
    assert (moscow.site, moscow.route, moscow.freeze) == ("clinic", "sales", pool.Freeze())
    assert ural.freeze == pool.Freeze(pool.FreezeMode.FIXED, 600.0, soft=True, min_seconds=0, max_seconds=86_400)
    lent = made.tracking_numbers["74990000102"]
    assert (lent.kind, lent.pool, lent.route) == (book.TrackingKind.POOL, "moscow", "sales")
    overflow = made.tracking_numbers["74990000199"]
    assert (overflow.kind, overflow.pool, overflow.source) == (book.TrackingKind.OVERFLOW, "moscow", "radio")
    assert made.tracking_numbers["74990000001"].kind is book.TrackingKind.STATIC


def test_static_dynamic_and_by_place_in_one_book() -> None:
    """R51, R94, R103, R106: a rule for radio holds for its sub-source, which the visit's tags give it."""
    made = routingfile.parse(WEB, 1)
    tagged = "https://clinic.example/?utm_source=google&utm_medium=cpc"
    assert shown(made, tagged).pool == "moscow"
    assert shown(made, "https://clinic.example/?gclid=abc").pool == "moscow"
    assert shown(made, "https://clinic.example/").reason is Reason.RULE_NONE
    ural = Place("RU", ("Yekaterinburg", "Екатеринбург"))
    assert shown(made, tagged, ural).pool == "ural"
    assert shown(made, "https://clinic.example/leaflet-2", ural).number == "+74990000001"


def test_the_site_and_its_pages() -> None:
    made = routingfile.parse(changed('hosts = ["clinic.example"]', 'hosts = ["clinic.example"]\nbeat_seconds = 20'), 1)
    site = made.web.sites["clinic"]
    assert (site.targets, site.beat_seconds, site.asking) == ({"+74990000000": ()}, 20, webbook.Asking.PENDING)
    assert [site.serves(host) for host in ("clinic.example", "WWW.clinic.example", "shop.clinic.example")] == [
        *(True, True, False)
    ]
    paged = changed("[site.web]", '[site.web]\npages = ["https://www.clinic.example/a?b=1"]')
    assert routingfile.parse(paged, 1).web.sites["clinic"].pages == ("https://www.clinic.example/a?b=1",)
    named = changed('hosts = ["clinic', 'targets = { "+78005550000" = ["8-800-CLINICS"] }\nhosts = ["clinic')
    assert routingfile.parse(named, 1).web.sites["clinic"].targets == {"+78005550000": ("8-800-CLINICS",)}


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("[site.web]\nhosts = [", '[site.web]\nhosts = ["www.a.example", ', "site.clinic.web.hosts", "(a.example)"),
        ('hosts = ["clinic.example"]', "", "site.clinic.web.hosts", "is missing"),
        ("[site.web]", "[site.web]\nbeats = 3", "site.clinic.web.beats", "no such key"),
        ("utm_medium = ", "utm_medum = ", "source.google.visits[1].utm.utm_medum", "(medium)"),
        ('["gclid"]', '["glcid"]', "source.google.visits[2].click_ids", "(gclid)"),
        ('["gclid"]', "[]", "source.google.visits[2]", "holds for every visit"),
        ('kinds = ["paid_search"]', 'kinds = ["paid_serach"]', "display_rule.paid.kinds", "(paid_search)"),
        ('["RU"]', '["ru"]', "display_rule.ural.countries", "(RU)"),
        ('["/leaflet*"]', '["leaflet*"]', "display_rule.leaflet.landing_pages", "must begin with /"),
        ('pool = "moscow"', 'pool = "moskow"', "display_rule.paid.pool", "(moscow)"),
        ('pool = "moscow"', "", "display_rule.paid", "needs a number or a pool"),
        ('01"\n\n[[display_rule]]', '02"\n\n[[display_rule]]', "display_rule.leaflet.number", "(+74990000001)"),
        ("+74990000101..+74990000103", "+74990000103..+74990000101", "pool.moscow.numbers", "up to a higher one"),
        ('["+73430000101"]', '["+74990000102"]', "pool.ural.numbers", "stands in pool moscow already"),
        ('["+73430000101"]', '["+74990000001"]', "pool.ural.numbers", "is also a [[tracking_number]]"),
        ('["+73430000101"]', '["+74990000000"]', "pool.ural.numbers", "own number of site clinic"),
        (
            "[site.web]",
            '[site.web]\ntargets = ["+73430000101"]',
            "pool.ural.numbers",
            "stands on the pages of site clinic",
        ),
        ('pool = "moscow"', 'pool = "moscow"\ntarget = "+74990000001"', "display_rule.paid.target", "(+74990000000)"),
        ("[site.web]", '[site.web]\npages = ["/a"]', "site.clinic.web.pages", "must be whole addresses"),
        ("[site.web]", '[site.web]\npages = ["https://clinik.example/"]', "site.clinic.web.pages", "(clinic.example)"),
        ('["+73430000101"]', "[]", "pool.ural.numbers", "a pool needs numbers"),
        ('"+74990000199"', '"+74990000101"', "pool.moscow.overflow", "stands in this pool already"),
        ("freeze_soft = true", 'freeze = "auto"', "pool.ural.freeze_seconds", "says nothing"),
        ("freeze_seconds = 600", 'freeze = "fixed"', "pool.ural.freeze", "needs freeze_seconds"),
        ("freeze_seconds = 600", "freeze_min_seconds = 5000", "pool.ural.freeze_min_seconds", "above"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(old: str, new: str, key: str, message: str) -> None:
    """R46: numbers in two places are refused, with the key, and with what was probably meant."""
    found = errors(changed(old, new))
    assert [said for where, said in found if where == key and message in said], found


def test_a_rule_that_is_never_reached_is_refused() -> None:
    """R46."""
    text = WEB + '\n[[display_rule]]\nkey = "late"\ncountries = ["RU"]\ncities = ["Yekaterinburg"]\npool = "moscow"\n'
    assert errors(text) == [("display_rule.late", "rule late is never reached: ural takes all its visits (None)")]


def test_rules_of_which_only_the_order_decides_are_told_and_not_refused() -> None:
    """R46."""
    made = routingfile.parse(WEB, 1)
    assert {one.what for one in webbook.findings(made.web)} == {"overlap", "no_overflow"}


def test_call_only_campaigns_have_a_cost_line_of_their_own() -> None:
    """R10, R13."""
    lines = WEB.replace('channel = "search"', 'channel = "search"\ncost_line = "ads"')
    assert routingfile.parse(lines, 1).sources["google"].cost_line == "ads"
    both = lines + '\n[[source]]\nkey = "calls"\nchannel = "search"\ncampaign_type = "call-only"\ncost_line = "ads"\n'
    assert [where for where, _ in errors(both)] == ["source.calls.cost_line"]


def test_what_apply_shows_of_pools() -> None:
    """A pool is one line, whatever its numbers."""
    small, web = routingfile.parse(files.SMALL, 1), routingfile.parse(WEB, 2)
    lines = routingfile.difference(small, web)
    assert "+ pool moscow: 4 numbers → route sales" in lines
    assert "+ display rule ural → pool ural" in lines
    assert not [line for line in lines if "tracking number" in line]
    fewer = routingfile.parse(changed('overflow = "+74990000199"\noverflow_source = "radio"\n', ""), 3)
    assert "~ pool moscow: overflow +74990000199 → none" in routingfile.difference(web, fewer)


def test_the_operators_own_traffic_table_goes_over_the_shipped_one(tmp_path: Path) -> None:
    """R108."""
    own = tmp_path / "traffic.csv"
    own.write_text("kind,match,name,medium,detail\nclick_id,myclid,mine,paid_search,64\n", encoding="utf-8")
    tables = shipped.traffic(own)
    assert {"myclid", "gclid"} <= tables.parameters.keys()
    assert tables.version != shipped.traffic().version
    text = changed('["gclid"]', '["myclid"]')
    assert routingfile.parse(text, 1, traffic=tables).web.traffic is tables
    assert "source.google.visits[2].click_ids" in [where for where, _ in errors(text)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"kind,match,name,medium,detail\nclick_id,A B,x,paid_search,\n", "own.csv: line 2"),
        (b"\xff\xfe", "own.csv: is not UTF-8"),
        (b"a" * 1_000_001, "own.csv: is larger than"),
    ],
)
def test_a_broken_traffic_table_is_refused_with_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    own = tmp_path / "own.csv"
    own.write_bytes(content)
    with pytest.raises(traffictables.BadTables, match=message):
        shipped.traffic(own)


def test_the_example_lends_numbers_of_moscow_and_yekaterinburg() -> None:
    """R94: Moscow sees code 499, Yekaterinburg 343."""
    made = routingfile.parse(files.EXAMPLE.read_text(encoding="utf-8"), 1)
    visit = "https://clinic.example/"
    lent = {city: shown(made, visit, Place("RU", (city,))).pool or "" for city in ("Moscow", "Екатеринбург")}
    assert {city: made.web.pools[key].numbers[0][:5] for city, key in lent.items()} == {
        "Moscow": "+7499",
        "Екатеринбург": "+7343",
    }
    assert {one.what for one in webbook.findings(made.web)} <= {"overlap"}
