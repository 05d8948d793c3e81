"""The sections of `dialmark.toml`: every key with its type, default, unit and reason, and what a wrong value is told.

`gateway.config.settings` reads them from their sources; the example file and `docs/settings.md` are written from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from gateway.core import alarms, retention

DIALPLAN_SECONDS = 1.5
"""How long the dialplan waits for FastAGI before it takes the default plan."""


@dataclass(frozen=True, slots=True)
class SettingsError:
    """One thing that is wrong. `where` is the file with its line, the variable or the credential it came from."""

    where: str
    key: str
    """Dotted: `agi.port`."""
    message: str
    """Never holds the value of a secret."""
    suggestion: str | None = None

    def __str__(self) -> str:
        guess = f" Did you mean '{self.suggestion}'?" if self.suggestion else ""
        return (
            f"{self.where}: {self.key}: {self.message}.{guess}" if self.key else f"{self.where}: {self.message}.{guess}"
        )


class SettingsErrors(Exception):
    """The settings are refused; `errors` holds all of them, at least one."""

    def __init__(self, errors: list[SettingsError]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path: the daemon runs in no particular folder")
    return path


def _host(host: str) -> str:
    # A name would be looked up for every connection, and a slow DNS server would stop calls (asterisk.md, section 1).
    try:
        ip_address(host)
    except ValueError:
        raise ValueError("must be an IP address, not a name") from None
    return host


def _file_name(name: str) -> str:
    if not name or "/" in name or name.startswith("."):
        raise ValueError("must be a file name without folder")
    if "ballast".startswith(name):
        # What begins with the journal's name is read as journal.
        raise ValueError("must not be the beginning of `ballast`, a file of ours beside it")
    return name


def _database_url(url: str) -> str:
    scheme, found, rest = url.partition("://")
    match scheme.partition("+")[0] if found else "":
        case "sqlite":
            if not rest.startswith("//"):
                raise ValueError("needs an absolute path: sqlite:////var/lib/dialmark/dialmark.db")
            return f"sqlite+aiosqlite://{rest}"
        case "postgresql" | "postgres":
            return f"postgresql+psycopg://{rest}"
    raise ValueError("must begin with sqlite:/// or postgresql://")


def _within(longest: int) -> Callable[[Path], Path]:
    """Check of a folder that stands in the dialplan: a subset of `gateway.pbx.dialvars.SAFE_VALUE`."""

    def check(path: Path) -> Path:
        if not re.fullmatch(rf"/[A-Za-z0-9_./-]{{0,{longest - 1}}}", str(path)) or ".." in path.parts:
            raise ValueError(f"must be at most {longest} of A-Z a-z 0-9 _ . / -: it stands in the dialplan")
        return path

    return check


def _program(command: tuple[str, ...]) -> tuple[str, ...]:
    if command and not Path(command[0]).is_absolute():
        raise ValueError("must begin with the absolute path of a program: the daemon runs in no particular folder")
    return command


def listed(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _or_none(value: object) -> object:
    return None if value == "" else value


Whole = Annotated[int, Field(strict=True)]
Port = Annotated[int, Field(strict=True, ge=1, le=65_535)]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Folder = Annotated[Path, AfterValidator(_absolute)]
PromptFolder = Annotated[Folder, AfterValidator(_within(64))]
SpoolFolder = Annotated[Folder, AfterValidator(_within(128))]
"""Twice in the journal row of MixMonitor, which is cut at 1,023 bytes."""
OptionalFile = Annotated[Path | None, BeforeValidator(_or_none), AfterValidator(lambda path: path and _absolute(path))]
Voice = Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?=[A-Za-z0-9_.+-][A-Za-z0-9_./+-]{0,63}$")]
Address = Annotated[str, AfterValidator(_host)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{0,64}$")]
Network = IPv4Network | IPv6Network


class Section(BaseModel):
    """One table of the file. The docstring of each becomes its heading comment."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)


