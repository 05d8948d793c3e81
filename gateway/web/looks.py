"""How something is shown: never by colour alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """An outcome or state in words, with an icon, and in a tone."""

    key: str
    label: str
    icon: str
    tone: str
    """good | warn | bad | quiet | live"""
    hint: str = ""
