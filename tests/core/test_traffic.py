"""Where a visit came from (R24, R75, R86, R108): every rule of attribution.md 3.4, the operator's tables, and whatever
a browser may send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import traffic, traffictables
from gateway.core.book import Channel
from gateway.core.traffic import Classified, Kind

SHIPPED = (Path(__file__).parents[2] / "config" / "traffic.csv").read_text(encoding="utf-8")
TABLES = traffictables.parse(SHIPPED)
HEADER = ",".join(traffictables.COLUMNS)
SITE = "clinic.example.com"


def web(rest: str) -> str:
    """An address; other companies' addresses do not stand in this repository in full."""
    return f"https://{rest}" if rest and "://" not in rest else rest


def visit(
    query: str = "", referrer: str = "", *, own: tuple[str, ...] = (), tables: Any = TABLES, **sent: str
) -> Classified:
    landed = traffic.landing(web(f"{SITE}/prices{query}"), web(referrer), sent, tables)
    return traffic.classify(landed, tables, own)


# ---- The order of the rules ----

CASES = (
    # query, referrer, kind, source, medium, rule
    ("?gclid=EAIa-x_1", "www.google.com/", Kind.PAID_SEARCH, "google", "cpc", "click_id:gclid"),
    ("?gbraid=0AAA", "", Kind.PAID_SEARCH, "google", "cpc", "click_id:gbraid"),
    ("?wbraid=0AAA", "", Kind.PAID_SEARCH, "google", "cpc", "click_id:wbraid"),
    ("?gad_source=1&gad_campaignid=22", "", Kind.PAID_SEARCH, "google", "cpc", "click_id:gad_campaignid"),
    ("?dclid=CO", "", Kind.DISPLAY, "google", "cpc", "click_id:dclid"),
    ("?gclid=a&utm_source=google&utm_medium=display", "", Kind.DISPLAY, "google", "display", "click_id:gclid"),
    ("?gclid=a&utm_source=newsletter&utm_medium=email", "", Kind.PAID_SEARCH, "google", "email", "click_id:gclid"),
    ("?yclid=1234567890", "yandex.ru/", Kind.PAID_SEARCH, "yandex", "cpc", "click_id:yclid"),
    ("?ymclid=17", "", Kind.PAID_SEARCH, "yandex-market", "cpc", "click_id:ymclid"),
    ("?msclkid=ab", "", Kind.PAID_SEARCH, "bing", "cpc", "click_id:msclkid"),
    ("?ttclid=E.C.P.x", "", Kind.PAID_SOCIAL, "tiktok", "cpc", "click_id:ttclid"),
    ("?NaPm=ct%3Dx", "search.naver.com/", Kind.PAID_SEARCH, "naver", "cpc", "click_id:napm"),
    ("?GCLID=UPPER", "", Kind.PAID_SEARCH, "google", "cpc", "click_id:gclid"),
    ("?fbclid=IwAR", "", Kind.SOCIAL, "facebook", "social", "hint:fbclid"),
    ("?fbclid=IwAR", "l.instagram.com/", Kind.SOCIAL, "instagram", "social", "social:instagram.com"),
    ("?fbclid=I&utm_source=fb&utm_medium=paid", "", Kind.PAID_SOCIAL, "facebook", "paid", "utm:paid*"),
    ("?fbclid=I&utm_source=ig&utm_medium=social", "", Kind.SOCIAL, "instagram", "social", "utm:social*"),
    ("?utm_source=vk&utm_medium=cpc", "", Kind.PAID_SOCIAL, "vk", "cpc", "utm:cpc"),
    ("?utm_source=Yandex&utm_medium=CPC", "", Kind.PAID_SEARCH, "yandex", "cpc", "utm:cpc"),
    ("?utm_source=mail.ru&utm_medium=cpc", "", Kind.PAID_SEARCH, "mail.ru", "cpc", "utm:cpc"),
    ("?utm_source=x&utm_medium=cpm", "", Kind.DISPLAY, "x", "cpm", "utm:cpm"),
    ("?utm_source=x&utm_medium=banner_top", "", Kind.DISPLAY, "x", "banner_top", "utm:banner*"),
    ("?utm_source=x&utm_medium=retargeting", "", Kind.DISPLAY, "x", "retargeting", "utm:retargeting"),
    ("?utm_source=blog&utm_medium=paid_placement", "", Kind.PAID, "blog", "paid_placement", "utm:paid*"),
    ("?utm_source=june&utm_medium=email", "vk.com/", Kind.EMAIL, "june", "email", "utm:email"),
    ("?utm_source=partner&utm_medium=affiliates", "", Kind.AFFILIATE, "partner", "affiliates", "utm:affiliate*"),
    ("?utm_source=google&utm_medium=organic", "", Kind.SEARCH, "google", "organic", "utm:organic"),
    ("?utm_source=a&utm_medium=sms", "", Kind.PUSH, "a", "sms", "utm:sms"),
    ("?utm_source=a&utm_medium=push_web", "", Kind.PUSH, "a", "push_web", "utm:push*"),
    ("?utm_source=flyer&utm_medium=qr", "", Kind.OTHER, "flyer", "qr", "utm:other"),
    ("?utm_source=flyer", "", Kind.OTHER, "flyer", "none", "utm:other"),
    ("?utm_medium=cpc", "www.google.ru/", Kind.PAID_SEARCH, "google", "cpc", "utm:cpc"),
    ("?utm_medium=cpc", "shop.example.net/", Kind.PAID_SEARCH, "shop.example.net", "cpc", "utm:cpc"),
    ("?utm_medium=cpc", "", Kind.PAID_SEARCH, "unknown", "cpc", "utm:cpc"),
    ("?_openstat=direct.yandex;11;22;premium", "", Kind.OTHER, "yandex", "none", "utm:other"),
    ("?utm_source=chatgpt.com", "", Kind.AI, "chatgpt", "ai", "utm_source:chatgpt.com"),
    ("?utm_source=www.Perplexity.ai", "www.google.com/", Kind.AI, "perplexity", "ai", "utm_source:perplexity.ai"),
    ("?utm_source=chatgpt.com&utm_medium=cpc", "", Kind.PAID_SEARCH, "chatgpt.com", "cpc", "utm:cpc"),
    ("?utm_source=vk.com", "", Kind.OTHER, "vk.com", "none", "utm:other"),
    ("", "docs.google.com/x", Kind.REFERRAL, "google-docs", "referral", "referral:docs.google.com"),
    ("", "tieba.baidu.com/p/1", Kind.SOCIAL, "baidu-tieba", "social", "social:tieba.baidu.com"),
    ("", f"www.{SITE}/other", Kind.OWN, f"www.{SITE}", "none", "own"),
    ("", "3ds.stripe.com/x", Kind.OWN, "3ds.stripe.com", "none", "gateway:stripe.com"),
    ("", "yabs.yandex.kz/count", Kind.PAID_SEARCH, "yandex", "cpc", "paid:yabs.yandex.*"),
    ("", "googleads.g.doubleclick.net/aclk", Kind.DISPLAY, "google", "cpc", "paid:googleads.g.doubleclick.net"),
    ("", "www.google.com/", Kind.SEARCH, "google", "organic", "search:google.*"),
    ("", "google.co.kr/", Kind.SEARCH, "google", "organic", "search:google.*"),
    ("", "ya.ru/search/?text=x", Kind.SEARCH, "yandex", "organic", "search:ya.ru"),
    ("", "yandex.com.tr/search", Kind.SEARCH, "yandex", "organic", "search:yandex.*"),
    ("", "m.search.naver.com/search.naver?query=x", Kind.SEARCH, "naver", "organic", "search:naver.com"),
    ("", "android-app://com.google.android.googlequicksearchbox/", Kind.SEARCH, "google", "organic",
     "search:android-app://com.google.android.googlequicksearchbox"),
    ("", "away.vk.com/away.php", Kind.SOCIAL, "vk", "social", "social:vk.com"),
    ("", "m.youtube.com/watch", Kind.SOCIAL, "youtube", "social", "social:youtube.com"),
    ("", "m.blog.naver.com/x", Kind.SOCIAL, "naver-blog", "social", "social:m.blog.naver.com"),
    ("", "chatgpt.com/", Kind.AI, "chatgpt", "ai", "ai:chatgpt.com"),
    ("", "www.perplexity.ai/", Kind.AI, "perplexity", "ai", "ai:perplexity.ai"),
    ("", "alice.yandex.ru/", Kind.AI, "alice", "ai", "ai:alice.yandex.ru"),
    ("", "www.bing.com/chat?x", Kind.AI, "copilot", "ai", "ai:bing.com/chat"),
    ("", "www.bing.com/search?q=x", Kind.SEARCH, "bing", "organic", "search:bing.com"),
    ("", "mail.google.com/mail/u/0", Kind.EMAIL, "gmail", "email", "email:mail.google.com"),
    ("", "e.mail.ru/inbox", Kind.EMAIL, "mail.ru", "email", "email:e.mail.ru"),
    ("", "t.me/", Kind.MESSENGER, "telegram", "messenger", "messenger:t.me"),
    ("", "android-app://org.telegram.messenger/", Kind.MESSENGER, "telegram", "messenger",
     "messenger:android-app://org.telegram.messenger"),
    ("", "android-app://com.kakao.talk", Kind.MESSENGER, "kakaotalk", "messenger",
     "messenger:android-app://com.kakao.talk"),
    ("", "www.portal.example.org/list", Kind.REFERRAL, "portal.example.org", "referral", "referral"),
    ("", "android-app://com.unknown.app", Kind.REFERRAL, "android-app://com.unknown.app", "referral", "referral"),
    ("", "", Kind.DIRECT, "direct", "none", "direct"),
)  # fmt: skip


