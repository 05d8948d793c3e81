"""Writes telephone tones as 8 kHz mono files: the ``ring`` music class, and steady tones for tests.

    python ring_tone.py FOLDER [--zone ru]      FOLDER/ring.ulaw and FOLDER/ring.alaw, one period of the zone's ringing
    python ring_tone.py --steady 1004 FILE.ulaw one second of a sine, for playing in a loop

``dialmark init`` writes the first two files too, in the zone of Asterisk's ``indications.conf``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# So that it runs from a checkout without anything installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.core import tones


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--zone", choices=sorted(tones.ZONES), default="ru")
    parser.add_argument("--steady", type=int, metavar="HZ")
    options = parser.parse_args()
    if options.steady:
        options.target.write_bytes(tones.ulaw(tones.sine((options.steady,), 1)))
        return
    options.target.mkdir(parents=True, exist_ok=True)
    samples = tones.ringing(options.zone)
    (options.target / "ring.ulaw").write_bytes(tones.ulaw(samples))
    (options.target / "ring.alaw").write_bytes(tones.alaw(samples))


if __name__ == "__main__":
    main()
