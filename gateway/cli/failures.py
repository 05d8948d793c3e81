"""How a command ends other than well.

Failure      a problem was found or the command could not do its work: one line on stderr, exit 1
Misuse       the command was asked for something that does not exist: one line on stderr, exit 2
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_PROBLEM = 1
EXIT_USAGE = 2
EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h: systemd is told not to restart on it."""

EXIT_INTERRUPT = 130
EXIT_PIPE = 141
"""As shells report SIGINT and SIGPIPE."""


class Failure(Exception):
    """A message for the operator that says what to do. Never shown with a traceback."""

    exit_code = EXIT_PROBLEM


class Misuse(Failure):
    """Wrong arguments: nothing was tried."""

    exit_code = EXIT_USAGE