@pytest.mark.parametrize(("query", "referrer", "kind", "source", "medium", "rule"), CASES)
def test_rule(query: str, referrer: str, kind: Kind, source: str, medium: str, rule: str) -> None:
    found = visit(query, referrer)
    assert (found.kind, found.source, found.medium, found.rule) == (kind, source, medium, rule)
    assert found.version == TABLES.version
    assert found.keeps_previous == (kind is Kind.OWN)


def test_every_kind_has_a_channel_and_ad_types_are_apart() -> None:
    """R75: search, social, display, other paid."""
    assert {kind for kind in Kind if kind.is_paid} == {
        *(Kind.PAID_SEARCH, Kind.PAID_SOCIAL, Kind.DISPLAY, Kind.PAID, Kind.AFFILIATE)
    }
    assert Kind.PAID_SEARCH.channel is Kind.SEARCH.channel is Channel.SEARCH
    assert Kind.AI.channel is Channel.OTHER
    assert all(isinstance(kind.channel, Channel) for kind in Kind)


def test_other_sites_of_the_same_company_do_not_begin_anew() -> None:
    assert visit("", "shop.example.net/", own=("example.net",)).kind is Kind.OWN
    assert visit("", "notexample.net/", own=("example.net",)).kind is Kind.REFERRAL
    assert visit("?utm_source=a&utm_medium=email", "shop.example.net/", own=("example.net",)).kind is Kind.EMAIL


