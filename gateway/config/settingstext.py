"""The example file and the reference page of the settings, written from `gateway.config.settings`.

python -m gateway.config.settingstext      rewrites both; a test fails when they are not current
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from gateway.config import settings

_WIDTH = 118
_HEAD = """\
# Dialmark's settings: every key with its default, its unit and its reason. Copy to /etc/dialmark/dialmark.toml and keep
# only what you change. `dialmark check` reads it and shows what is in force.
#
# Each key can be set from outside as well, which wins: environment DIALMARK_SECTION__KEY (DIALMARK_AGI__PORT=4574), or
# a systemd credential named section.key (LoadCredential=ami.secret:/etc/dialmark/ami.secret).
"""
_PAGE_HEAD = """\
# Settings

`dialmark.toml` holds what belongs to the machine; what belongs to the business stands in `routing.toml`. A file with
every key at its default is `config/dialmark.example.toml`. `dialmark check` names every error at once, with file, line
and key, and prints what is in force, secrets masked.

A value is taken from the first of these that has it:

1. the environment: `DIALMARK_SECTION__KEY`, for example `DIALMARK_AGI__PORT=4574`; lists with commas
2. systemd credentials: a file `section.key` in `$CREDENTIALS_DIRECTORY`, for example
   `LoadCredential=ami.secret:/etc/dialmark/ami.secret`
3. `dialmark.toml`
4. the default

SIGHUP (`systemctl reload dialmark`) reads all of them again; a broken file is refused with its errors in the log, and
the old settings stay in force. Only the sections marked *reload* change without a restart.

This page is written from the program: `python -m gateway.config.settingstext`.
"""


def example() -> str:
    """Text of `config/dialmark.example.toml`: loading it gives the defaults."""
    defaults = settings.effective(settings.Settings())
    parts = [_HEAD.rstrip()]
    for name, section in settings.sections().items():
        parts.append("")
        parts.append(_comment(section.__doc__ or ""))
        parts.append(f"[{name}]")
        for key, field in section.model_fields.items():
            parts.append(_comment(field.description or ""))
            parts.append(f"{key} = {_toml(_default(name, key, defaults))}")
    return "\n".join(parts) + "\n"


def reference() -> str:
    """Text of `docs/settings.md`: one table per section."""
    defaults = settings.effective(settings.Settings())
    parts = [_PAGE_HEAD]
    for name, section in settings.sections().items():
        mark = " *reload*" if name in settings.RELOADABLE else ""
        parts.append(f"\n## `[{name}]`{mark}\n\n{' '.join((section.__doc__ or '').split())}\n")
        parts.append("| key | default | meaning |\n|---|---|---|")
        for key, field in section.model_fields.items():
            default = _toml(_default(name, key, defaults))
            parts.append(f"| `{name}.{key}` | `{default}` | {' '.join((field.description or '').split())} |")
    return "\n".join(parts) + "\n"


def _default(name: str, key: str, defaults: dict[str, dict[str, object]]) -> object:
    # The driver is our affair: the file shows the URL as an administrator writes it.
    value = defaults[name][key]
    return value.replace("sqlite+aiosqlite:", "sqlite:") if isinstance(value, str) else value


def _comment(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def main() -> None:
    """Rewrite both files in the working copy."""
    root = Path(__file__).parents[2]
    (root / "config" / "dialmark.example.toml").write_text(example(), encoding="utf-8")
    (root / "docs" / "settings.md").write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
