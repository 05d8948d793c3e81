"""Whisper texts (C7, R91): filled templates, shortening, hostile values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.core import book, prompts, whisper

FACTS = whisper.Facts(source="Radio Jazz", campaign="implants", number_label="Landing page")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{source}, {campaign}", ["Radio Jazz, implants", "Radio Jazz"]),
        ("{source}, {city}, {campaign}", ["Radio Jazz, implants", "Radio Jazz"]),
        ("{city}, {source}", ["Radio Jazz"]),
        ("Call from {source} - {city}", ["Call from Radio Jazz"]),
        ("Звонок: {source}", ["Звонок: Radio Jazz"]),
        ("{city} {keyword}", []),
        ("A call.", ["A call."]),
        ("{number_label}", ["Landing page"]),
    ],
)
def test_template(template: str, said: list[str]) -> None:
    assert list(whisper.texts(template, FACTS)) == said


@pytest.mark.parametrize(
    "template", ["{sauce}", "{source", "source}", "{}", "{source:>9999999}", "", " ", "a" * 201, "{{source}}", "a\nb"]
)
def test_bad_templates(template: str) -> None:
    with pytest.raises(whisper.BadTemplate):
        whisper.check(template)


def test_a_visitor_goes_before_the_number() -> None:
    number = book.TrackingNumber("+74990000001", "sales", label="Pool", campaign="static")
    source = book.Source("site", "Site", book.Channel.SEARCH, book.CampaignType.CLICK)
    visitor = whisper.Visitor("Google Ads", "implants", "implant price", "Kazan")
    assert whisper.facts_of(number, source, visitor=visitor) == whisper.Facts(
        "Google Ads", "implants", "implant price", "", "Kazan", "Pool"
    )
    assert whisper.facts_of(number, source).campaign == "static"
    assert whisper.facts_of(None, None) == whisper.Facts()


def test_choices_end_with_the_generic_whisper() -> None:
    templates = {"": "{source}", "ru": "Звонок: {source}"}
    assert [one.text for one in whisper.choices(templates, "ru", FACTS)] == ["Звонок: Radio Jazz", ""]
    assert [one.text for one in whisper.choices(templates, "ko", FACTS)] == ["Radio Jazz", ""]
    assert whisper.choices({}, "ko", FACTS) == ()
    assert whisper.choices({"": "@welcome"}, "ko", FACTS)[0] == prompts.Wanted("welcome", "ko")


def test_what_is_rendered_beforehand_is_a_choice_too() -> None:
    """A new city or search phrase must not cost the agent the rest, wherever it stands in the template."""
    facts = replace(FACTS, city="Kazan", keyword="implant price")
    said = [one.text for one in whisper.choices({"": "{city}, {source}, {keyword}, {campaign}"}, "en", facts)]
    assert said == [
        "Kazan, Radio Jazz, implant price, implants",
        "Kazan, Radio Jazz, implant price",
        "Kazan, Radio Jazz",
        "Kazan",
        "Radio Jazz, implants",
        "Radio Jazz",
        "",
    ]


@given(some.text(max_size=400))
def test_no_value_can_be_a_command(value: str) -> None:
    """espeak-ng reads [[…]] as phonemes and <…> as SSML; a visitor's keyword is anything."""
    (text, *_) = [*whisper.texts("{source} {keyword}", whisper.Facts(source="Site", keyword=value))]
    assert text.startswith("Site")
    assert len(text) <= whisper.MAX_VALUE + 5
    assert not set(text) & set('[]<>{}|\\^`~*_=#@&"\n\r\0')
