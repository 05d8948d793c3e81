"""`dialmark COMMAND` without the second that importing takes: forked from an interpreter that has imported all of it.

    interpreter = Interpreter()
    daemon = interpreter.start(["--config", file, "run"], environment, stdout, stderr)
    daemon.wait(20)

What it makes are processes of their own, with their own arguments, environment, output, signals and exit code, that
die with the one that asked for them. Tests of starting itself begin a new interpreter (tests/cli/test_service.py,
tests/daemon, the demo).

    this process ── request: arguments, environment, files, a socket ──▶ interpreter ─fork─▶ waiter ─fork─▶ command
         ◀──────────────────── the socket: process id, then exit code ────────────────────────┘
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 1 << 18
"""Bytes of a request."""
START_SECONDS = 90
PR_SET_PDEATHSIG = 1
NOT_IMPORTED = ("__main__", "migrations.env")
LATE = ("alembic.command", "sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.postgresql.psycopg")
"""What our modules' libraries import when they are used."""


class Process:
    """A command under way, to be used as a `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], wire: socket.socket) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self._wire = wire
        self._lock = threading.Lock()
        wire.settimeout(START_SECONDS)
        self.pid = int(wire.recv(100))
        wire.setblocking(False)

    def poll(self) -> int | None:
        """Its exit code; ``None`` while it runs, less than 0 for the signal that ended it."""
        with self._lock:
            if self.returncode is None:
                try:
                    # Nothing: its waiter was killed too.
                    self.returncode = int(self._wire.recv(100) or -signal.SIGKILL)
                    self._wire.close()
                except BlockingIOError:
                    return None
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, waited for.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        if (code := self.poll()) is not None:
            return code
        waiting = select.poll()
        waiting.register(self._wire, select.POLLIN)
        waiting.poll(None if timeout is None else timeout * 1000)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing, when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Interpreter:
    """Starts with the first command, ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wire: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
    ) -> Process:
        """Begin ``dialmark ARGUMENTS`` in this process's folder; its standard input is empty."""
        with self._lock:
            wire = self._wire = self._wire or self._begun()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            request = json.dumps(
                {"arguments": list(arguments), "environment": dict(environment), "folder": str(Path.cwd())}
            )
            socket.send_fds(wire, [request.encode()], [theirs.fileno(), stdout.fileno(), stderr.fileno()])
        return Process(arguments, ours)

    def _begun(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST)
        with theirs:
            # It ends with the socket, and not with the thread that happens to ask first.
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        return ours


# -- the other side --------------------------------------------------------------------------------------------------


def serve(wire: socket.socket) -> None:
    """Fork a waiter for each request, until nobody is there to ask. Returns in a command, whose arguments are set."""
    import gateway

    found = [one.name for one in pkgutil.walk_packages(gateway.__path__, "gateway.")]
    for name in (*(one for one in found if not one.endswith(NOT_IMPORTED)), *LATE):
        importlib.import_module(name)
    if threading.active_count() != 1:
        raise RuntimeError(f"modules that start threads cannot be forked: {threading.enumerate()}")
    libc = ctypes.CDLL(None)
    # What is imported is never garbage, and is not to be copied because a collection looks at it.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, files, _, _ = socket.recv_fds(wire, LARGEST, 3)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            wire.close()
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if _waited(files[0]):
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                _dress(json.loads(request), files)
                return
        for file in files:
            os.close(file)


def _waited(reply: int) -> bool:
    """Fork once more: true in the command; the waiter tells of it and ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    command = os.fork()
    if command == 0:
        return True
    _tell(reply, command)
    _, status = os.waitpid(command, 0)
    _tell(reply, os.waitstatus_to_exitcode(status))
    os._exit(0)


def _tell(reply: int, number: int) -> None:
    try:
        os.write(reply, str(number).encode())
    except BrokenPipeError:
        os._exit(0)


def _dress(request: dict[str, object], files: Sequence[int]) -> None:
    """As if this process had been started for the command."""
    reply, stdout, stderr = files
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for file in (reply, stdout, stderr):
        os.close(file)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    environment, arguments = request["environment"], request["arguments"]
    assert isinstance(environment, dict) and isinstance(arguments, list)
    os.environ.update(environment)
    sys.argv = ["dialmark", *arguments]


def main() -> None:
    wire = socket.socket(fileno=int(sys.argv[1]))
    serve(wire)
    from gateway.cli import main as dialmark

    try:
        dialmark()
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        # As Python ends, but for taking a thousand modules apart: longer than most commands take.
        threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing's children do
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(ended.code & 0xFF)


if __name__ == "__main__":
    main()
