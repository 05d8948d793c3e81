"""`dialmark.toml`, the environment and systemd credentials → frozen `Settings`, or all that is wrong with them at once.

    environment DIALMARK_SECTION__KEY   wins over
    $CREDENTIALS_DIRECTORY/section.key  (systemd LoadCredential) wins over
    dialmark.toml                       wins over the defaults below

Each field says its unit and its reason: `config/dialmark.example.toml` and `docs/settings.md` are written from here
(`gateway.config.settingstext`), and a test holds them to it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import ValidationError

from gateway.config import callbacksettings, positions, problems, settingsections
from gateway.config.settingsections import Section

ENVIRONMENT_PREFIX = "DIALMARK_"
_VARIABLE = re.compile(rf"{ENVIRONMENT_PREFIX}([A-Z0-9_]+?)__([A-Z0-9_]+)", re.IGNORECASE)
_CREDENTIAL = re.compile(r"([a-z_]+)\.([a-z_]+)")
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):[^\s/]+@")
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_FOLDERS_APART = ("recording.spool_dir", "vault.dir", "prompts.dir", "asterisk.journal_dir")
"""Files are removed from each by what they are called."""
MASKED = "********"

SettingsError = settingsections.SettingsError
SettingsErrors = settingsections.SettingsErrors


class Settings(Section):
    """All settings of one node. Frozen: SIGHUP makes a new one and puts it in force, or keeps this."""

    node: settingsections.Node = settingsections.Node()
    database: settingsections.Database = settingsections.Database()
    asterisk: settingsections.Asterisk = settingsections.Asterisk()
    ami: settingsections.Ami = settingsections.Ami()
    agi: settingsections.Agi = settingsections.Agi()
    web: settingsections.Web = settingsections.Web()
    journal: settingsections.Journal = settingsections.Journal()
    events: settingsections.Events = settingsections.Events()
    logging: settingsections.Logging = settingsections.Logging()
    limits: settingsections.Limits = settingsections.Limits()
    caller: settingsections.Caller = settingsections.Caller()
    callbacks: callbacksettings.Callbacks = callbacksettings.Callbacks()
    vault: settingsections.Vault = settingsections.Vault()
    recording: settingsections.Recording = settingsections.Recording()
    retention: settingsections.Retention = settingsections.Retention()
    consent: settingsections.Consent = settingsections.Consent()
    prompts: settingsections.Prompts = settingsections.Prompts()
    alerts: settingsections.Alerts = settingsections.Alerts()
    mail: settingsections.Mail = settingsections.Mail()


RELOADABLE = frozenset({"logging", "limits"})
"""Sections that SIGHUP puts in force; the others need a restart."""


def sections() -> dict[str, type[Section]]:
    """The sections by name, in the order of the file."""
    return {name: cast(type[Section], field.annotation) for name, field in Settings.model_fields.items()}


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read and check everything. `path` None: no file, defaults and environment only.

    Raises `SettingsErrors` with every error of every source; a file that is missing is one.
    """
    found = _Found()
    if path is not None:
        found.read_file(path)
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        found.read_credentials(Path(directory))
    found.read_environment(environ)
    return found.settings()


def effective(settings: Settings) -> dict[str, dict[str, Any]]:
    """What is in force, as plain values (JSON and TOML can carry them all), secrets masked."""
    values = settings.model_dump(mode="json")
    for section in values.values():
        for key, value in section.items():
            section[key] = "" if value is None else value
    values["ami"]["secret"] = MASKED if settings.ami.secret.get_secret_value() else ""
    values["callbacks"]["secret"] = MASKED if settings.callbacks.secret.get_secret_value() else ""
    values["vault"]["keys"] = MASKED if settings.vault.keys.get_secret_value() else ""
    values["mail"]["password"] = MASKED if settings.mail.password.get_secret_value() else ""
    values["database"]["url"] = _URL_PASSWORD.sub(rf"\1:{MASKED}@", settings.database.url)
    return values


def changes(old: Settings, new: Settings) -> tuple[str, ...]:
    """Dotted keys whose values differ, in the order of the file."""
    return tuple(
        f"{name}.{key}"
        for name, section in sections().items()
        for key in section.model_fields
        if getattr(getattr(old, name), key) != getattr(getattr(new, name), key)
    )


