"""The key ring: what is a ring, and that it opens only what it wrapped for the same subject (R45)."""

from __future__ import annotations

import base64

import pytest

from gateway.store import keyring

ONE = base64.b64encode(bytes(32)).decode()
TWO = base64.b64encode(bytes(range(32))).decode()
KEY = b"k" * 32


def test_a_single_key_is_the_current_one() -> None:
    ring = keyring.parse(f"# ours\n\n2026-11 {ONE}  # the first\n")
    assert (ring.current, sorted(ring.ids)) == ("2026-11", ["2026-11"])


def test_lines_may_be_parted_by_semicolons() -> None:
    """An environment variable or a credential holds one line."""
    assert keyring.parse(f"a {ONE}; b {TWO} current").current == "b"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no key"),
        ("# nothing", "holds no key"),
        (f"a {ONE}\nb {TWO}", "exactly one of its 2 keys"),
        (f"a {ONE} current\nb {TWO} current", "2 are"),
        (f"a {ONE} current\na {TWO}", "line 2: the id 'a' stands twice"),
        (f"a {ONE} current\nb {ONE}", "line 2: 'b' is the same key"),
        ("a", "line 1: must be an id"),
        (f"a {ONE} old", "line 1: must be an id"),
        (f"-a {ONE}", "line 1: an id has"),
        ("a ???", "is not base64"),
        ("a c2hvcnQ=", "has 5 bytes, not 32"),
    ],
)
def test_what_is_no_ring_is_refused_by_line(text: str, why: str) -> None:
    with pytest.raises(keyring.KeyRingError, match=why) as raised:
        keyring.parse(text)
    assert ONE not in str(raised.value)


def test_a_new_line_is_a_ring() -> None:
    ring = keyring.parse(keyring.new_line("2026-11"))
    assert ring.current == "2026-11"
    assert keyring.new_line("a") != keyring.new_line("a")
    with pytest.raises(keyring.KeyRingError):
        keyring.new_line("two words")


def test_it_opens_only_what_it_wrapped_for_the_same_subject() -> None:
    ring = keyring.parse(f"a {ONE} current\nb {TWO}")
    wrapped = ring.wrap(KEY, "recording 1")
    assert len(wrapped.data) == keyring.WRAPPED_BYTES
    assert ring.unwrap(wrapped, "recording 1") == KEY
    with pytest.raises(keyring.KeyMissing):
        ring.unwrap(wrapped, "recording 2")
    with pytest.raises(keyring.KeyMissing, match="'b' of the ring does not open"):
        ring.unwrap(keyring.Wrapped("b", wrapped.data), "recording 1")
    for position in range(len(wrapped.data)):
        data = bytearray(wrapped.data)
        data[position] ^= 1
        with pytest.raises(keyring.KeyMissing):
            ring.unwrap(keyring.Wrapped("a", bytes(data)), "recording 1")


def test_a_ring_without_the_key_says_which_one() -> None:
    wrapped = keyring.parse(f"a {ONE}").wrap(KEY, "recording 1")
    with pytest.raises(keyring.KeyMissing, match="'a' is not in the ring, which holds b"):
        keyring.parse(f"b {TWO}").unwrap(wrapped, "recording 1")


def test_rotation_wraps_anew_and_the_old_key_can_go() -> None:
    old = keyring.parse(f"a {ONE}").wrap(KEY, "recording 1")
    new = keyring.parse(f"a {ONE}\nb {TWO} current").rewrap(old, "recording 1")
    assert new.key_id == "b"
    assert keyring.parse(f"b {TWO}").unwrap(new, "recording 1") == KEY


def test_keys_do_not_show_when_a_ring_is_printed() -> None:
    assert "\\x00" not in repr(keyring.parse(f"a {ONE}"))