def secret_of(secret: SecretStr, file: Path | None, key: str) -> str:
    """The secret itself, else what its file holds. Raises `SettingsErrors` when the file cannot be read."""
    if secret.get_secret_value() or file is None:
        return secret.get_secret_value()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsErrors([SettingsError(str(file), key, f"cannot be read: {reason}")]) from None


class Node(Section):
    """This machine among those that share a database."""

    name: Word = Field("main", description="Name of this node in records, metrics and health; unique in the database.")


class Database(Section):
    """Where calls, routing and the outbox are kept."""

    url: Annotated[str, AfterValidator(_database_url)] = Field(
        "sqlite:////var/lib/dialmark/dialmark.db",
        repr=False,
        description="`sqlite:////path/file.db` for one node, `postgresql://user@host/name` for several. "
        "A password belongs into a credential `database.url` or into DIALMARK_DATABASE__URL.",
    )


class Asterisk(Section):
    """The folders that Dialmark shares with Asterisk on this machine."""

    journal_dir: Folder = Field(
        Path("/var/log/asterisk/cel-custom"),
        description="Folder in which Asterisk writes the CEL journal. It must exist, or every row is lost.",
    )
    journal_name: Annotated[str, AfterValidator(_file_name)] = Field(
        "dialmark.csv", description="File name of the journal, the section's name in `cel_custom.conf`."
    )
    generated_dir: Folder = Field(
        Path("/etc/asterisk/dialmark"),
        description="Folder for the files Dialmark writes for Asterisk: default plan, trunk contexts, trunks.",
    )


class Ami(Section):
    """The manager interface: health, hanging up, reconciling after a restart. Calls go on without it."""

    enabled: Switch = Field(True, description="Whether to connect at all.")
    host: Address = Field("127.0.0.1", description="Address of Asterisk's manager; an IP address, no name.")
    port: Port = Field(5038, description="Port of Asterisk's manager (TCP).")
    username: Word = Field(
        "dialmark", description="Account in `manager.conf`; read=call, write=call,reporting suffice."
    )
    secret: SecretStr = Field(
        SecretStr(""), description="The account's secret. Better as a credential `ami.secret` or in `secret_file`."
    )
    secret_file: OptionalFile = Field(
        None, description='File that holds the secret, if `secret` is empty; "" for none. Mode 0640 or stricter.'
    )

    def password(self) -> str:
        """The secret, from here or from its file. Raises `SettingsErrors` when the file cannot be read."""
        return secret_of(self.secret, self.secret_file, "ami.secret_file")


class Agi(Section):
    """The FastAGI listener, which Asterisk asks for each call's plan."""

    host: Address = Field(
        "127.0.0.1", description="Address to listen on. FastAGI has no authentication: keep it on loopback."
    )
    port: Annotated[int, Field(strict=True, ge=0, le=65_535)] = Field(
        4573, description="Port to listen on (TCP); the dialplan's `DM_AGI` must name the same."
    )
    backlog: Annotated[int, Field(strict=True, ge=1, le=65_535)] = Field(
        4096, description="Connections that wait while the daemon hangs; a full one costs every caller 2 s."
    )
    answer_seconds: Annotated[Seconds, Field(gt=0, lt=DIALPLAN_SECONDS)] = Field(
        1.0, description="Seconds for a whole session; the dialplan leaves after 1.5 s, so it must be shorter."
    )
    lookup_seconds: Annotated[Seconds, Field(gt=0)] = Field(
        0.2, description="Seconds for what the answer needs from the database; late means an unknown caller."
    )
    max_sessions: Annotated[int, Field(strict=True, ge=1)] = Field(
        200, description="Sessions at once; more are refused, and those callers take the default plan."
    )

    @field_validator("lookup_seconds")
    @classmethod
    def _before_the_answer(cls, seconds: float, info: ValidationInfo) -> float:
        if seconds >= info.data.get("answer_seconds", DIALPLAN_SECONDS):
            raise ValueError("must be below answer_seconds")
        return seconds


