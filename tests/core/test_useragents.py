"""What a visitor's browser says of itself (R107)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import useragents

CASES = {
    "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Mobile "
    "Safari/537.36": ("Chrome Mobile 129", "Android 14", "phone, Samsung SM-S918B"),
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Mobile Safari/537.36": (
        "Chrome Mobile 129",
        "Android 10",
        "phone",
    ),
    "Mozilla/5.0 (Linux; Android 13; SM-X710) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36": (
        "Chrome 129",
        "Android 13",
        "tablet",
    ),
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 "
    "Mobile/15E148 Safari/604.1": ("Mobile Safari 18", "iOS 18", "phone, iPhone"),
    "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1": ("Mobile Safari 17", "iOS 17", "tablet, iPad"),
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 "
    "YaBrowser/24.10.0.0 Safari/537.36": ("Yandex Browser 24", "Windows 10", "computer"),
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0": ("Firefox 132", "Linux", "computer"),
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 "
    "Safari/605.1.15": ("Safari 18", "Mac OS X 10", "computer"),
    "curl/8.1": ("curl 8", None, None),
    "": (None, None, None),
    "   ": (None, None, None),
    "nonsense": (None, None, None),
}


@pytest.mark.parametrize("header", CASES, ids=[f"case-{place}" for place in range(len(CASES))])
def test_browsers_in_words(header: str) -> None:
    """R107: browser, system, device."""
    found = useragents.look(header)
    assert (found.browser, found.system, found.device) == CASES[header]


def test_no_header_tells_nothing() -> None:
    assert useragents.look(None) == useragents.NOTHING


@given(st.text(max_size=2_000))
def test_anything_may_be_sent(header: str) -> None:
    found = useragents.look("Mozilla/5.0 (Linux; Android 14; " + header + ") Chrome/129.0 Mobile")
    for said in (found.browser, found.system, found.device):
        assert said is None or (said.isprintable() and 0 < len(said) <= useragents.MAX_WORDS)
