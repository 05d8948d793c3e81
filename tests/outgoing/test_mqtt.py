"""Events over MQTT: a real Mosquitto, told apart by its acknowledgement; down, refusing, over TLS."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import psutil
import pytest

from gateway.core import receivers
from gateway.core.outgoing import adapters
from gateway.senders import mqtt
from tests.outgoing import receiver
from tests.rig import ports

State = adapters.State


class Mosquitto:
    """A broker of its own; `stop` and `start` as often as wanted."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = ports.free_port()
        self._config = folder / "mosquitto.conf"
        # As root it would become a user who cannot read pytest's folders; others do not ask for it.
        self._config.write_text("\n".join(["user root", f"listener {self.port} 127.0.0.1", *lines, ""]))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        assert program is not None, "no mosquitto: scripts/lib/setup test installs it"
        self._process = await asyncio.create_subprocess_exec(
            program, "-c", str(self._config), stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                return

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@asynccontextmanager
async def running(folder: Path, *lines: str) -> AsyncIterator[Mosquitto]:
    made = Mosquitto(folder, *(lines or ("allow_anonymous true",)))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def sender(broker: Mosquitto, secret: str = "", **changes: object) -> AsyncIterator[mqtt.Broker]:
    described = receivers.Broker(
        "bus",
        "127.0.0.1",
        broker.port,
        "house/calls",
        **{"timeout_seconds": 5, **changes},  # type: ignore[arg-type]  # as said
    )
    made = mqtt.Broker(described, lambda _: secret)
    try:
        yield made
    finally:
        await made.close()


def handed(number: int) -> adapters.Handed:
    return adapters.Handed(f"event-{number}", "call.missed", 1, {}, payload=json.dumps({"id": f"event-{number}"}))


async def send(made: mqtt.Broker, number: int = 1) -> adapters.Settled:
    return await made.deliver(handed(number), adapters.Attempt(now_us=1))


async def test_events_arrive_in_order_with_id_and_type(tmp_path: Path) -> None:
    async with running(tmp_path) as broker, sender(broker) as made:
        reader = aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5)
        async with reader:
            await reader.subscribe("house/calls/#", qos=1)
            for number in range(20):
                assert (await send(made, number)).state is State.DONE
            found = []
            async for message in reader.messages:
                found.append(json.loads(message.payload)["id"])
                assert str(message.topic) == "house/calls/call.missed"
                assert message.properties is not None
                assert ("id", found[-1]) in vars(message.properties)["UserProperty"]
                if len(found) == 20:
                    break
        assert found == [f"event-{number}" for number in range(20)]


async def test_a_broker_that_is_down_and_comes_back(tmp_path: Path) -> None:
    """What was not acknowledged is not taken for delivered."""
    async with running(tmp_path) as broker, sender(broker) as made:
        assert (await send(made)).state is State.DONE
        await broker.stop()
        settled = await send(made)
        assert settled.state is State.FAILED
        assert settled.note
        await broker.start()
        # The cut is noticed with the next event at the latest; the one behind it arrives.
        states = [(await send(made)).state for _ in range(2)]
        assert states[-1] is State.DONE


def connections(broker: Mosquitto) -> set[int]:
    """Our ports of the connections to the broker that are up."""
    found = psutil.Process().net_connections("tcp")
    return {
        each.laddr.port
        for each in found
        if each.raddr and each.raddr.port == broker.port and each.status == "ESTABLISHED"
    }


@pytest.mark.real_time
async def test_what_failed_late_leaves_the_new_connection_alone(tmp_path: Path) -> None:
    """An event that waits for an acknowledgement of a broker that is gone; the next ones have connected anew."""
    async with running(tmp_path) as broker, sender(broker, timeout_seconds=2) as made:
        assert (await send(made)).state is State.DONE
        broker.freeze()
        late = asyncio.create_task(send(made, 2))
        await asyncio.wait([late], timeout=0.05)
        await broker.stop()
        await broker.start()
        async with asyncio.timeout(1.5):
            while (await send(made, 3)).state is not State.DONE:
                pass
        assert not late.done()
        anew = connections(broker)
        assert len(anew) == 1
        assert (await late).state is State.FAILED
        assert (await send(made, 4)).state is State.DONE
        assert connections(broker) == anew


async def test_a_broker_that_refuses_us(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    async with (
        running(tmp_path, "allow_anonymous false", f"password_file {tmp_path}/users") as broker,
        sender(broker, "wrong", username="dialmark", password="env:X") as made,
    ):
        settled = await send(made)
        assert settled.state is State.FAILED
        assert "not auth" in settled.note.lower()
        assert "wrong" not in settled.note + settled.request


async def test_tls_by_an_own_authority_only(tmp_path: Path) -> None:
    pem = receiver.certificate(tmp_path)
    lines = ("allow_anonymous true", f"certfile {pem}", f"keyfile {pem}")
    async with running(tmp_path, *lines) as broker:
        async with sender(broker, is_tls=True, ca_file=str(pem)) as made:
            assert (await send(made)).state is State.DONE
        async with sender(broker, is_tls=True) as made:
            assert (await send(made)).note.startswith("its certificate is not good")
        async with sender(broker) as made:
            assert (await send(made)).state is State.FAILED
