"""Structured records to stderr, as JSON or for the console, with callers' numbers masked and nothing forged.

    from gateway import log
    _log = log.get("services.tracker")
    with log.call(call_id):
        _log.info("call put through", destination="sales-desk", caller=number)

A record is one line: control characters are escaped, and the lines of a traceback are indented, so that no caller can
write a line of ours with a name or a SIP header. Masking works on what stands under a number's key and on everything
that looks like `+digits`, in messages and tracebacks too. Values under a secret's key are never written.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, suppress
from typing import Any, TextIO, cast

import structlog

from gateway.core import numbers

Logger = structlog.typing.FilteringBoundLogger

FORMATS = ("console", "json")
LEVELS = ("debug", "info", "warning", "error")

NUMBER_KEYS = frozenset(
    [
        *("ani", "caller", "caller_id", "callee", "cid", "cli", "did", "dnid", "from_number"),
        *("number", "numbers", "raw", "rdnis", "to", "to_number", "tracking_number"),
    ]
)
"""Keys whose value is a telephone number, however it is written."""

_NAME_KEYS = frozenset({"caller_name", "display_name"})
_SECRET_KEY = re.compile(r"(^|_)(secret|secrets|password|passwd|token|authorization|cookie|credential|key_material)$")
_PLUS_NUMBER = re.compile(r"\+\d{7,15}(?!\d)")
_DIGIT_RUN = re.compile(r"\+?\d{5,}")
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")
# C0 and C1 controls, line and paragraph separators, and the marks that turn the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

_Record = MutableMapping[str, Any]


def get(name: str) -> Logger:
    """The logger of a part of the daemon; `name` is the module's path below `gateway`."""
    return cast(Logger, structlog.get_logger(logger_name=name))


def call(call_id: str) -> AbstractContextManager[None]:
    """Put `call_id` on every record written inside the `with` block, also by tasks that are started in it."""
    return cast(AbstractContextManager[None], structlog.contextvars.bound_contextvars(call_id=call_id))


class _Unfailing:
    """A stream that never raises: a full disk, or a reader that went away, costs the log and not the calls."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


def configure(
    *, format: str = "console", level: str = "info", mask_numbers: bool = True, stream: TextIO | None = None
) -> None:
    """Set up our records and those of the libraries (standard logging). May be called again, as SIGHUP does.

    Raises `ValueError` for an unknown format or level.
    """
    if format not in FORMATS or level not in LEVELS:
        raise ValueError(f"no such log format or level: {format}, {level}")
    target = cast(TextIO, _Unfailing(stream or sys.stderr))
    number = getattr(logging, level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _Clean(mask_numbers),
    ]
    render: structlog.typing.Processor
    if format == "json":
        render = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        render = structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_level=False
        )
        shared.append(_indent_traceback)
    # No caching on first use: loggers made at import follow a later call.
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    _take_over_standard_logging(target, number, shared, render)


def _take_over_standard_logging(
    target: TextIO, level: int, shared: list[structlog.typing.Processor], render: structlog.typing.Processor
) -> None:
    handler = logging.StreamHandler(target)
    handler.set_name("gateway.log")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    for former in [each for each in root.handlers if each.get_name() == "gateway.log"]:
        root.removeHandler(former)
    root.addHandler(handler)
    # Libraries speak up only when something is wrong: aiohttp would log every request.
    root.setLevel(max(level, logging.WARNING))


def _name(logger: object, method: str, record: _Record) -> _Record:
    # structlog keeps the keyword `logger` for itself.
    if "logger_name" in record:
        record["logger"] = record.pop("logger_name")
    return record


class _Clean:
    """Processor: escape, mask and leave out, in every value of a record at any depth."""

    def __init__(self, mask_numbers: bool) -> None:
        self._mask_numbers = mask_numbers

    def __call__(self, logger: object, method: str, record: _Record) -> _Record:
        for key, value in record.items():
            if key == "exception":
                record[key] = "\n".join(self._text(line) for line in str(value).split("\n"))
            elif key != "timestamp" and not key.startswith("_"):
                record[key] = self._value(key, value)
        return record

    def _value(self, key: str, value: object) -> object:
        if _SECRET_KEY.search(key) and value is not None:
            return "***"
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, Mapping):
            return {self._text(str(name)): self._value(str(name), each) for name, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(key, each) for each in value]
        if self._mask_numbers and key in _NAME_KEYS:
            return "***"
        is_number = self._mask_numbers and key in NUMBER_KEYS
        if isinstance(value, int) and not is_number:
            return value
        text = self._text(str(value))
        return _DIGIT_RUN.sub(_masked, text) if is_number else text

    def _text(self, text: str) -> str:
        text = _URL_PASSWORD.sub(r"\1:***@", _CONTROL.sub(_escaped, text))
        return _PLUS_NUMBER.sub(_masked, text) if self._mask_numbers else text


def _masked(match: re.Match[str]) -> str:
    return numbers.mask(match[0])


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _indent_traceback(logger: object, method: str, record: _Record) -> _Record:
    if "exception" in record:
        record["exception"] = "    " + str(record["exception"]).replace("\n", "\n    ")
    return record


if not structlog.is_configured():
    # Before the settings are known, and in programs that never read them, stdout stays free for output.
    configure()
