"""Consent, whisper, acceptance and unanswered behaviour in the routing file (C4, C7, R36, R91)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import routingfile, shipped
from gateway.core import book, prompts, regions
from gateway.core.book import RecordingMode as Mode
from tests.config import files
from tests.config.files import changed, errors_of, with_line

ROUTE = 'reserve = ["second"]'
SITE = 'outbound_trunk = "carrier-a"'
NUMBER = 'number = "+74990000001"'


def read(text: str) -> book.Book:
    return routingfile.parse(text, 1)


def test_all_of_it_is_read() -> None:
    text = with_line(
        ROUTE,
        """\
recording = "region"
consent = { FR = "opt_in", "US-TX" = "none" }
tell_agent = true
language = "ko"
whisper = { ru = "Звонок: {source}", ko = "{source}, {city}" }
accept = "press-1"
accept_repeats = 3
accept_seconds = 4
answering_machine_detection = true
unanswered = "voicemail"
unanswered_message = "@nobody_answers\"""",
    )
    route = read(text).routes["sales"]
    assert route.recording is Mode.REGION
    assert route.consent == {"FR": Mode.OPT_IN, "US-TX": Mode.NONE}
    assert (route.tell_agent, route.language) == (True, "ko")
    assert route.whisper == {"ru": "Звонок: {source}", "ko": "{source}, {city}"}
    assert (route.accept, route.accept_repeats, route.accept_seconds) == (book.Acceptance.PRESS_1, 3, 4)
    assert route.answering_machine_detection
    assert route.unanswered is book.Unanswered.VOICEMAIL


def test_site_number_and_destination() -> None:
    text = with_line(SITE, 'recording = "announce"\nconsent = { DE = "announce" }\nregion = "RU-MOW"')
    text = text.replace(NUMBER, f'{NUMBER}\nrecording = "off"\nlanguage = "en-GB"\nconsent = {{ ZZ = "none" }}')
    made = read(text.replace('dial = "sip:desk-2"', 'dial = "sip:desk-2"\naccept = "press-1"'))
    site, number = made.sites["clinic"], made.tracking_numbers["74990000001"]
    assert (site.region, site.recording, site.consent) == ("RU-MOW", Mode.ANNOUNCE, {"DE": Mode.ANNOUNCE})
    assert (number.recording, number.language, number.consent) == (Mode.OFF, "en-GB", {"ZZ": Mode.NONE})
    assert made.destinations["second"].accept is book.Acceptance.PRESS_1
    assert made.destinations["desk"].accept is None


def test_a_file_that_says_nothing_records_nothing() -> None:
    made = read(files.SMALL)
    assert made.routes["sales"].recording is None is made.sites["clinic"].recording
    assert made.regions == shipped.consent_regions()
    assert made.words.text("accept", "ko")


@pytest.mark.parametrize(
    ("line", "where", "suggestion"),
    [
        ('recording = "opt-in"', "route.sales.recording", "opt_in"),
        ("recording = true", "route.sales.recording", None),
        ('consent = { KR = "region" }', "route.sales.consent.KR", None),
        ('consent = { KR = "anounce" }', "route.sales.consent.KR", "announce"),
        ('consent = { korea = "none" }', "route.sales.consent.korea", None),
        ('consent = { kr = "none" }', "route.sales.consent.kr", "KR"),
        ('consent = "none"', "route.sales.consent", None),
        ('language = "russian"', "route.sales.language", None),
        ('whisper = "{sorce}"', "route.sales.whisper", "source"),
        ('whisper = "{source"', "route.sales.whisper", None),
        ('whisper = "@no such"', "route.sales.whisper", None),
        ("whisper = 5", "route.sales.whisper", None),
        ('whisper = { russian = "{source}" }', "route.sales.whisper.russian", None),
        ('accept = "press-2"', "route.sales.accept", "press-1"),
        ("answering_machine_detection = true", "route.sales.answering_machine_detection", None),
        ("answering_machine_detection = 1", "route.sales.answering_machine_detection", None),
        ("accept_repeats = 9", "route.sales.accept_repeats", None),
        ('unanswered = "voice-mail"', "route.sales.unanswered", "voicemail"),
        ('unanswered_message = "@"', "route.sales.unanswered_message", None),
        ('unanswered_message = "@../x"', "route.sales.unanswered_message", None),
        ('tell_agent = "yes"', "route.sales.tell_agent", None),
    ],
)
def test_errors(line: str, where: str, suggestion: str | None) -> None:
    (error,) = errors_of(with_line(ROUTE, line))
    assert (error.key, error.suggestion) == (where, suggestion)


def test_machine_detection_is_for_those_who_must_press() -> None:
    """Issue 3, item 7: one who must accept is enough, wherever the route rings them; an error names line and key."""
    asking = 'dial = "sip:desk-2"\naccept = "press-1"'
    text = with_line(ROUTE, "answering_machine_detection = true").replace('dial = "sip:desk-2"', asking)
    assert read(text).routes["sales"].answering_machine_detection
    elsewhere = text.replace(ROUTE, "")
    (error,) = errors_of(elsewhere)
    assert error.line == 1 + elsewhere.splitlines().index("answering_machine_detection = true")
    read(text.replace(ROUTE, "sticky_days = 3"))
    nobody = text.replace(asking, 'dial = "sip:desk-2"\naccept = "none"')
    assert [one.key for one in errors_of(nobody)] == ["route.sales.answering_machine_detection"]


def test_a_region_lies_in_its_country() -> None:
    (error,) = errors_of(changed('country = "RU"\n', 'country = "RU"\nregion = "US-CA"\n'))
    assert error.key == "site.clinic.region"


@pytest.mark.parametrize("after_hours", ["callback", "voicemail"])
def test_after_hours_needs_no_reserve(after_hours: str) -> None:
    text = changed(ROUTE, f'hours = "office"\nafter_hours = "{after_hours}"')
    assert read(text).routes["sales"].after_hours.value == after_hours


def test_own_texts_and_tables(tmp_path: Path) -> None:
    (tmp_path / "de.toml").write_text('consent_opt_in = "Dürfen wir aufzeichnen?"\n', "utf-8")
    (tmp_path / "en.toml").write_text('accept = "Press one."\n', "utf-8")
    (tmp_path / "notes.txt").write_text("not a language")
    words = shipped.catalogue().over(shipped.read_catalogue(tmp_path))
    assert words.text("consent_opt_in", "de-AT") == ("de", "Dürfen wir aufzeichnen?")
    assert words.text("accept", "de") == ("en", "Press one.")
    assert words.text("wait", "en") == shipped.catalogue().text("wait", "en")
    assert shipped.read_catalogue(tmp_path / "gone") == prompts.Catalogue({})
    broken = tmp_path / "regions.csv"
    broken.write_text("region_code,mode\nKR,none\n")
    with pytest.raises(regions.BadRegions, match=r"regions\.csv: line 1"):
        shipped.consent_regions(broken)


@pytest.mark.parametrize(
    "text", ["accept = 5", "accept = ''", "Accept = 'x'", 'accept = "a\\nb"', "accept = ", 'accept = "a\\u0007"']
)
def test_broken_texts_name_their_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "en.toml").write_text(text + "\n")
    with pytest.raises(shipped.BadCatalogue, match=r"en\.toml"):
        shipped.read_catalogue(tmp_path)


@pytest.mark.parametrize("language", ["en", "ko", "ru"])
def test_every_prompt_has_a_text(language: str) -> None:
    assert set(shipped.catalogue().texts[language]) == set(prompts.KEYS)