# ---- What is kept ----


def test_tags_are_kept_as_they_were_written() -> None:
    """R24, R86: campaign, keyword, content; values in any alphabet, `+` and `%20` as spaces."""
    found = visit(
        "?utm_source=Google&utm_medium=cpc&utm_campaign=Spring+Sale&utm_term=%D0%B7%D1%83%D0%B1%20%D0%BC%D1%83%D0%B4%D1%80%D0%BE%D1%81%D1%82%D0%B8&utm_content=A&utm_id=77"
    )
    assert (found.campaign, found.term, found.content, found.campaign_id) == ("Spring Sale", "зуб мудрости", "A", "77")


def test_the_search_phrase_is_taken_where_an_engine_tells_it() -> None:
    """R108."""
    assert visit("", "yandex.ru/search/?lr=213&text=%D0%B7%D1%83%D0%B1").term == "зуб"
    assert visit("", "www.baidu.com/s?word=two&wd=").term == "two"
    assert visit("", "www.google.com/").term is None
    assert visit("?utm_source=a&utm_medium=cpc&utm_term=tagged", "yandex.ru/search/?text=typed").term == "tagged"
    assert visit("", "vk.com/?q=no&text=no").term is None
    assert visit("?n_query=%ED%95%9C&NaPm=x", "").term == "한"


