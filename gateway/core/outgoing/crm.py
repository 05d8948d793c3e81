"""Calls in a CRM (R41, R61, R115, R116): find the caller, make a lead of an unknown one, log the call, pop the card.

What all CRMs have in common is here; what one of them wants is in its own module, behind `Crm`. Ids that an attempt
learns go into `known` at once and are kept also when the attempt fails, and each CRM looks for its call before it
creates one again: a retry doubles nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.core import numbers
from gateway.core.outcomes import Outcome
from gateway.core.outgoing import adapters, dispositions, talks, told
from gateway.core.outgoing.adapters import RECORDED, RINGING, Attempt, Handed, Settled

CALL, CONTACT, HALF = "call", "contact", "half"
"""Keys of `known`: the CRM's id of the call, the contact as JSON, and the id of what `create_lead` made first."""
MAX_ATTRIBUTE = 200
MAX_ATTRIBUTES = 20
"""Characters of an attribute of a caller, and so many are asked for."""
MAX_LINE = 1_000
"""Characters of one line that people read in the CRM."""
BEGUN = "?"
"""`HALF` while the answer that has the id is not there: who is found then has been made."""


@dataclass(frozen=True, slots=True)
class Contact:
    """The caller in the CRM. `entity` is the CRM's own word: contact, lead, company."""

    entity: str
    id: str
    name: str | None = None
    owner: str | None = None
    """The user who looks after them."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Fields that were asked for (R89)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a CRM is given; the same for all."""

    leads: bool = True
    """Unknown callers become leads."""
    cards: bool = True
    """The CRM is asked who calls while it rings."""
    profile: Mapping[str, str] = field(default_factory=dict)
    """Our name of an attribute by the CRM's field: `{"UF_CRM_AGE": "age"}`. Empty: none is fetched."""
    users: Mapping[str, str] = field(default_factory=dict)
    """The CRM's user by our agent's key."""
    default_user: str | None = None
    """Owner of calls that nobody of `users` took."""
    link: str = ""
    """Address of our page of a call with `{call_id}`; asks for a login."""
    audio_base: str = ""
    """Put before a recording's path."""

    def user_of(self, call: told.Call) -> str | None:
        """Whose call it was."""
        return self.users.get(call.agent or "", self.default_user)

    def link_of(self, call: told.Call) -> str | None:
        """Where the call is to be seen and heard."""
        return self.link.format(call_id=call.call_id) if self.link else None


@dataclass(frozen=True, slots=True)
class Task:
    """A call to be put into a CRM."""

    call: told.Call
    number: str
    """The other side, E.164."""
    policy: Policy
    is_retry: bool
    """An earlier attempt may have created something."""
    visitor: told.Visitor | None = None
    """Who called, if they are known from the web site and have agreed to it (R116)."""

    @property
    def disposition(self) -> dispositions.Disposition:
        return dispositions.of(self.call.outcome)

    @property
    def makes_leads(self) -> bool:
        """Unknown callers become leads; those whom we call, banned ones and spam do not."""
        call = self.call
        return self.policy.leads and call.is_inbound and call.outcome is not Outcome.BANNED and not call.is_spam

    @property
    def user(self) -> str | None:
        return self.policy.user_of(self.call)


class Crm(Protocol):
    """One CRM with one account. Every method may raise `talks.Refused`."""

    kind: str
    base_url: str
    per_second: float
    token_style: talks.TokenStyle
    logs_banned: bool
    """Whether calls of banned callers are put there (integrations.md 4.0)."""

    def find(self, number: str, fields: Collection[str]) -> talks.Talk[Contact | None]:
        """Whose number it is, with these fields of theirs as `attributes`."""
        ...

    def ring(self, task: Task, contact: Contact | None, known: dict[str, str]) -> talks.Talk[None]:
        """The call rings: show the caller's card, where the CRM can."""
        ...

    def create_lead(self, task: Task, known: dict[str, str]) -> talks.Talk[Contact]:
        """A lead of somebody whom `find` did not find; one that an earlier attempt made is taken."""
        ...

    def log(self, task: Task, contact: Contact | None, known: dict[str, str]) -> talks.Talk[str | None]:
        """Logs the finished call; its id there. One that an earlier attempt logged is taken. None: it logs calls of
        known callers only."""
        ...

    def attach(self, external_id: str, url: str) -> talks.Talk[None]:
        """Adds the address of a recording to a logged call."""
        ...


