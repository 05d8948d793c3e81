"""The daemon: builds the parts, starts them in order, keeps them running, stops them in phases.

    settings ─▶ store, migrations ─▶ routing book ─▶ FastAGI ─▶ admin web ─▶ READY ─▶ catch-up with the journal ─▶ work

FastAGI answers as soon as there is a book: a caller must not wait for the journal. Router or tracker dying ends the
daemon, and systemd starts it anew; post and AMI wait their outside faults out and show them in `/readyz`.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack

from gateway import log, store, supervision
from gateway.config import settings
from gateway.core import regions
from gateway.daemon import wiring
from gateway.daemon.node import Reread

_log = log.get("daemon")

ROLES = frozenset({"calls", "web", "worker"})
LOOP_SECONDS = 5.0
"""A loop that hangs for so long is killed, so that callers fail open."""


async def run(chosen: settings.Settings, roles: frozenset[str] = ROLES, reread: Reread | None = None) -> int:
    """Run until SIGTERM; the exit status is 0 then, and 1 when a part ended by itself."""
    notifier = supervision.Notifier.from_environment(os.environ, os.getpid())
    async with AsyncExitStack() as stack:
        try:
            node = await wiring.start(chosen, roles, stack)
        except (store.StoreError, OSError, regions.BadRegions) as error:
            _log.error("cannot start", error=str(error))
            return 1
        supervision.spare_collector()
        stack.enter_context(supervision.LoopWatchdog(LOOP_SECONDS))
        asked = stack.enter_context(supervision.signals())
        roots = node.roots()
        roots["status line"] = lambda: node.report(notifier)
        roots["settings"] = lambda: node.follow_settings(asked.reload, reread, notifier)
        roots["systemd watchdog"] = lambda: supervision.beat(notifier, node.answers)
        notifier.ready(node.status())
        _log.info("READY", node=chosen.node.name, **node.addresses())
        try:
            await supervision.supervise(roots, until=asked.stop, phases=node.phases(notifier))
        except supervision.RootTaskEnded as ended:
            _log.error("the daemon ends", reason=str(ended))
            return 1
    _log.info("stopped")
    return 0
