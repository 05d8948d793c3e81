"""An import in a process of its own, to be killed: it says `piece` after each of its transactions and waits for a line.

importing_process.py DATABASE ROWS
"""

from __future__ import annotations

import asyncio
import sys

from gateway import store
from gateway.services import dealing
from tests.services import test_dealing
from tests.store import examples


def said(number: int) -> dict[str, object]:
    return test_dealing.of(number, deal_id=f"D-{number}", value="10", currency="EUR")


def waits() -> None:
    print("piece", flush=True)
    sys.stdin.readline()


async def main(database_url: str, rows: int) -> None:
    database = await store.Database.open(database_url, migrate=False)
    takes = dealing.Dealing(
        database,
        current_book=lambda: None,
        targets=[test_dealing.CRM],
        now_us=lambda: examples.NOON + test_dealing.DAY_US,
        events_added=waits,
    )
    asked = [dealing.Asked(place, said(place)) for place in range(rows)]
    await takes.take(asked, dealing.Source("cli:anna", "csv"), is_sheet=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
