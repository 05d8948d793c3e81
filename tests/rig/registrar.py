"""A carrier's registrar over UDP: challenges every REGISTER and INVITE with a digest and checks the answer itself.

What it accepts is computed here from the password (RFC 2617 with ``qop=auth``, RFC 3261 section 22), so a registration
that succeeds proves that Asterisk knew it.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import uuid
from dataclasses import dataclass, field

from tests.rig.ports import Address
from tests.rig.waits import wait_until

REALM = "carrier.invalid"


@dataclass
class Registrar:
    """Listens on ``place`` from :meth:`start` to :meth:`stop`, in a thread of its own.

    Attributes:
        contact: URI that registered; ``None`` before, and after an unregistration.
        refused: answers to a challenge that were wrong.
        dialled: user parts of INVITEs whose digest was right; each gets 486.
        busy: what a right INVITE is answered with.
    """

    place: Address
    username: str
    password: str
    busy: bytes = b"486 Busy Here"
    contact: str | None = None
    expires: int | None = None
    refused: int = 0
    dialled: list[str] = field(default_factory=list)
    _nonces: set[str] = field(default_factory=set)
    _socket: socket.socket | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(tuple(self.place))
        self._socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Be gone: the port is closed."""
        taken, self._socket = self._socket, None
        if taken is not None and self._thread is not None:
            self._thread.join()
            taken.close()

    def until_registered(self, seconds: float = 10.0) -> str:
        """The registered contact, waited for.

        Raises:
            TimeoutError: nobody registered.
        """
        wait_until(lambda: self.contact is not None, seconds, f"a registration with {self.place}")
        assert self.contact is not None
        return self.contact

    def _serve(self, taken: socket.socket) -> None:
        while self._socket is taken:
            try:
                data, source = taken.recvfrom(65_535)
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                # ICMP for an answer to somebody who is gone.
                continue
            method = data.split(b" ", 1)[0].decode(errors="replace")
            if method in ("REGISTER", "INVITE"):
                taken.sendto(self._answer(method, data), source)
            elif not data.startswith(b"SIP/2.0") and method != "ACK":
                taken.sendto(_response(data, b"200 OK"), source)

    def _answer(self, method: str, data: bytes) -> bytes:
        credentials = _header(data, "Authorization")
        if credentials is None:
            return self._challenge(data)
        if not self._is_right(method, credentials):
            self.refused += 1
            return _response(data, b"403 Forbidden")
        if method == "INVITE":
            self.dialled.append(data.split(b" ")[1].split(b":", 1)[1].split(b"@")[0].decode())
            return _response(data, self.busy)
        return self._register(data)

    def _challenge(self, data: bytes) -> bytes:
        nonce = uuid.uuid4().hex
        self._nonces.add(nonce)
        challenge = f'WWW-Authenticate: Digest realm="{REALM}",nonce="{nonce}",algorithm=MD5,qop="auth"'
        return _response(data, b"401 Unauthorized", challenge.encode())

    def _is_right(self, method: str, credentials: str) -> bool:
        given = {key: quoted or bare for key, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', credentials)}
        if given.get("nonce") not in self._nonces or given.get("username") != self.username:
            return False
        secret = _md5(f"{self.username}:{REALM}:{self.password}")
        asked = _md5(f"{method}:{given.get('uri')}")
        parts = (secret, given["nonce"], given.get("nc"), given.get("cnonce"), given.get("qop"), asked)
        return given.get("response") == _md5(":".join(str(part) for part in parts))

    def _register(self, data: bytes) -> bytes:
        contact = _header(data, "Contact") or ""
        found = re.search(r"<(sip:[^>]+)>", contact)
        expires = re.search(r"expires=(\d+)", contact) or re.match(r"(\d+)", _header(data, "Expires") or "")
        self.expires = int(expires[1]) if expires else None
        self.contact = found[1] if found and self.expires != 0 else None
        return _response(data, b"200 OK", f"Contact: {contact}".encode())


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def _header(data: bytes, name: str) -> str | None:
    head = data.split(b"\r\n\r\n", 1)[0].decode(errors="replace")
    found = re.search(rf"(?im)^{name}\s*:\s*(.*?)\s*$", head)
    return found[1] if found else None


def _response(data: bytes, status: bytes, *more: bytes) -> bytes:
    head = data.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]
    kept = [line for line in head if re.match(rb"(?i)(via|from|call-id|cseq)\s*:", line)]
    to = next((line for line in head if re.match(rb"(?i)to\s*:", line)), b"")
    if b";tag=" not in to:
        to += b";tag=registrar"
    return b"\r\n".join([b"SIP/2.0 " + status, *kept, to, *more, b"Content-Length: 0", b"", b""])