class Web(Section):
    """The two web listeners: the public one for sites' visitors, the admin one for API, pages, metrics and health."""

    host: Address = Field("127.0.0.1", description="Address of the public listener. Put a proxy with TLS before it.")
    port: Annotated[int, Field(strict=True, ge=0, le=65_535)] = Field(
        8080, description="Port of the public listener (TCP); 0 for none: then no numbers are lent on the web."
    )
    admin_host: Address = Field(
        "127.0.0.1", description="Address of the admin listener. Put a proxy with TLS before it to open it up."
    )
    admin_port: Port = Field(8081, description="Port of the admin listener (TCP).")
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(listed)] = Field(
        (), description='Networks whose `X-Forwarded-For` is believed: `["127.0.0.1/32"]` for a proxy on this machine.'
    )
    country_header: HeaderName = Field(
        "",
        description="Header in which a trusted proxy tells the visitor's country, two letters (`CF-IPCountry`); "
        '"" for none.',
    )
    city_header: HeaderName = Field(
        "", description='Header in which a trusted proxy tells the visitor\'s city (`CF-IPCity`); "" for none.'
    )
    places_file: OptionalFile = Field(
        None,
        description="Your database of places by address (MMDB with country and city), asked where no header tells; "
        '"" for none. The address itself is not kept.',
    )
    traffic_file: OptionalFile = Field(
        None,
        description="A table of your own over the shipped `traffic.csv`: click ids, referrers and tags by source; "
        '"" for none.',
    )


class Journal(Section):
    """Reading, rotating and keeping the CEL journal, from which all records are made."""

    rotate_bytes: Annotated[int, Field(strict=True, ge=1_000_000)] = Field(
        67_108_864, description="Size in bytes at which the journal is renamed and a new one begun."
    )
    archive_days: Annotated[int, Field(strict=True, ge=1, le=3_650)] = Field(
        14, description="Days for which passed journals are kept, compressed, for `verify` and `replay`."
    )
    batch_milliseconds: Annotated[int, Field(strict=True, ge=1, le=5_000)] = Field(
        400, description="Milliseconds after which the rows read so far are committed as one transaction."
    )
    batch_rows: Annotated[int, Field(strict=True, ge=1, le=100_000)] = Field(
        1_500, description="Rows after which they are committed at once; bounds memory while catching up."
    )
    ballast_bytes: Annotated[int, Field(strict=True, ge=0)] = Field(
        67_108_864,
        description="Bytes of the file that holds space in the journal's folder and is freed below 5 % of free space, "
        "so that rows fit until you have made space; 0 for none.",
    )


class Events(Section):
    """Events as JSON lines, for programs that would rather read a file than receive webhooks."""

    jsonl_path: OptionalFile = Field(
        Path("/var/lib/dialmark/events.jsonl"), description='File to append to; "" for none.'
    )
    rotate_bytes: Annotated[int, Field(strict=True, ge=100_000)] = Field(
        67_108_864, description="Size in bytes at which the file is renamed to `.NUMBER` and a new one begun."
    )
    rotate_hours: Annotated[int, Field(strict=True, ge=0, le=8_760)] = Field(
        24, description="Hours after its first event at which a file is renamed too; 0: by its size only."
    )
    tokens_dir: Folder = Field(
        Path("/var/lib/dialmark/tokens"),
        description="Folder of the refresh tokens that services exchange at each use (Bitrix24, amoCRM); mode 0700.",
    )


class Logging(Section):
    """The daemon's own records, to stderr; SIGHUP puts changes in force."""

    format: Literal["console", "json"] = Field(
        "console", description="`console` for people, `json` for a log collector; both one line per record."
    )
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is written.")
    mask_numbers: Switch = Field(
        True, description="Hide the middle of telephone numbers; callers' numbers are personal data."
    )


