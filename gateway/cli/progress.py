"""How far long work is, on stderr: one line that changes at a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time

QUIET_SECONDS = 1.0
"""Work that is done sooner says nothing."""
TERMINAL_SECONDS = 0.2
PIPED_SECONDS = 10.0


class Progress:
    """`tell` as often as wanted; `end` when the work is over, however it ended."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._next = time.monotonic() + (QUIET_SECONDS if self._is_terminal else PIPED_SECONDS)
        self._width = 0

    def tell(self, text: str) -> None:
        """Say this, unless something was said a moment ago."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._is_terminal:
            print(f"\r{text.ljust(self._width)}", end="", file=sys.stderr, flush=True)
            self._width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)
        self._next = now + (TERMINAL_SECONDS if self._is_terminal else PIPED_SECONDS)

    def end(self) -> None:
        """Clear the terminal's line."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0
