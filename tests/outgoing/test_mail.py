"""Alarms by mail: a server on loopback that keeps what it got, over TLS with a password, and one that refuses."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope

from gateway.core.outgoing import adapters
from gateway.senders import mail
from tests.outgoing import receiver
from tests.rig import ports

State = adapters.State


class Box:
    """What a mail server got."""

    def __init__(self, refuse: str = "") -> None:
        self.got: list[Envelope] = []
        self._refuse = refuse

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        del server, session
        if self._refuse:
            return self._refuse
        self.got.append(envelope)
        return "250 OK"

    def message(self, which: int = -1) -> EmailMessage:
        content = self.got[which].content
        assert isinstance(content, bytes)
        parsed = message_from_bytes(content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


def knows(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    del server, session, envelope, mechanism
    return AuthResult(success=(data.login, data.password) == (b"dialmark", b"right"), handled=False)


@asynccontextmanager
async def running(box: Box, port: int = 0, **options: Any) -> AsyncIterator[int]:
    port = port or ports.free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def handed(**data: object) -> adapters.Handed:
    body = {"kind": "ami-down", "message": "main: AMI is down", "state": "raised", "severity": "critical", **data}
    return adapters.Handed("0a57c6d4-9a0e", "system.alert", 1_790_000_000_000_000, body, payload=json.dumps(body))


async def send(port: int, password: str = "", **changes: Any) -> adapters.Settled:
    facts = {"security": "none", "sender": "dialmark@clinic.example", "to": ("it@clinic.example", "b@clinic.example")}
    server = mail.Server("127.0.0.1", port, **{**facts, **changes})
    return await mail.Mail(server, lambda: password).deliver(handed(), adapters.Attempt(now_us=1))


async def test_a_mail_for_an_alarm() -> None:
    box = Box()
    async with running(box) as port:
        assert (await send(port)).state is State.DONE
    envelope = box.got[0]
    assert (envelope.mail_from, envelope.rcpt_tos) == (
        "dialmark@clinic.example",
        ["it@clinic.example", "b@clinic.example"],
    )
    assert box.message()["Subject"] == "[Dialmark] main: AMI is down"
    assert box.message()["Message-ID"] == "<0a57c6d4-9a0e@dialmark>"
    assert "Severity: critical" in box.message().get_content()


async def test_a_message_adds_no_header() -> None:
    box = Box()
    async with running(box) as port:
        server = mail.Server("127.0.0.1", port, "none", "dialmark@clinic.example", ("it@clinic.example",))
        hostile = handed(message="a\r\nBcc: everybody@example.com\r\n\r\nbody\x00" + "ü" * 500)
        settled = await mail.Mail(server, str).deliver(hostile, adapters.Attempt(now_us=1))
        assert settled.state is State.DONE
    assert box.message()["Bcc"] is None
    assert box.got[0].rcpt_tos == ["it@clinic.example"]


async def test_tls_and_a_password(tmp_path: Path) -> None:
    pem = receiver.certificate(tmp_path)
    context: ssl.SSLContext = receiver.server_context(pem)
    box = Box()
    async with running(
        box, tls_context=context, require_starttls=True, authenticator=knows, auth_required=True
    ) as port:
        facts = {"security": "starttls", "username": "dialmark", "ca_file": str(pem)}
        assert (await send(port, "right", **facts)).state is State.DONE
        settled = await send(port, "wrong", **facts)
        assert settled.note == "the server does not take our password"
        assert "wrong" not in settled.request + settled.response
        assert (await send(port, "right", **{**facts, "ca_file": None})).state is State.FAILED
        assert (await send(port)).note == "answered 530"
    assert len(box.got) == 1


async def test_a_server_that_is_down_or_refuses() -> None:
    box = Box("451 try again later")
    async with running(box) as port:
        assert (await send(port)).note == "answered 451"
    assert (await send(port)).note.startswith("not reached")