class Limits(Section):
    """Bounds on the two web listeners; SIGHUP puts changes in force."""

    login_per_minute: Annotated[int, Field(strict=True, ge=1)] = Field(
        10, description="Failed log-ins per minute and client address before it is turned away (429)."
    )
    api_per_minute: Annotated[int, Field(strict=True, ge=1)] = Field(
        600, description="API requests per minute and token before it is turned away (429)."
    )
    live_clients: Annotated[int, Field(strict=True, ge=1)] = Field(
        50, description="Browsers that may follow calls live at once; each holds a connection."
    )

    visits_per_minute: Annotated[int, Field(strict=True, ge=1)] = Field(
        60, description="Pages per minute for which one address may ask numbers before it is turned away (429)."
    )
    site_visits_per_minute: Annotated[int, Field(strict=True, ge=1)] = Field(
        1_200,
        description="Pages per minute that are given numbers of one site by this process: no pool is drained faster.",
    )
    callbacks_per_hour: Annotated[int, Field(strict=True, ge=1)] = Field(
        10, description="Call-backs per hour that one address may ask for."
    )
    site_callbacks_per_hour: Annotated[int, Field(strict=True, ge=1)] = Field(
        120, description="Call-backs per hour that may be asked for on one site."
    )


class Caller(Section):
    """What is told of a caller from the number alone."""

    region: Switch = Field(
        True,
        description="Whether to name the caller's region (R89). The tables cost 106 MB of memory; country is free.",
    )


class Vault(Section):
    """Where recordings are kept, encrypted, and the ring of keys that wrap theirs."""

    dir: Folder = Field(
        Path("/var/lib/dialmark/recordings"), description="Folder of the encrypted recordings, by year, month and day."
    )
    keys: SecretStr = Field(
        SecretStr(""),
        description="The key ring itself: only from outside this file, as a credential `vault.keys` or in "
        "DIALMARK_VAULT__KEYS (`;` between lines).",
    )
    keys_file: OptionalFile = Field(
        None,
        description='File that holds the key ring, if `keys` is empty; "" for none. Mode 0640 or stricter, and a copy '
        "of it elsewhere: without it no recording can ever be opened. `dialmark recordings new-key` prints a line.",
    )

    def text(self) -> str:
        """The ring's text, "" when there is none. Raises `SettingsErrors` when its file cannot be read."""
        if self.keys.get_secret_value() or self.keys_file is None:
            return self.keys.get_secret_value()
        try:
            return self.keys_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            where = str(self.keys_file)
            raise SettingsErrors([SettingsError(where, "vault.keys_file", f"cannot be read: {reason}")]) from None


class Recording(Section):
    """From Asterisk's spool into the vault."""

    spool_dir: SpoolFolder = Field(
        Path("/var/spool/asterisk/dialmark"),
        description="Folder into which Asterisk records, in plain. On a filesystem of its own: filled by recordings, "
        "it must not take the journal's room. At most 128 characters. Nothing is recorded without a key ring.",
    )
    settle_seconds: Annotated[Seconds, Field(ge=0.1, le=600)] = Field(
        2.0, description="Seconds for which a file must not have changed after the call's end."
    )
    unknown_seconds: Annotated[Seconds, Field(ge=1, le=86_400)] = Field(
        600.0,
        description="Seconds after which a file whose call, or whose consent, is not in the journal counts as recorded "
        "without consent: it is locked away, and an alarm is raised.",
    )
    min_free_percent: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        10,
        description="Free room of the spool's filesystem in per cent below which no new call is recorded; 100: never.",
    )
    poll_seconds: Annotated[Seconds, Field(ge=0.05, le=60)] = Field(
        0.5, description="Seconds between two looks into the spool."
    )
    command: Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(_program)] = Field(
        (),
        description="Program and arguments that are run once for each finished recording (speech analytics), without a "
        "shell; the JSON it prints lands in the call's record. `[]` for none.",
    )
    command_seconds: Annotated[Seconds, Field(ge=1, le=86_400)] = Field(
        300.0, description="Seconds after which the program is stopped, and the recording has no analysis."
    )
    signing_key_file: Folder = Field(
        Path("/var/lib/dialmark/receipts.key"),
        description="Ed25519 key that signs consent receipts, mode 0600; made at the first start if it is not there. "
        "Keep a copy: receipts signed by a lost key still verify, but nobody can sign as that node again.",
    )


