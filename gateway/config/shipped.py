"""Data that Dialmark ships beside its code: the table of consent regions, that of traffic sources, and the texts of
prompts, with what the operator puts in their place. Read once; a broken file of the operator's is refused with every
error in it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from functools import lru_cache
from pathlib import Path

from gateway.config.settings import Settings, SettingsError, SettingsErrors
from gateway.core import prompts, regions, traffictables

REGIONS_FILE = "consent_regions.csv"
TRAFFIC_FILE = "traffic.csv"
PROMPTS_FOLDER = "prompts"
MAX_FILE_BYTES = 1_000_000

_LANGUAGE_FILE = re.compile(r"([a-z]{2}(?:-[A-Z]{2})?)\.toml")


class BadCatalogue(ValueError):
    """A file of texts is refused; the message names file and key."""


@lru_cache(maxsize=1)
def folder() -> Path:
    """Where the shipped data lies: `config/` of a working copy, or `share/dialmark/config` of an installation.

    Raises FileNotFoundError for an installation without its data.
    """
    for place in (Path(__file__).parents[2] / "config", Path(sys.prefix) / "share" / "dialmark" / "config"):
        if (place / REGIONS_FILE).is_file():
            return place
    raise FileNotFoundError(f"{REGIONS_FILE} is missing: the installation is not complete")


def consent_regions(own: Path | None = None) -> regions.RegionTable:
    """The shipped table, or that of the operator. Raises `regions.BadRegions` and OSError for one that is wrong."""
    return _regions(own if own is not None else folder() / REGIONS_FILE)


@lru_cache(maxsize=4)
def traffic(own: Path | None = None) -> traffictables.Tables:
    """The shipped tables of traffic sources, with the rows of the operator's own file over them. Raises
    `traffictables.BadTables`, with all errors of the own file, and OSError."""
    shipped_rows = _text(folder() / TRAFFIC_FILE)
    if own is None:
        return traffictables.parse(shipped_rows)
    try:
        return traffictables.parse(shipped_rows, _text(own))
    except BadCatalogue as error:
        raise traffictables.BadTables([str(error)]) from None
    except traffictables.BadTables as error:
        raise traffictables.BadTables([f"{own.name}: {message}" for message in error.errors]) from None
    except UnicodeDecodeError:
        raise traffictables.BadTables([f"{own.name}: is not UTF-8"]) from None


def refuse_broken(chosen: Settings) -> None:
    """Read the operator's own files. Raises `SettingsErrors` with every error in them."""
    errors: list[SettingsError] = []
    for key, file, read in (
        ("consent.regions_file", chosen.consent.regions_file, consent_regions),
        ("web.traffic_file", chosen.web.traffic_file, traffic),
        ("web.places_file", chosen.web.places_file, _readable),
    ):
        try:
            read(file)
        except (regions.BadRegions, traffictables.BadTables) as error:
            errors += [SettingsError(str(file), key, message) for message in error.errors]
        except OSError as error:
            errors.append(SettingsError(str(file), key, f"cannot be read: {error.strerror}"))
    if errors:
        raise SettingsErrors(errors)


def _readable(file: Path | None) -> None:
    if file is not None:
        file.open("rb").close()


@lru_cache(maxsize=1)
def catalogue() -> prompts.Catalogue:
    """The shipped texts."""
    return read_catalogue(folder() / PROMPTS_FOLDER)


def read_catalogue(place: Path) -> prompts.Catalogue:
    """The texts of every `LANGUAGE.toml` in `place`; a folder that is not there has none.

    Raises `BadCatalogue` for text that is wrong, OSError for files that cannot be read.
    """
    texts: dict[str, dict[str, str]] = {}
    if not place.is_dir():
        return prompts.Catalogue(texts)
    for file in sorted(place.iterdir()):
        match = _LANGUAGE_FILE.fullmatch(file.name)
        if match is not None:
            texts[match[1]] = _texts(file)
    return prompts.Catalogue(texts)


@lru_cache(maxsize=4)
def _regions(file: Path) -> regions.RegionTable:
    try:
        return regions.parse(_text(file))
    except BadCatalogue as error:
        raise regions.BadRegions([str(error)]) from None
    except regions.BadRegions as error:
        raise regions.BadRegions([f"{file.name}: {message}" for message in error.errors]) from None
    except UnicodeDecodeError:
        raise regions.BadRegions([f"{file.name}: is not UTF-8"]) from None


def _texts(file: Path) -> dict[str, str]:
    try:
        document = tomllib.loads(_text(file))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCatalogue(f"{file.name}: {error}") from None
    for key, text in document.items():
        if not prompts.KEY.fullmatch(key):
            raise BadCatalogue(f"{file.name}: {key[:40]!r} is no key of a-z 0-9 _")
        if not isinstance(text, str) or not text.strip() or len(text) > prompts.MAX_TEXT or not text.isprintable():
            raise BadCatalogue(f"{file.name}: {key} must be a text of 1 to {prompts.MAX_TEXT} printable characters")
    return {key: " ".join(str(text).split()) for key, text in document.items()}


def _text(file: Path) -> str:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise BadCatalogue(f"{file.name}: is larger than {MAX_FILE_BYTES} bytes")
    return file.read_text(encoding="utf-8")
