"""What an external command says about a recording (R120): a JSON object, taken from a stranger and made harmless.

It is stored, shown in pages and sent on, so what would break any of these is refused or replaced here.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_BYTES = 262_144
"""Of the command's whole output."""
MAX_DEPTH = 32
"""Objects and lists inside the outermost one."""


class BadAnalysis(ValueError):
    """The output is no usable analysis; the message says why, and repeats nothing of it."""


def parse(output: bytes) -> str:
    """The object as compact JSON text. NUL and lone surrogates, in keys and texts, become U+FFFD.

    Raises BadAnalysis: longer than `MAX_BYTES`, not UTF-8, not one JSON object, NaN or an infinite number, too deep.
    """
    if len(output) > MAX_BYTES:
        raise BadAnalysis(f"it printed more than {MAX_BYTES:,} bytes")
    try:
        found = json.loads(output.decode("utf-8"), parse_constant=_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise BadAnalysis("it did not print UTF-8") from None
    except RecursionError:
        raise BadAnalysis(f"its JSON is nested more than {MAX_DEPTH} deep") from None
    except BadAnalysis:
        raise
    except ValueError as error:
        # Not the message itself: one of a later Python may quote the text.
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise BadAnalysis(f"it did not print JSON{where}") from None
    if not isinstance(found, dict):
        raise BadAnalysis("it did not print a JSON object")
    return json.dumps(_clean(found, 0), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _constant(name: str) -> Any:
    raise BadAnalysis(f"its JSON has {name}, which is no number")


def _finite(written: str) -> float:
    number = float(written)
    if not math.isfinite(number):
        raise BadAnalysis("its JSON has a number too large")
    return number


def _clean(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise BadAnalysis(f"its JSON is nested more than {MAX_DEPTH} deep")
    match value:
        case str():
            return _text(value)
        case list():
            return [_clean(one, depth + 1) for one in value]
        case dict():
            return {_text(name): _clean(one, depth + 1) for name, one in value.items()}
    return value


def _text(value: str) -> str:
    if "\0" not in value and value.isascii():
        return value
    return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
