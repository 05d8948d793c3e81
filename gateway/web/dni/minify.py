"""A small minifier for our own scripts: comments and spaces go, names that the script declares become short.

No parser: it leans on how our sources are written, and refuses what it cannot tell apart (`Unclear`). The whole is one
function in parentheses; statements end with `;`, blocks have braces, parameters parentheses; there are no template
literals and no shorthand properties. Properties keep their names, but for those that end with `_`, which are ours. The
same source always gives the same result.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, count

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<word>[A-Za-z_$][\w$]*)
    |(?P<number>\d[\w.]*)
    |(?P<pattern>/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*)
    |(?P<sign>=>|===|!==|\.\.\.|&&|\|\||\+\+|--|[-+*/]=|[=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_WORD_END = re.compile(r"[\w$]$")
_DECLARES = ("const", "let", "var", "function")
# Those that scripts are full of anyway come first: they cost least when compressed.
_LETTERS = "etnriosalcdpufmhgbvkwyxjqzETNRIOSALCDPUFMHGBVKWYXJQZ"
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
        as async await break case catch class const continue debugger default delete do else enum export extends
        false finally for from function get if import in instanceof let new null of return set static super
        switch this throw true try typeof undefined var void while with yield
        """,
    )
)

_BODY = 2
"""Brackets around the body of the one function: `((config) => {`."""

Token = tuple[str, str]


class Unclear(ValueError):
    """The source is not written as this minifier needs it."""


def minify(source: str) -> str:
    """The script in as few characters as this can do. Raises `Unclear`."""
    tokens = list(_tokens(source))
    words = _renamed(tokens)
    return _joined(_bared(_merged(["let" if word == "const" else word for word in words])))


def _tokens(source: str) -> Iterator[Token]:
    """What counts of the source. A `/` begins a pattern where no value can stand before it."""
    place, before = 0, ""
    while place < len(source):
        match = _TOKEN.match(source, place)
        assert match is not None and match.lastgroup is not None  # the last alternative takes anything
        kind, text = match.lastgroup, match[0]
        if kind == "pattern" and (before in (")", "]", "}") or (_WORD_END.search(before) and before != "return")):
            kind, text = "sign", "/"
        if text == "`":
            raise Unclear("a template literal")
        place += len(text)
        if kind not in ("space", "comment"):
            before = text
            yield kind, text


def _is_name(tokens: list[Token], place: int) -> bool:
    """Whether a word is the name of a variable, not of a property."""
    kind, _ = tokens[place]
    before = tokens[place - 1][1] if place else ""
    after = tokens[place + 1][1] if place + 1 < len(tokens) else ""
    return kind == "word" and before not in (".", "?.") and not (after == ":" and before in ("{", ","))


def _renamed(tokens: list[Token]) -> list[str]:
    """The words of the script with short names for what it declares and for its own properties.

    Within a statement of the script's body a name means one thing, and so does one declared in the body itself. The
    same letters serve in each statement, in the order in which they come up, which compresses well.
    """
    statements = _statements(tokens)
    everywhere, inside = _uses(tokens, statements)
    taken = {text for place, (_, text) in enumerate(tokens) if _is_name(tokens, place)} - everywhere.keys()
    taken = (taken - {name for uses in inside.values() for name in uses}) | _RESERVED
    letters = (name for name in _names() if name not in taken)
    first = [next(letters) for _ in range(max(map(len, inside.values()), default=0))]
    body = dict(zip(_by_use(everywhere), letters, strict=False))
    local = {number: dict(zip(uses, first, strict=False)) for number, uses in inside.items()}
    own = _short_properties(tokens)
    out = []
    for place, (_, text) in enumerate(tokens):
        if _is_name(tokens, place):
            out.append(body.get(text) or local.get(statements[place], {}).get(text, text))
        else:
            out.append(own.get(text, text))
    return out


def _statements(tokens: list[Token]) -> list[int]:
    """For each token the number of its statement in the body of the one function that the script is."""
    numbers, number, depth = [], 0, 0
    for _, text in tokens:
        depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
        number += text == ";" and depth == _BODY
        numbers.append(number)
    return numbers


