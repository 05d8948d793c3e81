"""Where a list goes on: a time and an id as text that needs no escaping in an address."""

from __future__ import annotations

import base64
import binascii
import re

from gateway.web import problems


def encode(at_us: int, key: str) -> str:
    """The text of a place in a list."""
    return base64.urlsafe_b64encode(f"{at_us}:{key}".encode()).decode().rstrip("=")


def decode(text: str, form: re.Pattern[str]) -> tuple[int, str]:
    """The place of `encode`; `form` has groups for both parts. Raises Problem `invalid-query` for anything else."""
    padded = text + "=" * (-len(text) % 4)
    try:
        decoded = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        decoded = ""
    found = form.fullmatch(decoded)
    if found is None:
        raise problems.Problem("invalid-query", errors=[{"field": "after", "message": "not a cursor of this API"}])
    return int(found[1]), found[2]