class CrmService:
    """A `Crm` as the post wants it."""

    needs_visitor = True

    def __init__(self, crm: Crm, policy: Policy) -> None:
        self._crm = crm
        self._policy = policy
        self.kind = crm.kind
        self.base_url = crm.base_url
        self.per_second = crm.per_second
        self.token_style = crm.token_style
        self.wants = adapters.CLOSING | {RECORDED} | ({RINGING} if policy.cards else frozenset())

    def person_of(self, event: Handed) -> str | None:
        """Number of whom the call is with: of several calls with one person only one is told at a time."""
        try:
            call = told.call(event.data)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        return call.caller_number if call.is_inbound else call.tracking_number

    def tell(self, event: Handed, attempt: Attempt) -> talks.Talk[Settled]:
        """Hands over one event; what was learned before a refusal is kept."""
        known = dict(attempt.known)
        try:
            settled = yield from self._told(event, attempt, known)
        except talks.Refused as refused:
            return adapters.failed(refused, attempt.now_us, known=known)
        return settled

    def _told(self, event: Handed, attempt: Attempt, known: dict[str, str]) -> talks.Talk[Settled]:
        if event.type == RECORDED:
            return (yield from self._attached(event, known))
        call = told.call(event.data)
        number = call.caller_number if call.is_inbound else call.tracking_number
        if number is None:
            return adapters.skipped("the caller hid the number")
        task = Task(call, number, self._policy, attempt.is_unsure or attempt.number > 1, attempt.visitor)
        if event.type == RINGING:
            return (yield from self._rung(task, event, known))
        if CALL in known:
            return adapters.skipped("logged before")
        if call.outcome is Outcome.BANNED and not self._crm.logs_banned:
            return adapters.skipped("banned caller")
        contact = yield from self._contact(task, known)
        logged = yield from self._crm.log(task, contact, known)
        if logged is None:
            return adapters.skipped("nobody has the number, and no lead is made")
        known[CALL] = logged
        return adapters.done(known[CALL], known=known)

    def _contact(self, task: Task, known: dict[str, str]) -> talks.Talk[Contact | None]:
        if CONTACT in known:
            return contact_of(known[CONTACT])
        contact = tidy((yield from self._crm.find(task.number, ())))
        if contact is not None and known.get(HALF) == BEGUN:
            known[HALF] = contact.id
        is_half = contact is not None and contact.id == known.get(HALF)
        if (contact is None or is_half) and task.makes_leads:
            contact = tidy((yield from self._crm.create_lead(task, known)))
        if contact is not None:
            known[CONTACT] = text_of(contact)
        return contact

    def _rung(self, task: Task, event: Handed, known: dict[str, str]) -> talks.Talk[Settled]:
        if event.late:
            return adapters.skipped("found late: no screen is popped")
        if not task.call.is_inbound:
            return adapters.skipped("outbound")
        contact = tidy((yield from self._crm.find(task.number, tuple(self._policy.profile))))
        if contact is not None:
            known[CONTACT] = text_of(contact)
        yield from self._crm.ring(task, contact, known)
        return Settled(adapters.State.DONE, known=known, card=card(task, contact))

    def _attached(self, event: Handed, known: dict[str, str]) -> talks.Talk[Settled]:
        if CALL not in known:
            return adapters.skipped("its call is not in the CRM")
        recording_id = str(event.data["recording_id"])
        if known.get("recording") == recording_id:
            return adapters.skipped("attached before")
        if not self._policy.audio_base:
            return adapters.skipped("no `audio_base`: the CRM could not reach the recording")
        yield from self._crm.attach(known[CALL], self._policy.audio_base + str(event.data["audio_url"]))
        known["recording"] = recording_id
        return adapters.done(known[CALL], known=known)


def tidy(contact: Contact | None) -> Contact | None:
    """Who a CRM says it is, as far as it is told on: what is in a CRM was written by anybody. Each text is one line of
    bounded length; what is no text, number or list of them is none."""
    if contact is None:
        return None
    return Contact(
        entity=word(contact.entity) or "",
        id=word(contact.id) or "",
        name=word(contact.name),
        owner=word(contact.owner),
        attributes=words(contact.attributes, contact.attributes),
    )


def card(task: Task, contact: Contact | None) -> dict[str, Any]:
    """The caller's card for whoever takes the call. Attributes by our names; none but those of `Policy.profile`."""
    call = task.call
    names = task.policy.profile
    profile = {names[key]: value for key, value in contact.attributes.items() if key in names} if contact else {}
    return {
        "caller": {
            "number": task.number,
            "name": contact.name if contact else call.caller_name,
            "known": contact is not None,
            "entity": contact.entity if contact else None,
            "crm_id": contact.id if contact else None,
            "owner": contact.owner if contact else None,
            "first_time": call.first_time,
            "profile": profile,
        },
        "source": call.source_name or call.source,
        "campaign": call.campaign,
    }