def test_click_ids_are_kept_whole_in_their_own_case_or_not_at_all() -> None:
    """attribution.md 3.3: half an id is of no use; Yandex's are digits."""
    found = visit("?gclid=AbC&fbclid=IwAR&yclid=12x&ttclid=" + "t" * 513)
    assert found.click_ids == {"gclid": "AbC", "fbclid": "IwAR"}
    assert visit("?gclid=" + "g" * 512).click_ids == {"gclid": "g" * 512}
    assert visit("?gclid=&yclid=").kind is Kind.DIRECT


def test_the_scripts_parameters_fill_in_what_the_address_lacks() -> None:
    """The script saw the address before a redirect of the site's router took its tags away."""
    found = visit("?utm_source=vk", utm_source="other", utm_medium="cpc", gclid="x", password="secret")
    assert (found.source, found.medium, found.click_ids) == ("google", "cpc", {"gclid": "x"})
    assert visit("?utm_source=vk", utm_source="other", utm_medium="cpc").source == "vk"
    landed = traffic.landing(web(SITE), "", {"password": "secret", "utm_source": "a"}, TABLES)
    assert landed.parameters == {"utm_source": "a"}


def test_tags_behind_the_hash_count_too() -> None:
    assert visit("#utm_source=vk&utm_medium=cpc").kind is Kind.PAID_SOCIAL
    assert visit("#/prices?x").kind is Kind.DIRECT


@pytest.mark.parametrize("macro", ["{keyword}", "%7Bkeyword%7D", "{{campaign.name}}", "${TERM}", "%25%25TERM%25%25"])
def test_a_macro_that_was_not_filled_in_is_no_value(macro: str) -> None:
    found = visit(f"?utm_source=google&utm_medium=cpc&utm_term={macro}&utm_campaign=a{{b}}")
    assert (found.term, found.campaign) == (None, "a{b}")


# ---- Nobody is believed ----


@pytest.mark.parametrize(
    "referrer",
    [
        *("google.com.example.net/", "notgoogle.com/", "example.net/google.com", "example.net/?x=//google.com/"),
        *("google.com@example.net/", "example.net#@google.com/", "google.example.net/", "evil.t.me.example.net/"),
    ],
)
def test_a_host_that_only_looks_like_a_known_one_is_a_referral(referrer: str) -> None:
    found = visit("", referrer)
    assert found.kind is Kind.REFERRAL
    assert found.source.endswith("example.net") or found.source == "notgoogle.com"


@pytest.mark.parametrize(
    "referrer",
    [
        *("javascript:alert(1)", "file:///etc/passwd", "ftp://vk.com/", "//", "https://", "https:///path", "vk.com"),
        *(
            "data:text/html,x",
            "https://<script>/",
            "https:" + "//a b.com/",
            "https://[::1",
            "https:" + "//" + "a." * 500 + "com/",
        ),
        *("\x00\ud800", "https://\ud800.com/", "https://" + "ж" * 300 + ".com/", "android-app://", "about:client"),
    ],
)
def test_a_referrer_without_a_host_is_none(referrer: str) -> None:
    found = traffic.classify(traffic.landing(web(SITE), referrer, {}, TABLES), TABLES)
    assert (found.kind, found.referrer_host) == (Kind.DIRECT, None)


def test_hosts_are_read_as_browsers_read_them() -> None:
    assert visit("", "user:pw@WWW.Google.COM.:443/x").rule == "search:google.*"
    assert visit("", "https://пример.test/").source == "xn--e1afmkfd.test"


