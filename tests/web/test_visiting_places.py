"""Numbers by place (R94): Moscow sees its 499, Yekaterinburg its 343; by the operator's file or a proxy's headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as some
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from structlog.testing import capture_logs

from gateway import store
from gateway.core import placenames
from gateway.core.displayrules import Place
from gateway.services import places
from gateway.store import timelines
from tests.services.clinic import ROUTING
from tests.web.front import Front

MOSCOW, YEKATERINBURG, RUSSIA = "+74990000101", "+73430000101", "+78000000101"
CITIES = (
    ROUTING.partition("[[display_rule]]")[0]
    + "".join(
        f"""
[[tracking_number]]
number = "{number}"
route = "sales"

[[display_rule]]
key = "{key}"
{condition}
number = "{number}"
"""
        for key, condition, number in (
            ("moscow-city", 'cities = ["Moscow"]', MOSCOW),
            ("ural", 'cities = ["Екатеринбург"]', YEKATERINBURG),
            ("russia", 'countries = ["RU"]', RUSSIA),
        )
    )
    + '\n[[display_rule]]\nkey = "all"\npool = "moscow"\n'
)

IN_MOSCOW, IN_YEKATERINBURG, IN_KAZAN, IN_SEOUL = "77.88.55.60", "195.64.208.7", "92.255.1.1", "211.249.220.24"
V6_MOSCOW = "2a02:6b8::1"


def city(country: str, english: str, russian: str) -> dict[str, Any]:
    return {"country": {"iso_code": country}, "city": {"names": {"en": english, "ru": russian}, "geoname_id": 1}}


RECORDS: Mapping[tuple[str, ...], Any] = {
    ("77.88.0.0/16", "2a02:6b8::/32"): city("RU", "Moscow", "Москва"),
    ("195.64.208.0/24",): city("RU", "Yekaterinburg", "Екатеринбург"),
    ("92.255.0.0/16",): {"country": {"iso_code": "RU"}},
    ("211.249.0.0/16",): city("KR", "Seoul", "Сеул"),
}


def write(path: Path, records: Mapping[tuple[str, ...], Any] = RECORDS) -> None:
    """A real file, put in place as updaters do it."""
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-City")
    for networks, record in records.items():
        writer.insert_network(IPSet(networks), record)
    draft = path.with_suffix(".new")
    writer.to_db_file(str(draft))
    draft.replace(path)


@pytest_asyncio.fixture(loop_scope="module")
async def known(tmp_path: Path) -> places.Places:
    write(tmp_path / "city.mmdb")
    made = places.Places(tmp_path / "city.mmdb", look_seconds=0.01)
    await made.look()
    assert made.problem is None and made.built
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def front(database: store.Database, known: places.Places) -> AsyncIterator[Front]:
    headers = {"country_header": "X-Country", "city_header": "X-City"}
    made = Front(database, routing=CITIES, trusted=("127.0.0.1",), place_of=known.of, more=headers)
    async with made.running():
        yield made


async def shown(front: Front, address: str, **headers: str) -> str | None:
    said = await front.post(
        "visit",
        headers={"X-Forwarded-For": address, **{name.replace("_", "-"): text for name, text in headers.items()}},
    )
    assert said.status == 200
    return said.number


async def test_each_city_has_its_number(front: Front) -> None:
    """R94, in whichever language the rule names the city, by IPv4 and IPv6; the country's rule for its other cities."""
    assert await shown(front, IN_MOSCOW) == MOSCOW
    assert await shown(front, V6_MOSCOW) == MOSCOW
    assert await shown(front, IN_YEKATERINBURG) == YEKATERINBURG
    assert await shown(front, IN_KAZAN) == RUSSIA
    assert await shown(front, IN_SEOUL) == "+74990000001"
    assert await shown(front, "8.8.8.8") == "+74990000002"


def read_all(folder: Path, start: str) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir() if path.name.startswith(start)]


async def test_the_place_is_kept_and_the_address_is_not(front: Front, tmp_path: Path) -> None:
    """R107: nowhere in the database."""
    said = await front.post("visit", headers={"X-Forwarded-For": IN_YEKATERINBURG})
    async with front.database.read() as connection:
        found = await timelines.timeline(connection, said.json["visitor"])
    assert found is not None
    assert (found.visits[0].on.country, found.visits[0].on.city) == ("RU", "Yekaterinburg")
    stored = b"".join(read_all(tmp_path, "dialmark.db"))
    assert b"Yekaterinburg" in stored and IN_YEKATERINBURG.encode() not in stored


async def test_a_trusted_proxy_tells_the_place(front: Front) -> None:
    """What its headers leave open the file tells, unless they are of two countries."""
    assert await shown(front, IN_SEOUL, X_Country="RU", X_City="Moscow") == MOSCOW
    assert await shown(front, IN_SEOUL, X_Country="ru", X_City="екатеринбург") == YEKATERINBURG
    assert await shown(front, IN_MOSCOW, X_Country="RU") == MOSCOW
    assert await shown(front, IN_SEOUL, X_Country="RU") == RUSSIA
    assert await shown(front, IN_MOSCOW, X_Country="KR") == "+74990000001"
    for nonsense in ("XX", "T1", "RUS", "R", "", "<b>", "7"):
        assert await shown(front, IN_MOSCOW, X_Country=nonsense) == MOSCOW


