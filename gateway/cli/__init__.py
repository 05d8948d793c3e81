"""The command line: parses arguments, calls the other layers, prints, exits."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 ok, 1 problem found, 2 usage, 78 bad configuration of `run`.

    Raises SystemExit, and nothing else that the operator's input could cause.
    """
    from gateway.cli import app, failures

    try:
        try:
            app.app(args=None if arguments is None else list(arguments), prog_name="dialmark")
        finally:
            sys.stdout.flush()
    except failures.Failure as failure:
        print(f"dialmark: {failure}", file=sys.stderr)
        sys.exit(failure.exit_code)
    except BrokenPipeError:
        _leave_pipe()
        sys.exit(failures.EXIT_PIPE)
    except KeyboardInterrupt:
        sys.exit(failures.EXIT_INTERRUPT)


def _leave_pipe() -> None:
    """Whoever read our output has gone (`| head`): nothing is left to flush at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