class Retention(Section):
    """How long what is kept. `dialmark retention preview` lists what would go and why; only `run` removes."""

    recordings_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] = Field(
        180, description="Days for which recordings are kept, where no rule says otherwise."
    )
    rules: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (),
        description="Other spans by route and outcome, the most exact one counts: "
        '`["sales/answered=365", "*/voicemail=30"]` in days.',
    )
    grace_days: Annotated[int, Field(strict=True, ge=0, le=3_650)] = Field(
        14, description="Days for which a recording that is due can still be restored before its key is shredded."
    )
    refused_days: Annotated[int, Field(strict=True, ge=0, le=3_650)] = Field(
        14, description="Days for which sound without a consent is kept locked away, for the inquiry; nobody hears it."
    )
    calls_months: Annotated[int, Field(strict=True, ge=1, le=1_200)] = Field(
        25, description="Months after which a call's record loses the person; what is counted stays."
    )
    visits_months: Annotated[int, Field(strict=True, ge=1, le=1_200)] = Field(
        13, description="Months for which visits to the site are kept."
    )
    audit_months: Annotated[int, Field(strict=True, ge=1, le=1_200)] = Field(
        36, description="Months for which audit rows are kept."
    )
    backup_days: Annotated[int, Field(strict=True, ge=0, le=3_650)] = Field(
        30, description="Days for which you keep backups of the database: what an erasure's receipt says of them."
    )

    @field_validator("rules")
    @classmethod
    def _readable_rules(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        retention.rules(1, texts)
        return texts


class Consent(Section):
    """What the law of recording asks for. See docs/consent.md."""

    regions_file: OptionalFile = Field(
        None, description='A table of your own instead of the shipped `consent_regions.csv`; "" for the shipped one.'
    )


class Prompts(Section):
    """What callers and agents hear, and who speaks it. Calls go on without: what is not ready is not played."""

    dir: PromptFolder = Field(
        Path("/var/lib/dialmark/prompts"),
        description="Folder of the audio made ahead of time; Asterisk must be able to read it. At most 64 characters.",
    )
    own_dir: Folder = Field(
        Path("/etc/dialmark/prompts"),
        description="Folder of your own `KEY.LANGUAGE.wav`, read when a routing revision comes into force, and "
        "`LANGUAGE.toml`, read at the start.",
    )
    engine: Literal["auto", "espeak-ng", "flite", "command", "none"] = Field(
        "auto", description="Program that speaks; `auto` takes espeak-ng, else flite (English only)."
    )
    command: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (),
        description="Of engine `command`: program and arguments, no shell, with `{text_file}`, `{wav}`, `{voice}`, "
        "`{language}`; it must write a WAV file of plain PCM.",
    )
    voices: Annotated[tuple[Voice, ...], BeforeValidator(listed)] = Field(
        (), description='Voices by language, where the language\'s own name is not one: `["ru=irina", "en=en-gb"]`.'
    )

    @field_validator("command")
    @classmethod
    def _complete_command(cls, command: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("engine") == "command" and not any("{wav}" in part for part in command):
            raise ValueError("needs a program and an argument with {wav} where engine is command")
        return command

    def voice_by_language(self) -> dict[str, str]:
        """`voices` as a mapping."""
        return dict(voice.split("=", 1) for voice in self.voices)


def _quiet(text: str) -> str:
    alarms.quiet_hours(text)
    return text


MailAddress = Annotated[str, Field(pattern=r"^[^@\s,;<>\"]{1,64}@[A-Za-z0-9.-]{1,253}$")]


class Alerts(Section):
    """When somebody is told that something is wrong: as an event `system.alert`, and by mail. See docs/alerts.md."""

    mail_to: Annotated[tuple[MailAddress, ...], BeforeValidator(listed)] = Field(
        (), description="Addresses that get a mail for each alarm; `[]` for none. Needs `mail.host`."
    )
    tickets_mail_to: Annotated[tuple[MailAddress, ...], BeforeValidator(listed)] = Field(
        (), description="Addresses that get reminders and escalations of missed calls; `[]` for none."
    )
    quiet_hours: Annotated[str, AfterValidator(_quiet)] = Field(
        "",
        description='From when to when, by the first site\'s clock, warnings wait: `"22:00-07:00"`; "" for never. '
        "What is critical does not wait.",
    )
    poll_seconds: Annotated[Seconds, Field(ge=0.05, le=3_600)] = Field(
        10.0, description="Seconds between two looks at what alarms are about."
    )
    ami_seconds: Annotated[int, Field(strict=True, ge=0)] = Field(
        60, description="Seconds for which the manager interface must be gone."
    )
    disk_free_percent: Annotated[int, Field(strict=True, ge=0, le=99)] = Field(
        10, description="Free room of the journal's filesystem in per cent below which an alarm is raised; 0: never."
    )
    target_seconds: Annotated[int, Field(strict=True, ge=0)] = Field(
        600, description="Seconds for which deliveries to a receiver must have failed."
    )
    blocked_percent: Annotated[float, Field(ge=0, le=100)] = Field(
        5.0, description="Target of the blocked ratio in per cent (R65); 100: no alarm."
    )
    blocked_minutes: Annotated[int, Field(strict=True, ge=5, le=10_080)] = Field(
        240, description="Minutes over which the blocked ratio is taken."
    )
    blocked_calls: Annotated[int, Field(strict=True, ge=1)] = Field(
        20, description="Calls below which a ratio is no verdict."
    )
    no_calls_minutes: Annotated[int, Field(strict=True, ge=0, le=10_080)] = Field(
        0, description="Minutes of business hours without any call after which an alarm is raised; 0: never."
    )
    fault_calls: Annotated[int, Field(strict=True, ge=0)] = Field(
        1, description="Callers lost to faults of the system that raise an alarm (N7); 0: never."
    )
    fault_minutes: Annotated[int, Field(strict=True, ge=1, le=1_440)] = Field(
        15, description="Minutes over which they are counted."
    )
    number_calls: Annotated[int, Field(strict=True, ge=0)] = Field(
        1,
        description="Callers missed for a number that is shown wrongly or unknown that raise an alarm (R21); 0: never.",
    )
    number_minutes: Annotated[int, Field(strict=True, ge=1, le=1_440)] = Field(
        60, description="Minutes over which those are counted."
    )


class Mail(Section):
    """The mail server by which alarms are sent."""

    host: str = Field("", description='Name or address of the SMTP server; "" for none.', max_length=253)
    port: Port = Field(587, description="Its port (TCP): 587 for STARTTLS, 465 for TLS, 25 within the house.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="`starttls` and `tls` check the certificate; `none` sends in plain, without a password."
    )
    username: str = Field("", description='Account at the server; "" for none.', max_length=200)
    password: SecretStr = Field(
        SecretStr(""), description="Its password. Better as a credential `mail.password` or DIALMARK_MAIL__PASSWORD."
    )
    sender: MailAddress = Field("dialmark@localhost", description="Address that stands as sender.")
    ca_file: OptionalFile = Field(
        None, description='PEM of your own certificate authority; "" for those of the system.'
    )
