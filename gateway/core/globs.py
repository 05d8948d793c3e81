"""Patterns with `*` for any text, as operators write them. Case does not matter; no text makes matching slow."""

from __future__ import annotations


def matches(pattern: str, text: str) -> bool:
    """Whether the whole of `text` fits `pattern`."""
    pieces, text = pattern.casefold().split("*"), text.casefold()
    if len(pieces) == 1:
        return text == pieces[0]
    first, *middle, last = pieces
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    place, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, place, end)
        if found < 0:
            return False
        place = found + len(piece)
    return True


def can_both_match(one: str, other: str) -> bool:
    """Whether there is a text that fits both patterns."""
    one, other = one.casefold(), other.casefold()
    # row[j]: the rest of `one` from i and the rest of `other` from j have a text in common.
    row = _last_row(other)
    for letter in reversed(one):
        below, row = row, [False] * (len(other) + 1)
        row[len(other)] = letter == "*" and below[len(other)]
        for j in range(len(other) - 1, -1, -1):
            # A star stands for nothing, or for one more letter or star of the other.
            either = letter == "*" or other[j] == "*"
            row[j] = (below[j] or row[j + 1]) if either else (letter == other[j] and below[j + 1])
    return row[0]


def covers(wide: str, narrow: str) -> bool:
    """Whether every text that fits `narrow` fits `wide`. Says False where it would have to think hard."""
    # What takes in a letter that it does not know takes in anything.
    return matches(wide, narrow.replace("*", "\0"))


def _last_row(other: str) -> list[bool]:
    stars = len(other) - len(other.rstrip("*"))
    return [len(other) - j <= stars for j in range(len(other) + 1)]