def text_of(contact: Contact) -> str:
    """For `known`. Attributes are not kept: they belong to the CRM."""
    return json.dumps([contact.entity, contact.id, contact.name, contact.owner], ensure_ascii=False)


def contact_of(text: str) -> Contact:
    """Back from `text_of`."""
    entity, id_, name, owner = json.loads(text)
    return Contact(entity, id_, name, owner)


def object_id(text: str) -> str:
    """The id in a value of `known`: that of a contact, else the value itself."""
    if not text.startswith("["):
        return text
    try:
        return contact_of(text).id
    except (ValueError, TypeError):
        return text


def subject(task: Task) -> str:
    """`Inbound call +7…: no answer`."""
    direction = "Inbound" if task.call.is_inbound else "Outbound"
    outcome = (task.call.outcome or Outcome.FAILED).value.replace("_", " ")
    return f"{direction} call {task.number}: {outcome}"


def lines(task: Task) -> list[str]:
    """What people read in the CRM: where the call came from, who took it, how long it was, where to hear it (R41), what
    rules and people made of it (R61), who the visitor is to web analytics (R116). Each is one line, whatever was sent.
    """
    call = task.call
    found: list[tuple[str, object]] = [
        ("Channel", call.channel),
        ("Source", call.source_name or call.source),
        ("Campaign", call.campaign),
        ("Search phrase", call.term),
        ("Landing page", call.landing_page),
        ("Number called", call.tracking_label or call.tracking_number),
        ("Caller", None if call.first_time is None else "new" if call.first_time else "regular"),
        ("Agent", call.agent),
        ("Waited, seconds", call.wait_seconds),
        ("Talked, seconds", call.talk_seconds),
        ("Recorded" if call.is_recorded else "Call", task.policy.link_of(call)),
        *_judged(call),
        *_client_ids(task.visitor),
        ("Call id", call.call_id),
    ]
    return [f"{name}: {one_line(value)}" for name, value in found if value is not None]


def _judged(call: told.Call) -> list[tuple[str, object]]:
    """What the rules, a key, or people said of the call."""
    said, rules = call.said, call.rules
    by_rules = rules.qualified if rules is not None else None
    qualified = said.qualified if said is not None and said.qualified is not None else by_rules
    reached = said.goal_reached if said is not None and said.goal_reached is not None else call.keyed_goal
    words = {True: "yes", False: "no"}
    return [
        ("Score", rules.score if rules is not None else None),
        ("Qualified", words[qualified] if qualified is not None else None),
        ("Goal reached", words[reached] if reached is not None else None),
        ("Spam", "yes" if call.is_spam else None),
        ("Tags", ", ".join(call.tags) or None),
        ("Note", said.note if said is not None else None),
    ]


def _client_ids(visitor: told.Visitor | None) -> list[tuple[str, object]]:
    if visitor is None:
        return []
    return [("Client id of Google Analytics", visitor.ga_client_id), ("Client id of Metrica", visitor.ym_client_id)]


def one_line(value: object, most: int = MAX_LINE) -> str:
    """A text of others in one line: no line breaks, nothing that cannot be printed, no more than `most` characters."""
    text = " ".join(str(value).split())
    return "".join(char if char.isprintable() else "\ufffd" for char in text)[:most]


def same_number(written: object, number: str) -> bool:
    """Whether a CRM's number, as people write them, is `number` (E.164): with the country code, or with nothing or the
    country's own prefix before the national number."""
    text = str(written).strip()
    digits = "".join(char for char in text if char.isdecimal())
    wanted = number.lstrip("+")
    if digits.lstrip("0") == wanted:
        return True
    national = numbers.national_digits(number)
    if text.startswith("+") or not digits.endswith(national):
        return False
    prefixes = numbers.national_prefixes(numbers.country_of(number) or "")
    return digits.removesuffix(national) in ("", prefixes.trunk_prefix if prefixes is not None else "")


def words(attributes: Mapping[str, Any], fields: Collection[str]) -> dict[str, str]:
    """Those of `fields` that have a value, as text."""
    return {name: said for name in fields if (said := word(attributes.get(name))) is not None}


def word(value: object) -> str | None:
    """A value of a CRM as one short line; None for nothing, and for what is no text, number, yes or no, or a list of
    them."""
    if isinstance(value, list):
        value = ", ".join(said for one in value[:MAX_ATTRIBUTES] if not isinstance(one, list) and (said := word(one)))
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    if not isinstance(value, str | int | float):
        return None
    return one_line(value, MAX_ATTRIBUTE) or None
