from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time

import pytest

from gateway.config import routingfile
from gateway.core import book

from .files import EXAMPLE, SMALL, changed, with_line


def test_the_example_is_right() -> None:
    made = routingfile.parse(EXAMPLE.read_text(encoding="utf-8"), 3)
    assert made.revision == 3
    assert 10 <= sum(one.pool is None for one in made.tracking_numbers.values()) <= 12
    assert {"desk-1", "desk-2"} <= {one.address for one in made.destinations.values()}


def test_a_small_file_says_the_rest_by_defaults() -> None:
    made = routingfile.parse(SMALL, 1)
    assert made.default_site == book.Site(
        "clinic", "clinic", "Europe/Moscow", "RU", "en", "desk", outbound_trunk="carrier-a"
    )
    assert made.trunks["carrier-a"] == book.Trunk(
        "carrier-a", "RU", book.NumberForm.E164, book.DidSource.RURI, ("203.0.113.5",), "sip.example.net"
    )
    assert made.routes["sales"] == book.Route("sales", "clinic", ("desk",), reserve=(("second",),))
    assert made.tracking_numbers == {"74990000001": book.TrackingNumber("+74990000001", "sales")}
    assert made.bans == (book.Ban("+74957770001", book.BanAction.REFUSE, "calls daily"),)
    assert made.local_contexts == {"from-internal"}


def test_an_agents_endpoint_names_the_agent_of_its_destination() -> None:
    made = routingfile.parse(SMALL, 1)
    assert made.destinations["desk"].agent == "anna"
    assert made.destinations["second"].agent is None


def test_short_forms_become_destinations() -> None:
    """C3: a reserve may be written where it is used."""
    text = changed(
        'reserve = ["second"]',
        'reserve = ["second", "tel:+74951234567", ["sip:desk-1", "sip:Mobile.1"], "local:600@from-internal"]',
    )
    made = routingfile.parse(text, 1)
    assert made.routes["sales"].reserve == (
        ("second",),
        ("tel-74951234567",),
        ("desk", "sip-mobile-1"),
        ("local-600-from-internal",),
    )
    assert made.destinations["tel-74951234567"].dial_string == "PJSIP/74951234567@carrier-a-out"
    assert made.destinations["sip-mobile-1"].dial_string == "PJSIP/Mobile.1"
    assert made.destinations["local-600-from-internal"].dial_string == "Local/600@from-internal/n"


def test_short_forms_with_equal_keys_stay_apart() -> None:
    long_name = "a-context-with-a-long-name"
    text = changed('["from-internal"]', f'["{long_name}-1", "{long_name}-2"]').replace(
        'reserve = ["second"]', f'reserve = ["local:600@{long_name}-1", "local:600@{long_name}-2", "sip:A", "sip:a"]'
    )
    made = routingfile.parse(text, 1)
    keys = [key for group in made.routes["sales"].reserve for key in group]
    assert len(set(keys)) == 4
    assert all(len(key) <= book.MAX_KEY_LENGTH for key in keys)


def test_a_route_may_send_short_forms_out_by_its_own_trunk() -> None:
    second = '[[trunk]]\nkey = "carrier-b"\nserver = "198.51.100.7:5080"\n'
    text = SMALL + second
    text = text.replace('reserve = ["second"]', 'reserve = ["tel:84951234567"]\ntrunk = "carrier-b"')
    made = routingfile.parse(text, 1)
    assert made.trunks["carrier-b"].hosts == ("198.51.100.7",)
    assert made.destinations["tel-74951234567"].trunk == "carrier-b"


def test_hours_may_be_written_in_the_route() -> None:
    text = with_line('reserve = ["second"]', 'hours = { fri = ["22:00-02:00", "9:00-12:00"], time_zone = "Asia/Omsk" }')
    made = routingfile.parse(text, 1)
    assert made.hours[made.routes["sales"].hours or ""] == book.BusinessHours(
        "sales-hours",
        "Asia/Omsk",
        (
            book.OpeningTime(4, time(9), time(12)),
            book.OpeningTime(4, time(22), time.max),
            book.OpeningTime(5, time(0), time(2)),
        ),
    )


@pytest.mark.parametrize(
    ("written", "opening_times"),
    [
        ('sat = "00:00-24:00"', [(5, time(0), time.max)]),
        ('sat-mon = "10:00-14:00"', [(day, time(10), time(14)) for day in (0, 5, 6)]),
        ('sun = "20:00-00:00"', [(6, time(20), time.max)]),
        ('sun = "20:00-01:30"', [(0, time(0), time(1, 30)), (6, time(20), time.max)]),
        ('sun = ["09:00-13:00", "12:00-18:00"]', [(6, time(9), time(18))]),
        ('sun = ["09:00-13:00", "13:00-18:00"]', [(6, time(9), time(18))]),
        ('mon-sun = "closed"', []),
    ],
)
def test_opening_times_are_split_at_midnight_and_joined(
    written: str, opening_times: list[tuple[int, time, time]]
) -> None:
    made = routingfile.parse(changed('mon-fri = "09:00-18:00"', written), 1)
    assert [(one.weekday, one.start, one.end) for one in made.hours["office"].opening_times] == opening_times


def test_holidays_are_texts_or_dates() -> None:
    text = with_line('mon-fri = "09:00-18:00"', 'holidays = ["2026-12-31", 2027-01-01]')
    assert routingfile.parse(text, 1).hours["office"].holidays == {date(2026, 12, 31), date(2027, 1, 1)}


