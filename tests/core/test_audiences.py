"""Who is in an audience, and how numbers are hashed (R11, R12)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core import audiences
from gateway.core.audiences import Hash, Left, Platform, Who

NUMBER = "+79995551111"
GRANTED = frozenset({"granted"})

# What the platforms publish themselves: Google's Data Manager client libraries; Meta's "Customer information
# parameters"; Yandex Audience "File requirements" and Metrica "Customer data format".
GOOGLE = "fb4f73a6ec5fdb7077d564cdd22c3554b43ce49168550c3b12c547b78c517b30"
META = "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"


@pytest.mark.parametrize(
    ("platform", "how", "number", "published"),
    [
        (Platform.GOOGLE, Hash.SHA256, "+18005550100", GOOGLE),
        (Platform.META, Hash.SHA256, "+16505551212", META),
        (Platform.YANDEX, Hash.MD5, "+79876543210", "5c5259938ed3e632bc5e3f94731090af"),
        (Platform.YANDEX, Hash.MD5, "+79012345678", "7cea6da797b7105aee4188b6731a9006"),
        (Platform.YANDEX, Hash.MD5, "+79995551111", "f09f2c3d48f31e2a802944ade2e5aec5"),
    ],
    ids=["google", "meta", "yandex-1", "yandex-2", "yandex-3"],
)
def test_published_hashes(platform: Platform, how: Hash, number: str, published: str) -> None:
    """R11: a wrong form matches nobody without any error."""
    assert audiences.FORMATS[platform].hashes[how](number) == published


def test_yandex_sha256_is_of_digits_alone() -> None:
    """The form of the MD5 examples, hashed with what new segments ask for."""
    written = audiences.FORMATS[Platform.YANDEX].hashes[Hash.SHA256](NUMBER)
    assert written == "22846ab8f79870871eb44f653419a4a5069301827d8ae75b6c2a88e4989a364e"


def caller(**changes: Any) -> audiences.Caller:
    return audiences.Caller(**{"number": NUMBER, "said": GRANTED, **changes})


def judged(who: Who = Who.NOT_CONNECTED, *, covers: bool = False, ours: bool = False, **changes: Any) -> Left | None:
    asked = audiences.Audience(key="a", platform=Platform.GOOGLE, who=who, visit_covers_ads=covers)
    return audiences.left_out(caller(**changes), asked, is_ours=ours)


def test_who_agreed_leaves() -> None:
    assert judged() is None
    assert judged(said=frozenset({"granted", ""})) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"number": "erased-0f3c"}, Left.ERASED),
        ({"number": "201"}, Left.NO_NUMBER),
        ({"number": "+112"}, Left.NO_NUMBER),
        ({"number": "+7999555111122223"}, Left.NO_NUMBER),
        ({"number": "+7999\n5551111"}, Left.NO_NUMBER),
        ({"was_banned": True}, Left.BANNED),
        ({"has_talked": True}, Left.TALKED),
        ({"said": frozenset()}, Left.NO_CONSENT),
        ({"said": frozenset({""})}, Left.NO_CONSENT),
        ({"said": frozenset({"granted", "denied"})}, Left.REFUSED),
        ({"said": frozenset({"GRANTED"})}, Left.REFUSED),
        ({"refused_recording": True}, Left.REFUSED),
        ({"is_spam": True, "is_test": True}, Left.SPAM),
        ({"is_test": True}, Left.TEST),
    ],
)
def test_who_never_leaves(changes: dict[str, Any], why: Left) -> None:
    assert judged(**changes) is why


def test_our_own_numbers_stay() -> None:
    assert judged(ours=True) is Left.OURS


def test_a_talk_matters_only_to_who_did_not_connect() -> None:
    assert judged(Who.CALLED, has_talked=True) is None
    assert judged(Who.CONNECTED, has_talked=True) is None


def test_a_banner_that_asks_for_both_covers_visitors_alone() -> None:
    """`visit_covers_ads`: silence of somebody who let the site remember them; never of a caller without a visit, and
    never against a word of refusal."""
    assert judged(covers=True, said=frozenset({""})) is None
    assert judged(covers=True, said=frozenset()) is Left.NO_CONSENT
    assert judged(covers=True, said=frozenset({"", "denied"})) is Left.REFUSED
