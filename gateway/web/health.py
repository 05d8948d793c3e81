"""Readiness: what each part says of itself, asked when somebody looks, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

CHECK_SECONDS = 2.0
"""A part that does not say how it is within this time is not well."""

Fact = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Check:
    """One part's state. `summary` is a short sentence for people; `facts` are figures for machines.

    A part that `is_required` and not well makes the node not ready; another one is only shown as degraded.
    """

    is_well: bool
    summary: str = ""
    is_required: bool = True
    facts: Mapping[str, Fact] = field(default_factory=dict)


Probe = Callable[[], Check | Awaitable[Check]]


@dataclass(frozen=True, slots=True)
class Report:
    """All checks by name."""

    checks: Mapping[str, Check]

    @property
    def is_ready(self) -> bool:
        """Whether every required part is well."""
        return all(check.is_well for check in self.checks.values() if check.is_required)

    @property
    def status(self) -> str:
        """`ready`, `degraded` (an optional part is not well) or `not_ready`."""
        if not self.is_ready:
            return "not_ready"
        return "ready" if all(check.is_well for check in self.checks.values()) else "degraded"

    @property
    def complaints(self) -> dict[str, str]:
        """What is not well, in words, by name."""
        return {name: check.summary or "not well" for name, check in self.checks.items() if not check.is_well}

    def document(self) -> dict[str, object]:
        """The JSON of `/readyz`."""
        return {
            "status": self.status,
            "checks": {
                name: {
                    "well": check.is_well,
                    "required": check.is_required,
                    "summary": check.summary,
                    **({"facts": dict(check.facts)} if check.facts else {}),
                }
                for name, check in self.checks.items()
            },
        }


async def examine(probes: Mapping[str, Probe]) -> Report:
    """Ask all parts at once. A probe that raises or is late counts as not well; its error is named by type only."""
    names = list(probes)
    checks = await asyncio.gather(*(_ask(probes[name]) for name in names))
    return Report(dict(zip(names, checks, strict=True)))


async def _ask(probe: Probe) -> Check:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            answer = probe()
            return await answer if inspect.isawaitable(answer) else answer
    except TimeoutError:
        return Check(False, f"no answer within {CHECK_SECONDS:g} s")
    except Exception as error:
        return Check(False, f"check failed: {type(error).__name__}")
