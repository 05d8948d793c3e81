"""A receiver of webhooks on loopback that checks every request and fails on order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import standardwebhooks
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.rig import ports

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + "b3RoZXItc2VjcmV0LW9mLXRoaXMtaG91c2UhIQ=="

Order = Callable[[web.Request], Any]
"""What to answer instead of 204: gives a response, or does worse."""


@dataclass
class Got:
    """One request that arrived."""

    id: str
    body: dict[str, Any]
    headers: dict[str, str]
    answered: int
    """0: no answer was given."""


@dataclass
class Receiver:
    """`orders` are taken one for a request, the first first; without one the answer is `default`."""

    port: int
    scheme: str = "http"
    secrets: tuple[str, ...] = (SECRET,)
    now_us: Callable[[], int] | None = None
    """The clock of who signs; None: the real one, and the signature's age is checked too."""
    max_age_seconds: float = 300
    """Of a signature, where the clock is the test's: it may run fast."""
    orders: list[Order] = field(default_factory=list)
    default: Order | None = None
    got: list[Got] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What was not as the contract says."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None
    _keeper: socket.socket = field(default_factory=socket.socket)

    def __post_init__(self) -> None:
        """Holds the port while nobody listens there: a stopped receiver must not be taken for another test's."""
        self._keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._keeper.bind(("127.0.0.1", self.port))

    def close(self) -> None:
        """Gives the port back."""
        self._keeper.close()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hooks"

    @property
    def taken(self) -> list[str]:
        """Ids that were answered with 2xx, in their order."""
        return [one.id for one in self.got if 200 <= one.answered < 300]

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Wait for something to have arrived."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.arrived.clear()
                await self.arrived.wait()

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        app = web.Application(client_max_size=10_000_000)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context, reuse_port=True)
        await site.start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self._check(request, raw)
        order = self.orders.pop(0) if self.orders else self.default
        got = Got(request.headers.get("webhook-id", ""), json.loads(raw or b"{}"), dict(request.headers), 0)
        self.got.append(got)
        self.arrived.set()
        if order is None:
            got.answered = 204
            return web.Response(status=204)
        response = order(request)
        if asyncio.iscoroutine(response):
            response = await response
        got.answered = response.status
        self.arrived.set()
        assert isinstance(response, web.StreamResponse)
        return response

    def _check(self, request: web.Request, raw: bytes) -> None:
        """The contract of docs/webhooks.md and of Standard Webhooks, field by field."""
        headers = request.headers

        def must(holds: object, what: str) -> None:
            if not holds:
                self.wrong.append(what)

        must(request.method == "POST", f"method {request.method}")
        must(headers.get("Content-Type") == "application/json", "content type")
        must(headers.get("User-Agent") == "Dialmark", "user agent")
        must(int(headers.get("Content-Length", "0")) == len(raw), "length")
        body = json.loads(raw)
        must(headers.get("webhook-id") == body.get("id"), "the message's id is not the event's")
        must(set(body) <= {"id", "type", "timestamp", "late", "data"}, f"fields {set(body)}")
        must(body.get("type", "").replace(".", "").replace("_", "").isalnum(), "type")
        stamp = headers.get("webhook-timestamp", "")
        must(stamp.isdecimal(), "timestamp")
        signatures = headers.get("webhook-signature", "").split(" ")
        must(all(one.startswith("v1,") for one in signatures), "signatures")
        for secret in self.secrets:
            signer = standardwebhooks.Webhook(secret)
            moment = datetime.fromtimestamp(int(stamp), UTC)
            must(signer.sign(headers["webhook-id"], moment, raw.decode()) in signatures, "no good signature")
            if self.now_us is None:
                # The published verifier, which looks at the age too.
                with contextlib.suppress(Exception):
                    signer.verify(raw, dict(headers))
                    continue
                self.wrong.append("the verifier refuses it")
            else:
                must(abs(int(stamp) - self.now_us() / 1e6) < self.max_age_seconds, "age of the signature")


def status(code: int, **headers: str) -> Order:
    """Answer with this status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: web.Response(status=code, headers=named, text="receiver says")


def reset(request: web.Request) -> web.StreamResponse:
    """Cut the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=599)


def held(until: asyncio.Event) -> Order:
    """Answer when the event is set."""

    async def wait(_: web.Request) -> web.StreamResponse:
        await until.wait()
        return web.Response(status=204)

    return wait


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    context = options.pop("context", None)
    made = Receiver(ports.free_port(), scheme="https" if context else "http", **options)
    await made.start(context)
    try:
        yield made
    finally:
        await made.stop()
        made.close()


def certificate(folder: Path, name: str = "127.0.0.1") -> Path:
    """A self-signed certificate and its key in one file."""
    from datetime import timedelta
    from ipaddress import ip_address

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def server_context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