async def test_what_a_browser_says_of_its_place_counts_for_nothing(database: store.Database) -> None:
    headers = {"country_header": "X-Country", "city_header": "X-City"}
    front = Front(database, routing=CITIES, more=headers)
    async with front.running():
        assert await shown(front, IN_MOSCOW, X_Country="RU", X_City="Moscow") == "+74990000001"


# ---- The file ----


async def test_a_new_file_is_read_by_itself(known: places.Places, tmp_path: Path) -> None:
    looked = asyncio.Event()
    running = asyncio.create_task(known.run(looked=looked.set))
    write(tmp_path / "city.mmdb", {("77.88.0.0/16",): city("RU", "Tver", "Тверь")})
    async with asyncio.timeout(60):
        while known.of(IN_MOSCOW).cities[0] == "Moscow":
            looked.clear()
            await looked.wait()
    running.cancel()
    assert known.of(IN_MOSCOW) == Place("RU", ("Tver", "Тверь"))
    assert known.of(IN_SEOUL) == placenames.NOWHERE


def damaged(good: bytes) -> dict[str, bytes]:
    middle = len(good) // 2
    return {
        "empty": b"",
        "text": b"<html>404 Not Found</html>" * 100,
        "cut": good[:middle],
        "no tree": good[middle:],
        "zeros": b"\0" * middle + good[middle:],
        "noise": good[: middle // 2] + bytes((7 * one) % 256 for one in range(middle)) + good[middle + middle // 2 :],
    }


@pytest.mark.parametrize("how", damaged(b""))
async def test_a_broken_file_is_said_and_stops_nobody(
    front: Front, known: places.Places, tmp_path: Path, how: str
) -> None:
    """The places known before stay known, until a good file comes; also when it is written over in place."""
    path = tmp_path / "city.mmdb"
    good = path.read_bytes()
    path.write_bytes(damaged(good)[how])
    with capture_logs() as lines:
        for _ in range(3):
            await known.look()
    assert known.problem is not None
    assert [line["event"] for line in lines] == ["places not read, will be tried again"]
    assert await shown(front, IN_MOSCOW) == MOSCOW
    write(path)
    await known.look()
    assert known.problem is None
    assert known.of(IN_YEKATERINBURG).cities == ("Yekaterinburg", "Екатеринбург")


async def test_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "later.mmdb"
    made = places.Places(path)
    await made.look()
    assert made.problem is not None and made.of(IN_MOSCOW) == placenames.NOWHERE
    write(path)
    await made.look()
    assert not made.problem and made.of(IN_MOSCOW).country == "RU"
    path.unlink()
    await made.look()
    assert made.problem is not None and made.of(IN_MOSCOW).country == "RU"


async def test_a_file_that_is_damaged_where_nobody_looked(tmp_path: Path) -> None:
    """Whatever an address leads to, the visitor is served."""
    path = tmp_path / "city.mmdb"
    write(path)
    good = path.read_bytes()
    addresses = [f"{one}.88.55.60" for one in range(0, 256, 5)] + [V6_MOSCOW, IN_YEKATERINBURG]
    for place in range(0, len(good) - 200, 7):
        path.write_bytes(good[:place] + b"\xff\xfe\x20\x3f\x00" + good[place + 5 :])
        made = places.Places(path)
        await made.look()
        for address in addresses:
            assert isinstance(made.of(address), Place)


@pytest.mark.parametrize("address", ["", "unknown", "1.2.3", "::ffff:77.88.55.60", "256.1.1.1", "x" * 1_000, "٣.1.1.1"])
async def test_whatever_calls_itself_an_address(known: places.Places, address: str) -> None:
    assert isinstance(known.of(address), Place)
    assert known.problem is None


ANYTHING = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=150) | some.binary(max_size=9),
    lambda inner: (
        some.lists(inner, max_size=4)
        | some.dictionaries(
            some.sampled_from(["country", "city", "names", "iso_code", "registered_country", "en", "ru", "x"]), inner
        )
    ),
    max_leaves=20,
)


@given(record=ANYTHING, country=some.none() | some.text(max_size=9), name=some.none() | some.text(max_size=150))
def test_a_place_is_a_country_and_the_names_of_a_city_or_nothing(
    record: object, country: str | None, name: str | None
) -> None:
    """Whatever the file or a proxy says: two letters, printable names of at most 100 characters."""
    for place in (placenames.of_record(record), placenames.of_headers(country, name)):
        assert place.country is None or (
            len(place.country) == 2 and place.country.isascii() and place.country.isupper()
        )
        for one in place.cities:
            assert 0 < len(one) <= 100 and one.isprintable()
            one.encode()
