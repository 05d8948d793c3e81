"""`python -m bench NAME [--quick]`: runs one measurement and ends by itself."""

from __future__ import annotations

import argparse
import asyncio
import sys

from bench import audiences, calls, calls_recorded, dniassign, dnipage, outbox, replay, report, vault


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("name", choices=("calls", "calls-recorded", "replay", "vault", "dni", "outbox", "audiences"))
    parser.add_argument("--quick", action="store_true", help="fewer rounds and calls: minutes become seconds")
    parser.add_argument(
        "--postgres",
        metavar="URL",
        help="replay: an empty PostgreSQL database to catch up into as well; dni: instead of a cluster of its own",
    )
    options = parser.parse_args()
    if options.name == "calls":
        measured = asyncio.run(calls.measure(quick=options.quick))
    elif options.name == "calls-recorded":
        measured = asyncio.run(calls_recorded.measure(quick=options.quick))
    elif options.name == "vault":
        measured = vault.measure(quick=options.quick)
    elif options.name == "outbox":
        measured = outbox.measure(quick=options.quick)
    elif options.name == "audiences":
        measured = audiences.measure(quick=options.quick)
    elif options.name == "dni":
        measured = report.Measured("dni")
        dnipage.measure(measured, quick=options.quick)
        dniassign.measure(measured, quick=options.quick, postgres_url=options.postgres)
    else:
        measured = replay.measure(quick=options.quick, postgres=options.postgres)
    report.finish(measured)
    return 0 if measured.is_met else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
