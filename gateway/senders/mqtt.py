"""Events for a message broker, over MQTT with QoS 1: taken when the broker has acknowledged them.

Each event goes to `topic`/its type; its id travels as the user property `id`, and in the body. Any broker speaks MQTT:
Mosquitto, EMQX, RabbitMQ and NATS (docs/decisions).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.core import receivers
from gateway.core.outgoing import adapters
from gateway.senders import outside

QOS = 1
"""At least once; 2 would still not know what a crash of ours has sent."""

_SILENT = logging.getLogger("gateway.senders.mqtt.paho")
"""What goes wrong stands in the note of the delivery."""
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False

SecretOf = Callable[[str], str]


class Broker:
    """One broker as an adapter. Keeps a connection, and makes a new one when it is cut."""

    needs_visitor = False
    batching: adapters.Batching | None = None

    def __init__(self, receiver: receivers.Broker, secret_of: SecretOf) -> None:
        self.target = receiver.target
        self.wants = frozenset(receiver.events)
        self._receiver = receiver
        self._secret_of = secret_of
        self._client: aiomqtt.Client | None = None
        self._turn = asyncio.Lock()

    async def deliver(self, event: adapters.Handed, attempt: adapters.Attempt) -> adapters.Settled:
        """Publishes one event, and waits for the broker's acknowledgement."""
        chosen = self._receiver
        topic = f"{chosen.topic}/{event.type}"
        request = f"PUBLISH {topic} QoS {QOS} to {chosen.host}:{chosen.port}\n\n{event.payload}"
        if attempt.dry_run:
            return adapters.Settled(adapters.State.SKIPPED, "nothing was sent", request=request)
        client: aiomqtt.Client | None = None
        try:
            async with asyncio.timeout(chosen.timeout_seconds):
                client = await self._connected()
                await client.publish(topic, event.payload, qos=QOS, properties=_properties(event))
        except (aiomqtt.MqttError, OSError, ValueError, TimeoutError, outside.Refused) as error:
            await self._drop(client)
            return adapters.Settled(adapters.State.FAILED, _described(error), request=request)
        return adapters.Settled(adapters.State.DONE, request=request, response="PUBACK")

    async def deliver_many(
        self, events: Sequence[tuple[adapters.Handed, adapters.Attempt]]
    ) -> Sequence[adapters.Settled]:
        """One after the other."""
        return [await self.deliver(event, attempt) for event, attempt in events]

    async def close(self) -> None:
        """Says goodbye to the broker."""
        await self._drop(self._client)

    async def _connected(self) -> aiomqtt.Client:
        async with self._turn:
            if self._client is None:
                chosen = self._receiver
                context = outside.tls_context(chosen.ca_file) if chosen.is_tls else None
                if context is not None:
                    await _shake_hands(chosen, context)
                client = aiomqtt.Client(
                    chosen.host,
                    chosen.port,
                    username=chosen.username,
                    password=self._secret_of(chosen.password).strip() if chosen.password else None,
                    protocol=aiomqtt.ProtocolVersion.V5,
                    tls_context=context,
                    timeout=chosen.timeout_seconds,
                    logger=_SILENT,
                    # We remember what was not acknowledged: the broker need not.
                    clean_start=True,
                )
                await client.__aenter__()
                self._client = client
            return self._client

    async def _drop(self, client: aiomqtt.Client | None) -> None:
        # Another delivery that failed on it may have dropped it, and a third be under way on a new one.
        if client is None or client is not self._client:
            return
        self._client = None
        with suppress(aiomqtt.MqttError, OSError):
            await client.__aexit__(None, None, None)


async def _shake_hands(chosen: receivers.Broker, context: ssl.SSLContext) -> None:
    """paho does not close its socket when a handshake fails, and does not say why it did: so one of ours goes first."""
    _, writer = await asyncio.open_connection(chosen.host, chosen.port, ssl=context)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _properties(event: adapters.Handed) -> Properties:
    made = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has types elsewhere only
    made.ContentType = "application/json"
    made.UserProperty = [("id", event.event_id), ("type", event.type)]
    return made


def _described(error: BaseException) -> str:
    match error:
        case TimeoutError():
            return "no answer in time"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not good: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason}"
        case aiomqtt.MqttCodeError():
            return f"refused: {error}"
        case outside.Refused() | ValueError():
            return str(error)
    return f"not reached: {error}"
