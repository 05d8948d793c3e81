"""A journal as Asterisk writes it, of as many calls as wanted: a recorded one with other ids and other times."""

from __future__ import annotations

import re
from uuid import NAMESPACE_OID, uuid5

from tests import journals

RECORDED = "answered_caller_ends"
_BASE = 1_795_300_070.540450
_TIME = re.compile(rb'(?m)^"(\d+\.\d+)"')
_ENDS = b'"BRIDGE_EXIT"'


def call_id(number: int) -> str:
    return str(uuid5(NAMESPACE_OID, f"traffic {number}"))


def begin_and_end(number: int) -> tuple[bytes, bytes]:
    """Rows of call `number` up to the talk, and those of its end; times as recorded."""
    text = journals.content(RECORDED)
    text = text.replace(b"cd26aa4b-af9c-4531-94bb-6d1f118dd859", call_id(number).encode())
    # Asterisk counts its channels: a number that comes again would be taken for a restart.
    text = text.replace(b"1795300070.3", b"1795300070.#%d" % (2 * number + 3))
    text = text.replace(b"1795300070.2", b"1795300070.%d" % (2 * number + 2)).replace(b".#", b".")
    text = text.replace(b"-00000002", b"-%08x" % (2 * number)).replace(b"-00000003", b"-%08x" % (2 * number + 1))
    lines = text.splitlines(keepends=True)
    first = next(place for place, line in enumerate(lines) if _ENDS in line)
    return b"".join(lines[:first]), b"".join(lines[first:])


def at(rows: bytes, last_seconds: float) -> bytes:
    """The rows with their times moved so that the last is then, in seconds since the epoch."""
    times = [float(found) for found in _TIME.findall(rows)]
    shift = last_seconds - max(times)
    return _TIME.sub(lambda found: b'"%.6f"' % (float(found[1]) + shift), rows)