@pytest.mark.parametrize(
    ("expires", "moment"),
    [
        ("2026-12-31", datetime(2026, 12, 31, 21, 0, tzinfo=UTC)),
        ('"2026-12-31"', datetime(2026, 12, 31, 21, 0, tzinfo=UTC)),
        ("2026-12-31T18:00:00", datetime(2026, 12, 31, 15, 0, tzinfo=UTC)),
        ('"2026-12-31T18:00:00+00:00"', datetime(2026, 12, 31, 18, 0, tzinfo=UTC)),
        ("2026-12-31T18:00:00Z", datetime(2026, 12, 31, 18, 0, tzinfo=UTC)),
    ],
)
def test_a_ban_holds_through_the_day_it_expires_on(expires: str, moment: datetime) -> None:
    """R112."""
    made = routingfile.parse(with_line('reason = "calls daily"', f"expires = {expires}"), 1)
    assert made.bans[0].expires_at == moment


def test_numbers_may_be_written_as_people_do() -> None:
    text = changed('"+74990000001"', '"8 (499) 000-00-01"')
    assert list(routingfile.parse(text, 1).tracking_numbers) == ["74990000001"]


def test_a_condition_on_a_source_holds_for_its_sub_sources() -> None:
    """R106."""
    text = SMALL + '[[source]]\nkey = "radio-jazz"\nchannel = "offline"\nparent = "radio"\n'
    text = text.replace(
        'reserve = ["second"]',
        'reserve = ["second"]\n[[route.exception]]\nsources = ["radio"]\nforward = ["second"]\nreserve = []',
    )
    exception = routingfile.parse(text, 1).routes["sales"].exceptions[0]
    assert exception.condition.sources == {"radio", "radio-jazz"}
    assert exception.reserve == ()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('after_hours_message = "closed"', book.AfterHours.MESSAGE),
        ('after_hours_destinations = ["second"]', book.AfterHours.DESTINATIONS),
        ("", book.AfterHours.RESERVE),
        ('after_hours = "reserve"\nafter_hours_message = "closed"', book.AfterHours.RESERVE),
    ],
)
def test_what_happens_after_hours_follows_from_what_is_given(lines: str, expected: book.AfterHours) -> None:
    text = with_line('reserve = ["second"]', f'hours = "office"\n{lines}')
    assert routingfile.parse(text, 1).routes["sales"].after_hours is expected


def test_a_registration_names_where_the_password_is() -> None:
    text = with_line(
        'server = "sip.example.net"', 'registration = { username = "7499", password = "file:/etc/dialmark/secret" }'
    )
    assert routingfile.parse(text, 1).trunks["carrier-a"].registration == book.Registration(
        "sip.example.net", "7499", "file:/etc/dialmark/secret"
    )


@pytest.mark.parametrize(
    ("text", "revision"), [("revision = 12\n", 12), ("", None), ("revision = 'x'", None), ("revision =", None)]
)
def test_a_file_may_say_which_revision_it_was_made_from(text: str, revision: int | None) -> None:
    assert routingfile.file_revision(text) == revision
    if revision:
        assert routingfile.parse(text + SMALL, 99).revision == 99


def test_the_same_text_gives_the_same_book() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert routingfile.parse(text, 1) == routingfile.parse(text.replace("\n", "\r\n"), 1)


# ---- What apply shows ----


def test_a_first_file_is_all_additions() -> None:
    lines = routingfile.difference(None, routingfile.parse(SMALL, 1))
    assert "+ tracking number +74990000001 → route sales" in lines
    assert "+ route sales: all of desk, reserve second" in lines
    assert "+ hours office: mon-fri 09:00-18:00" in lines
    assert all(line.startswith("+ ") for line in lines)


def test_a_revision_alone_is_no_difference() -> None:
    assert routingfile.difference(routingfile.parse(SMALL, 1), routingfile.parse(SMALL, 2)) == []


def test_changes_are_told_field_by_field() -> None:
    old = routingfile.parse(SMALL, 1)
    text = changed('reserve = ["second"]', 'reserve = [["second", "desk"], "second"]\nring_seconds = 25')
    text = text.replace('mon-fri = "09:00-18:00"', 'mon-thu = "09:00-18:00"\nsat = "00:00-24:00"')
    text = text.replace("+74990000001", "+74990000002").replace('"from-internal"', '"from-internal", "ivr"')
    assert routingfile.difference(old, routingfile.parse(text, 2)) == [
        "~ hours office: opening_times mon-fri 09:00-18:00 → mon-thu 09:00-18:00, sat 00:00-24:00",
        "~ route sales: reserve second → (second, desk), second",
        "~ route sales: ring_seconds 20 → 25",
        "- tracking number +74990000001",
        "+ tracking number +74990000002 → route sales",
        "+ local context ivr",
    ]


def test_another_first_site_is_told() -> None:
    """Its default destination takes the calls to unknown numbers."""
    old = routingfile.parse(SMALL, 1)
    other = replace(old.default_site, key="other")
    both = replace(old, sites={"clinic": old.default_site, "other": other})
    turned = replace(old, sites={"other": other, "clinic": old.default_site})
    assert routingfile.difference(both, turned) == ["~ first site: clinic → other"]
