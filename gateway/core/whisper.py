"""What the agent hears before the caller is put through (C7, R91): a template per route and language, filled with what
is known of the call.

A placeholder that nothing is known for goes, with the punctuation before it. When the speech is longer than
`MAX_SECONDS`, trailing placeholders go one by one; what is still too long is never played.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace

from gateway.core import book, prompts

MAX_SECONDS = 3.0
"""A caller who hangs up in the whisper leaves the agent listening to its end, and everybody else waits."""

MAX_VALUE = 60
"""Characters of one value: nobody understands more in three seconds."""

MAX_TEMPLATE = 200

_FIELD = re.compile(r"\{([^{}]*)\}")
_SAYS_SOMETHING = re.compile(r"\w")
_UNSPEAKABLE = re.compile(r"[\[\]<>{}|\\^`~*_=#@&\"]+")
"""Speech engines read some of these as commands (espeak-ng: `[[…]]` is phonemes, `<…>` SSML)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a whisper can say. "" where nothing is known."""

    source: str = ""
    campaign: str = ""
    keyword: str = ""
    first_or_repeat: str = ""
    """In the whisper's language."""
    city: str = ""
    number_label: str = ""


@dataclass(frozen=True, slots=True)
class Visitor:
    """What the lease of a pool number says of its visitor; it goes before what the number itself says."""

    source: str = ""
    """Name of the source, for people."""
    campaign: str = ""
    keyword: str = ""
    city: str = ""


PLACEHOLDERS = tuple(one.name for one in fields(Facts))


class BadTemplate(ValueError):
    """The template is refused; the message says why."""


def check(template: str) -> None:
    """Raises `BadTemplate` for an unknown placeholder, a single brace, and a text that is too long or empty."""
    for name in _FIELD.findall(template):
        if name not in PLACEHOLDERS:
            raise BadTemplate(f"there is no placeholder {{{name}}}; there are {', '.join(PLACEHOLDERS)}")
    if re.search(r"[{}]", _FIELD.sub("", template)):
        raise BadTemplate("holds a single brace; placeholders are written {source}")
    if not template.strip() or len(template) > MAX_TEMPLATE or not template.isprintable():
        raise BadTemplate(f"must be 1 to {MAX_TEMPLATE} printable characters")


def names(templates: Mapping[str, str]) -> frozenset[str]:
    """The placeholders that any of a route's templates has."""
    return frozenset(name for template in templates.values() for name in _FIELD.findall(template))


def template_for(templates: Mapping[str, str], language: str) -> str | None:
    """The route's template for `language`: its own, its base language's, else that for every language."""
    return templates.get(language) or templates.get(language.partition("-")[0]) or templates.get("") or None


def facts_of(
    number: book.TrackingNumber | None,
    source: book.Source | None,
    *,
    first_or_repeat: str = "",
    city: str = "",
    visitor: Visitor | None = None,
) -> Facts:
    """What is known of a call to `number`, whose source is `source`."""
    seen = visitor or Visitor()
    own_campaign = (number.campaign if number is not None else None) or (
        source.campaign if source is not None else None
    )
    return Facts(
        source=seen.source or (source.name if source is not None else ""),
        campaign=seen.campaign or own_campaign or "",
        keyword=seen.keyword,
        first_or_repeat=first_or_repeat,
        city=city or seen.city,
        number_label=(number.label if number is not None else None) or "",
    )


def choices(templates: Mapping[str, str], language: str, facts: Facts) -> tuple[prompts.Wanted, ...]:
    """What to play, best first: the whole whisper, then shorter ones, those of what is known beforehand (and rendered),
    then the generic one. Empty without a template.

    A template `@key` names a prompt of the catalogue or a WAV file of the operator's.
    """
    template = template_for(templates, language)
    if template is None:
        return ()
    generic = prompts.Wanted("whisper_generic", language)
    named = prompts.named(template, language)
    if named is not None:
        return (named, generic)
    beforehand = replace(facts, city="", keyword="")
    said = dict.fromkeys((*texts(template, facts), *texts(template, beforehand)))
    return (*(prompts.Wanted(prompts.WHISPER, language, text) for text in said), generic)


def texts(template: str, facts: Facts) -> Iterator[str]:
    """The filled template, then without its last known placeholder, and so on, as long as one is left. A template
    without placeholders gives itself; one whose placeholders are all unknown gives nothing."""
    values = {name: spoken(value) for name, value in asdict(facts).items()}
    order = [match[1] for match in _FIELD.finditer(template) if values.get(match[1])]
    if not _FIELD.search(template):
        yield spoken(template)
    while order:
        text = _filled(template, {name: values[name] for name in order})
        if text:
            yield text
        last = order[-1]
        order = [name for name in order if name != last]


def spoken(value: str) -> str:
    """`value` on one line, without what a speech engine could take for a command, cut to `MAX_VALUE` characters."""
    printable = "".join(character if character.isprintable() else " " for character in value[: 4 * MAX_VALUE])
    return " ".join(_UNSPEAKABLE.sub(" ", printable).split())[:MAX_VALUE].strip()


def _filled(template: str, values: Mapping[str, str]) -> str:
    """An unknown placeholder takes the punctuation before it along; words of the template itself stay."""
    parts: list[str] = []
    literal = ""
    at = 0
    for match in _FIELD.finditer(template):
        literal += template[at : match.start()]
        at = match.end()
        value = values.get(match[1], "")
        if value:
            parts += [literal, value]
            literal = ""
        elif not _SAYS_SOMETHING.search(literal):
            literal = ""
    tail = literal + template[at:]
    parts.append(tail if _SAYS_SOMETHING.search(tail) else tail.rstrip(" ,;:-–—/"))
    return " ".join("".join(parts).split()).strip(" ,;:-–—/")
