"""The site of `dni`, and what browsers on it send: a page is opened, by somebody who was never there."""

from __future__ import annotations

import json
import random

SITE = "clinic"
POOLS = 4
NUMBERS = 10_000
"""In each pool, the most that one may have."""

BROWSERS = tuple(
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64")
    for version in range(125, 142)
)
WORDS = ("implant", "crown", "price", "moscow", "doctor", "clinic", "near", "me")


def routing() -> str:
    """A site whose landing pages lead to `POOLS` pools of `NUMBERS` numbers each."""
    lines = [
        f'[[site]]\nkey = "{SITE}"\ntime_zone = "Europe/Moscow"\ncountry = "RU"\ndefault_destination = "desk"',
        'business_number = "+74950000000"\n[site.web]\nhosts = ["clinic.example"]',
        '[[trunk]]\nkey = "carrier"\nhosts = ["203.0.113.5"]',
        '[[source]]\nkey = "google-ads"\nchannel = "search"\n[[source.visits]]\n'
        'utm = { source = "google", medium = "cpc" }',
        '[[destination]]\nkey = "desk"\ndial = "sip:desk-1"\n[[route]]\nkey = "sales"\nforward = ["desk"]',
    ]
    for pool in range(POOLS):
        # A block of the file is at most a thousand numbers.
        blocks = ", ".join(
            f'"+7499{first:07}..+7499{first + 999:07}"'
            for first in range(1_000_000 * (pool + 1), 1_000_000 * (pool + 1) + NUMBERS, 1_000)
        )
        lines.append(
            f'[[pool]]\nkey = "p{pool}"\nroute = "sales"\nnumbers = [{blocks}]\noverflow = "+7495111000{pool}"'
        )
        lines.append(f'[[display_rule]]\nkey = "p{pool}"\nlanding_pages = ["/p{pool}*"]\npool = "p{pool}"')
    return "\n".join(lines)


def visit(chance: random.Random) -> bytes:
    """A request to `/dni/v1/visit`, whole."""
    term = "+".join(chance.choices(WORDS, k=3))
    tags = f"utm_source=google&utm_medium=cpc&utm_campaign=spring-{chance.randrange(20)}&utm_term={term}"
    url = f"https://clinic.example/p{chance.randrange(POOLS)}?{tags}&gclid=Cj0{chance.getrandbits(256):x}"
    body = json.dumps(
        {
            "v": 1,
            "site": SITE,
            "page": f"{chance.getrandbits(48):x}"[:10],
            "consent": "granted",
            "url": url,
            "referrer": "https://www.google.com/",
            "automated": False,
            "landing": {"url": url, "referrer": "https://www.google.com/", "seconds": 1},
            "ids": {"ga": f"{chance.getrandbits(30)}.1795300000", "ga_sessions": {}},
            "vars": {},
        },
        separators=(",", ":"),
    ).encode()
    address = ".".join(str(chance.randrange(1, 255)) for _ in range(4))
    head = (
        "POST /dni/v1/visit HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://clinic.example\r\n"
        f"User-Agent: {chance.choice(BROWSERS)}\r\nX-Forwarded-For: {address}\r\n"
        "Accept: */*\r\nAccept-Language: ru,en;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\n"
        f"Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
