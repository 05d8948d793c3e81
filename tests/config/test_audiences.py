"""`[[audience]]` of the routing file (R11, R12)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config import routingfile
from gateway.core import audiences
from tests.cli.conftest import ROUTING

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "audiences.md").read_text(encoding="utf-8")


def read(text: str) -> audiences.Audience:
    made = routingfile.parse(f'{ROUTING}\n[[audience]]\nkey = "a"\n{text}', 1)
    return made.audiences["a"]


def test_what_is_left_out_has_a_careful_default() -> None:
    found = read('platform = "meta"')
    assert found == audiences.Audience(key="a", platform=audiences.Platform.META)
    assert (found.who, found.days, found.visit_covers_ads) == (audiences.Who.NOT_CONNECTED, 30, False)


def test_everything_written() -> None:
    more = '[[source]]\nkey = "station"\nname = "Station"\nchannel = "offline"\nparent = "radio"\n'
    text = f"""platform = "yandex"
who = "connected"
hash = "md5"
days = 90
sites = ["clinic"]
routes = ["sales"]
sources = ["radio"]
campaigns = ["spring"]
outcomes = ["answered"]
tags = ["vip"]
times = "first"
min_talk_seconds = 60
visit_covers_ads = true
{more}"""
    assert read(text) == audiences.Audience(
        key="a",
        platform=audiences.Platform.YANDEX,
        who=audiences.Who.CONNECTED,
        hash=audiences.Hash.MD5,
        days=90,
        sites=("clinic",),
        routes=("sales",),
        sources=("radio", "station"),
        campaigns=("spring",),
        outcomes=("answered",),
        tags=("vip",),
        times=audiences.Times.FIRST,
        min_talk_seconds=60,
        visit_covers_ads=True,
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "platform: is missing"),
        ('platform = "bing"', "platform: must be one of google, meta, yandex"),
        ('platform = "google"\nhash = "md5"', "google takes sha256 only"),
        ('platform = "google"\ndays = 541', "days: must be from 1 to 540"),
        ('platform = "google"\nsources = ["radoi"]', "Did you mean 'radio'?"),
        ('platform = "google"\noutcomes = ["answered"]', "calls that are answered are not missed"),
        ('platform = "google"\nmin_talk_seconds = 5', "calls that nobody took have no talk"),
        ('platform = "google"\nconsent = "assumed"', "there is no such key here"),
    ],
)
def test_mistakes_are_named(text: str, error: str) -> None:
    with pytest.raises(routingfile.RoutingErrors) as raised:
        read(text)
    assert error in str(raised.value)


def test_the_page_knows_every_key_and_reason() -> None:
    source = (ROOT / "gateway" / "config" / "audiences.py").read_text(encoding="utf-8")
    keys = set(re.findall(r'table\.(?:texts|references|choice|whole|flag)\("([a-z_]+)"', source)) | {"key", "tags"}
    words = {*keys, *audiences.Left, *audiences.Platform, *audiences.Who, *audiences.Times, *audiences.Hash}
    assert [word for word in sorted(words) if f"`{word}`" not in PAGE] == []
