"""Figures of each receiver for Prometheus: what waits, what was given up, how attempts ended, on both engines."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from gateway import store
from gateway.daemon import queues
from gateway.store import outbox
from gateway.web import metrics
from tests.store import examples

CRM, FILE = "webhook:crm", "jsonl"
NOW_US = examples.NOON + 100 * examples.SECOND


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[store.Database]:
    opened = await store.Database.open(database_url)
    yield opened
    await opened.close()


async def fill(database: store.Database) -> None:
    """Three events: the file has two, the webhook one, and one was given up; a receiver that is gone has them all."""
    async with database.begin() as tx:
        await outbox.add(tx, [examples.event(number) for number in (10, 20, 30)], [CRM, FILE, "webhook:gone"])
        first, second = await outbox.claim(tx, FILE, limit=2, now_us=NOW_US, lease_us=1)
        await outbox.settle(tx, [first, second], now_us=NOW_US)
        taken, refused = await outbox.claim(tx, CRM, limit=2, now_us=NOW_US, lease_us=1)
        await outbox.settle(tx, [taken], now_us=NOW_US)
        await outbox.fail(tx, refused, error="500", now_us=NOW_US, next_at_us=None)


async def test_what_waits_and_since_when(database: store.Database) -> None:
    await fill(database)
    looking = queues.Queues(database, lambda: [CRM, FILE, "mail:alerts"], lambda: NOW_US)
    assert looking.waiting() is None
    await looking.refresh()
    assert looking.read() == {
        CRM: metrics.Queue(1, 70.0, 1),
        FILE: metrics.Queue(1, 70.0, 0),
        "mail:alerts": metrics.Queue(0, 0.0, 0),
        "other": metrics.Queue(3, 90.0, 0),
    }
    assert looking.waiting() == 5


async def test_a_database_that_does_not_answer_tells_nothing(database: store.Database) -> None:
    """Old figures would look like news."""
    await fill(database)
    looking = queues.Queues(database, lambda: [CRM], lambda: NOW_US)
    await looking.refresh()
    await database.close()
    looking._next = 0.0
    looking._database = _Gone()  # type: ignore[assignment]  # a database that is away
    await looking.refresh()
    assert (looking.read(), looking.waiting()) == ({}, None)


class _Gone:
    def read(self) -> AsyncIterator[store.Connection]:
        raise store.StoreUnavailable("gone")


async def test_scraping_often_asks_the_database_seldom(database: store.Database) -> None:
    looking = queues.Queues(database, lambda: [FILE], lambda: NOW_US)
    await looking.refresh()
    await fill(database)
    await looking.refresh()
    assert looking.read() == {FILE: metrics.Queue(0, 0.0, 0)}
    looking._next = 0.0
    await looking.refresh()
    assert looking.read()[FILE].waiting == 1


def shown(meters: metrics.Meters) -> list[str]:
    return [line for line in meters.exposition().decode().splitlines() if "target=" in line]


def test_attempts_by_result_and_how_long_it_took() -> None:
    meters = metrics.Meters("main", "0.1.0")
    meters.delivered(CRM, "failed", None)
    meters.delivered(CRM, "done", 0.2)
    meters.delivered(CRM, "done", 300.0)
    lines = shown(meters)
    assert 'dialmark_deliveries_total{node="main",result="done",target="webhook:crm"} 2.0' in lines
    assert 'dialmark_deliveries_total{node="main",result="failed",target="webhook:crm"} 1.0' in lines
    assert 'dialmark_delivery_seconds_bucket{le="0.25",node="main",target="webhook:crm"} 1.0' in lines
    assert 'dialmark_delivery_seconds_bucket{le="600.0",node="main",target="webhook:crm"} 2.0' in lines


def test_labels_are_bounded() -> None:
    """However many receivers come and go with revisions of the routing."""
    meters = metrics.Meters("main", "0.1.0")
    for number in range(3 * metrics.MAX_TARGETS):
        meters.delivered(f"webhook:w{number}", "done", 1.0)
    found = {f"webhook:q{number}": metrics.Queue(1, 1.0, 1) for number in range(3 * metrics.MAX_TARGETS)}
    meters.watch(metrics.Readings(queues=lambda: found))
    targets = re.findall(r'dialmark_deliveries_total\{.*target="([^"]+)"', "\n".join(shown(meters)))
    assert len(targets) == metrics.MAX_TARGETS + 1
    assert (
        f'dialmark_deliveries_total{{node="main",result="done",target="other"}} {2.0 * metrics.MAX_TARGETS}'
        in shown(meters)
    )
    assert len([line for line in shown(meters) if line.startswith("dialmark_outbox_waiting")]) == metrics.MAX_TARGETS


def test_tickets_and_alarms_by_state_and_kind() -> None:
    """R66: also for whoever watches numbers and reads no event."""
    meters = metrics.Meters("main", "0.1.0")
    assert b"dialmark_alarms{" not in meters.exposition()
    meters.watch(metrics.Readings(tickets_waiting=lambda: {"open": 3}, alarms=lambda: {"ami-down": 1, "no-calls": 0}))
    lines = meters.exposition().decode().splitlines()
    assert 'dialmark_tickets{node="main",state="open"} 3.0' in lines
    assert 'dialmark_alarms{kind="ami-down",node="main"} 1.0' in lines
    assert 'dialmark_alarms{kind="no-calls",node="main"} 0.0' in lines