def _uses(tokens: list[Token], statements: list[int]) -> tuple[Counter[str], dict[int, Counter[str]]]:
    """How often each declared name is used: those of the body, and for each statement those declared within it."""
    declared = _declared(tokens)
    depths = list(accumulate((text in ("(", "[", "{")) - (text in (")", "]", "}")) for _, text in tokens))
    body = {tokens[place][1] for place in declared if depths[place] <= _BODY and statements[place] == 0}
    body |= {tokens[place][1] for place in declared if depths[place] == _BODY}
    local: dict[int, set[str]] = {}
    for place in declared:
        local.setdefault(statements[place], set()).add(tokens[place][1])
    everywhere: Counter[str] = Counter()
    inside: dict[int, Counter[str]] = {}
    for place, (_, text) in enumerate(tokens):
        if not _is_name(tokens, place):
            continue
        if text in body:
            everywhere[text] += 1
        elif text in local.get(statements[place], ()):
            inside.setdefault(statements[place], Counter())[text] += 1
        else:
            continue
        _refuse_shorthand(tokens, place)
    return everywhere, inside


def _by_use(uses: Counter[str]) -> list[str]:
    """The most used first."""
    return sorted(uses, key=lambda name: (-uses[name], name))


def _declared(tokens: list[Token]) -> set[int]:
    """Places of the names after `const`, `let`, `function`, of parameters, and of what `catch` gives."""
    found: set[int] = set()
    texts = [text for _, text in tokens]
    for place, text in enumerate(texts):
        before = texts[place - 1] if place else ""
        if text in _DECLARES and before != ".":
            if tokens[place + 1][0] == "word":
                found.add(place + 1)
            elif text != "function":
                raise Unclear(f"{text} {texts[place + 1]}: one plain name at a time")
        if text in ("function", "catch") and before != ".":
            opening = texts.index("(", place)
            found |= _parameters(texts, opening + 1, texts.index(")", opening))
        if text == "=>":
            if before != ")":
                raise Unclear(f"{before} => without parentheses")
            found |= _parameters(texts, place - texts[:place][::-1].index("("), place - 1)
    return found


def _parameters(texts: list[str], begin: int, end: int) -> set[int]:
    inside = texts[begin:end]
    if any(word != "," and not re.fullmatch(r"[\w$]+", word) for word in inside):
        raise Unclear(f"parameters ({''.join(inside)})")
    return {place for place in range(begin, end) if texts[place] != ","}


def _refuse_shorthand(tokens: list[Token], place: int) -> None:
    before, after = (tokens[place + step][1] if 0 <= place + step < len(tokens) else "" for step in (-1, 1))
    if (before in ("{", ",") and after == "}") or (before == "{" and after == ","):
        raise Unclear(f"shorthand property {tokens[place][1]}")


def _short_properties(tokens: list[Token]) -> dict[str, str]:
    """A short name for each property that ends with `_`; none of them is anybody else's property in the script."""
    properties = {text for place, (kind, text) in enumerate(tokens) if kind == "word" and not _is_name(tokens, place)}
    own = sorted(name for name in properties if name.endswith("_"))
    names = (name for name in _names() if name not in properties)
    return {name: next(names) for name in own}


def _merged(words: list[str]) -> list[str]:
    """`let a=1;let b=2;` as `let a=1,b=2;`."""
    out: list[str] = []
    depth = 0
    lets: list[int] = []  # depths at which a `let` is being read
    for place, word in enumerate(words):
        if word in ("(", "[", "{"):
            depth += 1
        elif word in (")", "]", "}"):
            depth -= 1
        if word == "let" and out[-1:] == [","] and lets and lets[-1] == depth:
            continue
        if word == "let":
            lets.append(depth)
        if word == ";" and lets and lets[-1] == depth:
            if words[place + 1 : place + 2] == ["let"]:
                out.append(",")
                continue
            lets.pop()
        out.append(word)
    return out


def _names() -> Iterator[str]:
    for length in count(1):
        for number in range(len(_LETTERS) ** length):
            text = ""
            left = number
            for _ in range(length):
                left, digit = divmod(left, len(_LETTERS))
                text += _LETTERS[digit]
            yield text


def _bared(words: list[str]) -> list[str]:
    """`(a) => …` as `a => …`."""
    out = list(words)
    for place, word in enumerate(words):
        if word == "=>" and words[place - 3] == "(" and words[place - 2] != "(" and words[place - 1] == ")":
            out[place - 3] = out[place - 1] = ""
    return [word for word in out if word]


def _joined(words: list[str]) -> str:
    """The words with a space only where two would grow together; no `;` or `,` before a closing brace."""
    out = ""
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else ""
        if (word == ";" and after == "}") or (word == "," and after in ("}", ")", "]")):
            continue
        grows = bool(_WORD_END.search(out)) and bool(re.match(r"[\w$]", word))
        if grows or (out[-1:] in "+-" and word[:1] == out[-1:]):
            out += " "
        out += word
    return out
