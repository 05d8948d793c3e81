"""The peer of `calls`: what one writes in an afternoon with panoramisk, its FastAGI and its manager, storing nothing.

    python -m bench.peer_panoramisk AGI_PORT AMI_PORT USER SECRET

A question is answered with four SET VARIABLE, as its documentation shows; every manager event of every call is parsed
and handed to a handler that counts it. Prints READY when both ends work.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

from panoramisk import Manager, fast_agi

VARIABLES = {"PEER_DIAL": "PJSIP/desk-1", "PEER_RING": "20", "PEER_SOURCE": "google-ads", "PEER_OK": "1"}


async def answer(request: Any) -> None:
    for name, value in VARIABLES.items():
        await request.send_command(f'SET VARIABLE {name} "{value}"')


async def serve(agi_port: int, ami_port: int, user: str, secret: str) -> None:
    loop = asyncio.get_running_loop()
    seen: Counter[str] = Counter()
    application = fast_agi.Application(loop=loop)
    application.add_route("peer", answer)
    server = await asyncio.start_server(application.handler, "127.0.0.1", agi_port, backlog=1024)
    ready = asyncio.Event()
    manager = Manager(
        loop=loop,
        host="127.0.0.1",
        port=ami_port,
        username=user,
        secret=secret,
        on_login=lambda _: ready.set(),
    )

    def count(_: Any, event: Any) -> None:
        seen[event.event] += 1

    manager.register_event("*", count)
    manager.connect()
    await ready.wait()
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