texts = some.text(max_size=80) | some.text(alphabet="&=?#%/:.@;+{}\x00\ud800ж", max_size=200)


@given(texts, texts, some.dictionaries(texts, texts, max_size=5), some.lists(texts, max_size=3))
def test_anything_is_classified_and_can_be_stored(
    url: str, referrer: str, sent: dict[str, str], own: list[str]
) -> None:
    """Hostile input is harmless: no error, no control character, no half character, nothing beyond its length."""
    for address in (url, web(f"{SITE}/?{url}")):
        landed = traffic.landing(address, referrer, sent, TABLES)
        found = traffic.classify(landed, TABLES, own)
        kept = [landed.url, landed.referrer, *landed.parameters, *landed.parameters.values(), found.source]
        kept += [found.medium, found.campaign or "", found.term or "", found.content or "", *found.click_ids.values()]
        for text in kept:
            assert text.isprintable() and len(text) <= traffic.MAX_URL
            text.encode()
        assert len(landed.parameters) <= traffic.MAX_PARAMETERS
        assert found.kind in Kind


def test_a_flood_of_parameters_is_cut() -> None:
    flood = "&".join(f"x{number}=1" for number in range(100_000))
    assert visit(f"?utm_source=a&{flood}").source == "a"
    assert visit(f"?{flood}&utm_source=a").kind is Kind.DIRECT


# ---- Tables ----


def tables(*rows: str) -> traffictables.Tables:
    return traffictables.parse(SHIPPED, "\n".join((HEADER, *rows)))


def test_the_operators_rows_come_on_top() -> None:
    """A new engine, a site that is none any more, a click id and a medium of one's own."""
    own = tables(
        "search,find.example.org,find,,phrase",
        "social,yandex.*,yandex-social,,",
        "click_id,myclid,my-ads,display,8",
        "medium,radio,,other,",
        "alias,goo,google,,",
    )
    found = visit("", "find.example.org/?phrase=x", tables=own)
    assert (found.kind, found.source, found.term) == (Kind.SEARCH, "find", "x")
    assert visit("", "yandex.ru/", tables=own).kind is Kind.SOCIAL
    assert visit("?myclid=12345678", tables=own).click_ids == {"myclid": "12345678"}
    assert visit("?myclid=123456789", tables=own).kind is Kind.DIRECT
    assert visit("?utm_source=goo&utm_medium=radio", tables=own).source == "google"
    assert visit("", "vk.com/", tables=own).source == "vk"
    assert visit("", "vk.com/", tables=own).version != TABLES.version


def test_the_version_follows_the_tables() -> None:
    assert TABLES.version == traffictables.parse(SHIPPED).version
    assert TABLES.version.startswith(f"{traffictables.RULES}-")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("search,example.org,find", "3 columns"),
        ("bogus,example.org,find,,", "'bogus' is none of"),
        ("search,https://example.org,find,,", "is no search"),
        ("search,*.example.org,find,,", "is no search"),
        ("search,localhost,find,,", "is no search"),
        ("search,example.org,Find It,,", "is no name"),
        ("click_id,a-b,x,paid,", "is no click_id"),
        ("click_id,ab,x,,", "needs a kind of traffic"),
        ("medium,radio,,,", "needs a kind of traffic"),
        ("medium,radio,,air,", "'air' is no kind"),
        ("search,example.org,find,,q;drop", "is no detail"),
        ('search,"example.org', "columns must be|CSV"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(row: str, message: str) -> None:
    with pytest.raises(traffictables.BadTables, match=message):
        tables(row)


def test_every_error_is_told_at_once() -> None:
    with pytest.raises(traffictables.BadTables) as caught:
        tables("search,example.org,Bad Name,,", "bogus,a,b,,", "search,a.example.org,a,,", "social,a.example.org,a,,")
    assert [error.partition(":")[0] for error in caught.value.errors] == ["line 2", "line 3", "line 5"]
    with pytest.raises(traffictables.BadTables, match="columns must be"):
        traffictables.parse("kind,match\nsearch,example.org")
