"""The wire's `lease`: what a page is told, and what anybody may send instead."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import leasetokens
from gateway.core.scriptwire import _ID

IDS = some.uuids().map(str)
VISIT = str(UUID(int=7))


@given(visit=IDS, leases=some.sets(IDS, max_size=2))
def test_a_token_names_visit_and_leases(visit: str, leases: set[str]) -> None:
    token = leasetokens.write(visit, leases)
    assert _ID.fullmatch(token)
    assert leasetokens.read(token) == leasetokens.Token(visit, tuple(sorted(leases)))


@given(visit=IDS, leases=some.sets(IDS, min_size=3, max_size=9), others=some.sets(IDS, max_size=9))
def test_many_leases_are_known_by_a_digest(visit: str, leases: set[str], others: set[str]) -> None:
    token = leasetokens.write(visit, leases)
    assert _ID.fullmatch(token)
    read = leasetokens.read(token)
    assert read is not None and read.visit_id == visit and not read.lease_ids
    assert read.is_of(sorted(leases, reverse=True))
    assert read.is_of(others) == (others == leases)
    assert not read.is_of(leases - {min(leases)})


@pytest.mark.parametrize(
    "text", ["", "A", "A" * 21, "A" * 23, "A" * 44, "A" * 45, "é" * 22, "A" * 86, "=" * 22, "A=" * 11]
)
def test_what_is_none_of_ours_is_none(text: str) -> None:
    assert leasetokens.read(text) is None


@given(some.text(max_size=70) | some.from_regex(_ID, fullmatch=True))
def test_anything_may_be_sent(text: str) -> None:
    read = leasetokens.read(text)
    assert read is None or read.digest is not None or len(read.lease_ids) <= 2


def test_a_token_of_no_lease_is_of_none() -> None:
    token = leasetokens.read(leasetokens.write(VISIT))
    assert token == leasetokens.Token(VISIT) and not token.is_of([])
