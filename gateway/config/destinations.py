"""Who answers: `[[destination]]` tables, and the short forms `sip:`, `tel:` and `local:` that routes may use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256

from gateway.config import handling, tables
from gateway.core import book, numbers

MAX_WEIGHT = 100

_ENDPOINT = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_LOCAL = re.compile(r"([A-Za-z0-9_.+-]{1,40})@([A-Za-z0-9_-]{1,79})")
_KINDS = {"sip": book.DestinationKind.ENDPOINT, "tel": book.DestinationKind.TEL, "local": book.DestinationKind.LOCAL}
_DIAL_FORMS = "sip:ENDPOINT, tel:+NUMBER or local:EXTENSION@CONTEXT"
_RESERVED_CONTEXT = "dialmark-"


class Destinations:
    """All destinations of a file: those declared, and those made from short forms as routes name them."""

    def __init__(
        self, trunks: Mapping[str, book.Trunk], agents: Mapping[str, book.Agent], contexts: frozenset[str]
    ) -> None:
        self._trunks = trunks
        self._contexts = contexts
        self._agents_by_endpoint = {agent.endpoint: agent.key for agent in agents.values() if agent.endpoint}
        self._agent_keys = frozenset(agents)
        self._by_dial: dict[tuple[str, str | None], str] = {}
        self.declared: frozenset[str] = frozenset()
        self.by_key: dict[str, book.Destination] = {}

    def declare(self, keys: frozenset[str]) -> None:
        """Make the keys of all `[[destination]]` tables known, also of those with errors, so that they can be named."""
        self.declared = keys

    def read(self, table: tables.Table, key: str, country: str, default_trunk: str | None) -> None:
        """Add the destination in `table`."""
        dial = table.required_text("dial")
        trunk = table.reference("trunk", self._trunks, "trunk") or default_trunk
        target = self._target(table, "dial", dial, country, trunk, None) if dial else None
        agent = table.reference("agent", self._agent_keys, "agent")
        name = table.text("name") or key
        caller_id = table.choice("caller_id", book.CallerIdPolicy, book.CallerIdPolicy.CALLER)
        label_source = bool(table.flag("label_source"))
        weight = table.whole("weight", 1, 1, MAX_WEIGHT)
        accept = handling.accept(table)
        table.refuse_unknown()
        if target is None:
            return
        kind, address = target
        is_tel = kind is book.DestinationKind.TEL
        if "trunk" in table.raw and not is_tel:
            table.wrong("trunk", "is only for destinations of the form tel:")
        if agent is None and kind is book.DestinationKind.ENDPOINT:
            agent = self._agents_by_endpoint.get(address)
        made = book.Destination(
            key,
            name,
            kind,
            address,
            trunk if is_tel else None,
            agent,
            caller_id,
            label_source,
            weight,
            self._dialled(kind, address, trunk),
            accept,
        )
        self.by_key[key] = made
        self._by_dial.setdefault((f"{kind}:{address}", made.trunk), key)

    def named(
        self, table: tables.Table, name: str, written: str, country: str, trunk: str | None, index: tables.Index = None
    ) -> str | None:
        """The key of what `written` names: a declared destination or a short form; None, and an error, if neither."""
        if written in self.declared:
            return written
        if written.partition(":")[0] not in _KINDS or ":" not in written:
            message = f"there is no destination '{tables.shown(written)}'"
            table.wrong(name, message, index=index, word=written, choices=sorted(self.declared))
            return None
        target = self._target(table, name, written, country, trunk, index)
        return None if target is None else self._made(*target, trunk)

    def _made(self, kind: book.DestinationKind, address: str, trunk: str | None) -> str:
        trunk = trunk if kind is book.DestinationKind.TEL else None
        dial = (f"{kind}:{address}", trunk)
        if dial not in self._by_dial:
            prefix = next(prefix for prefix, known in _KINDS.items() if known is kind)
            key = self._free(derived_key(f"{prefix}-{address}"), f"{address}@{trunk}")
            agent = self._agents_by_endpoint.get(address) if kind is book.DestinationKind.ENDPOINT else None
            self.by_key[key] = book.Destination(
                key,
                f"{prefix}:{address}",
                kind,
                address,
                trunk,
                agent,
                dialled=self._dialled(kind, address, trunk),
            )
            self._by_dial[dial] = key
        return self._by_dial[dial]

    def _dialled(self, kind: book.DestinationKind, address: str, trunk: str | None) -> str | None:
        """The number as the trunk wants it."""
        known = self._trunks.get(trunk or "")
        if kind is not book.DestinationKind.TEL or known is None:
            return None
        return numbers.as_dialled(address, known.country, known.number_form)

    def _free(self, key: str, origin: str) -> str:
        if key not in self.declared and key not in self.by_key:
            return key
        return f"{key[: book.MAX_KEY_LENGTH - 7]}-{sha256(origin.encode()).hexdigest()[:6]}"

    def _target(
        self, table: tables.Table, name: str, written: str, country: str, trunk: str | None, index: tables.Index
    ) -> tuple[book.DestinationKind, str] | None:
        prefix, colon, address = written.partition(":")
        kind = _KINDS.get(prefix) if colon else None
        match kind:
            case book.DestinationKind.ENDPOINT:
                return self._endpoint(table, name, address, index)
            case book.DestinationKind.TEL:
                return self._tel(table, name, address, country, trunk, index)
            case book.DestinationKind.LOCAL:
                return self._local(table, name, address, index)
        table.wrong(name, f"must be {_DIAL_FORMS}", index=index)
        return None

    def _endpoint(
        self, table: tables.Table, name: str, address: str, index: tables.Index
    ) -> tuple[book.DestinationKind, str] | None:
        if not _ENDPOINT.fullmatch(address):
            table.wrong(name, "the endpoint's name must be 1 to 64 of A-Z a-z 0-9 _ . + -", index=index)
            return None
        if address in self._trunks or address.removesuffix("-out") in self._trunks:
            table.wrong(name, f"'{address}' is a trunk; numbers behind it are written tel:+NUMBER", index=index)
            return None
        return book.DestinationKind.ENDPOINT, address

    def _tel(
        self, table: tables.Table, name: str, address: str, country: str, trunk: str | None, index: tables.Index
    ) -> tuple[book.DestinationKind, str] | None:
        number = table.valid_number(name, address, country, index)
        if trunk is None:
            table.wrong(name, "tel: needs a trunk, here or as outbound_trunk of the site", index=index)
        elif trunk in self._trunks and self._trunks[trunk].server is None:
            table.wrong(name, f"trunk '{trunk}' has no server, so nothing can be dialled through it", index=index)
        if number is None or trunk is None:
            return None
        return book.DestinationKind.TEL, number

    def _local(
        self, table: tables.Table, name: str, address: str, index: tables.Index
    ) -> tuple[book.DestinationKind, str] | None:
        match = _LOCAL.fullmatch(address)
        if match is None:
            table.wrong(name, "must be local:EXTENSION@CONTEXT, like local:600@from-internal", index=index)
            return None
        context = match[2]
        if is_reserved(context):
            table.wrong(
                name, f"context '{context}' is one of Dialmark's own; a call would run in a circle", index=index
            )
            return None
        if context not in self._contexts:
            message = f"context '{context}' is not in the list contexts of [local]"
            table.wrong(name, message, index=index, word=context, choices=sorted(self._contexts))
            return None
        return book.DestinationKind.LOCAL, address


def is_reserved(context: str) -> bool:
    """Whether a dialplan context belongs to Dialmark itself."""
    return context.lower().startswith(_RESERVED_CONTEXT)


def derived_key(text: str) -> str:
    """A key of the allowed shape made from `text`; a text too long is cut and told apart by six letters of its hash."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"
    if len(plain) <= book.MAX_KEY_LENGTH:
        return plain
    return f"{plain[: book.MAX_KEY_LENGTH - 7]}-{sha256(text.encode()).hexdigest()[:6]}"