class _Found:
    """Values from all sources, where each came from, and what is wrong so far."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, object]] = {}
        self._where: dict[tuple[str, ...], str] = {}
        self._errors: list[SettingsError] = []
        self._sections = sections()

    def read_file(self, path: Path) -> None:
        try:
            text = path.read_bytes().decode("utf-8")
            document = tomllib.loads(text)
        except OSError as error:
            hint = ", `dialmark init --write` makes it" if isinstance(error, FileNotFoundError) else ""
            self._error(str(path), "", f"cannot be read: {error.strerror}{hint}")
        except UnicodeDecodeError as error:
            self._error(str(path), "", f"is not UTF-8 (byte {error.start})")
        except tomllib.TOMLDecodeError as error:
            self._error(str(path), "", f"is not TOML: {error}")
        else:
            lines = positions.Positions(text)
            for name, table in document.items():
                self._read_table(path, lines, name, table)

    def _read_table(self, path: Path, lines: positions.Positions, name: str, table: object) -> None:
        where = f"{path}:{lines.line_of((name,))}"
        if name not in self._sections:
            guess = problems.closest(name, self._sections) or self._section_with(name)
            self._errors.append(SettingsError(where, name, "there is no such section", guess))
        elif not isinstance(table, dict):
            self._error(where, name, f"is a section, written as [{name}]")
        else:
            for key, value in table.items():
                self._put(name, key, value, f"{path}:{lines.line_of((name, key))}")

    def _section_with(self, key: str) -> str | None:
        return next(
            (f"[{name}] {key}" for name, section in self._sections.items() if key in section.model_fields), None
        )

    def read_credentials(self, directory: Path) -> None:
        # Other credentials of the unit may lie there too: only names of our sections are looked at.
        for name, key, file in sorted(_credentials(directory)):
            if name not in self._sections:
                continue
            try:
                text = file.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError):
                self._error(f"credential {file.name}", f"{name}.{key}", "cannot be read as text")
            else:
                self._put_text(name, key, text, f"credential {file.name}")

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for variable, text in sorted(environ.items()):
            match = _VARIABLE.fullmatch(variable)
            if match is None:
                continue
            name, key = match[1].lower(), match[2].lower()
            where = f"environment variable {variable}"
            if name in self._sections:
                self._put_text(name, key, text, where)
            else:
                guess = problems.closest(name, self._sections)
                self._errors.append(SettingsError(where, name, "there is no such section", guess))

    def _put_text(self, name: str, key: str, text: str, where: str) -> None:
        field = self._sections[name].model_fields.get(key)
        value: object = text
        if field is not None:
            value = _converted(text, field.annotation)
        self._put(name, key, value, where)

    def _put(self, name: str, key: str, value: object, where: str) -> None:
        fields = self._sections[name].model_fields
        if key not in fields:
            guess = problems.closest(key, fields) or self._section_with(key)
            self._errors.append(SettingsError(where, f"{name}.{key}", "there is no such setting", guess))
            return
        self._values.setdefault(name, {})[key] = value
        self._where[(name, key)] = where

    def _error(self, where: str, key: str, message: str) -> None:
        self._errors.append(SettingsError(where, key, message))

    def settings(self) -> Settings:
        """Raises `SettingsErrors`."""
        result: Settings | None = None
        try:
            result = Settings.model_validate(self._values)
        except ValidationError as error:
            self._errors.extend(self._described(error))
        else:
            for one, other in _too_near(result):
                # What was written is to be changed, not a default.
                said, beside = (one, other) if (*one.split("."),) in self._where else (other, one)
                where = self._where.get((*said.split("."),), "settings")
                self._error(where, said, f"must be apart from {beside}, neither the same folder nor one in the other")
        if self._errors or result is None:
            raise SettingsErrors(self._errors)
        return result

    def _described(self, error: ValidationError) -> Iterator[SettingsError]:
        # One value can break several rules (each member of a union): the first says enough.
        seen = set()
        for detail in error.errors(include_url=False, include_context=True, include_input=False):
            path = tuple(str(part) for part in detail["loc"][:2])
            if path in seen:
                continue
            seen.add(path)
            choices = self._choices(path)
            word = self._values.get(path[0], {}).get(path[1])
            guess = problems.closest(word, choices) if isinstance(word, str) else None
            yield SettingsError(self._where.get(path, "settings"), ".".join(path), _plain(detail["msg"]), guess)

    def _choices(self, path: tuple[str, ...]) -> tuple[str, ...]:
        annotation = self._sections[path[0]].model_fields[path[1]].annotation
        return tuple(choice for choice in get_args(annotation) if isinstance(choice, str))


def _too_near(found: Settings) -> Iterator[tuple[str, str]]:
    """Keys of folders of which one is the other, or lies in it."""
    for one, other in combinations(_FOLDERS_APART, 2):
        folder, beside = _value(found, one), _value(found, other)
        if folder.is_relative_to(beside) or beside.is_relative_to(folder):
            yield one, other


def _value(found: Settings, key: str) -> Path:
    section, name = key.split(".")
    return cast(Path, getattr(getattr(found, section), name))


def _credentials(directory: Path) -> Iterator[tuple[str, str, Path]]:
    if not directory.is_dir():
        return
    for file in directory.iterdir():
        if match := _CREDENTIAL.fullmatch(file.name):
            yield match[1], match[2], file


def _converted(text: str, annotation: object) -> object:
    """Text from outside the file as the value TOML would give; what does not convert is left for the check."""
    if annotation is bool:
        return _WORDS.get(text.strip().lower(), text)
    if annotation in (int, float):
        try:
            return int(text) if annotation is int else float(text)
        except ValueError:
            return text
    return text


def _plain(message: str) -> str:
    """pydantic's words as ours: without the type of exception, in one sentence."""
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return message.rstrip(".")
