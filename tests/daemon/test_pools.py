"""The daemon as lender of numbers: what it tells of itself, the public listener, own tables of traffic sources."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gateway.store import leases
from tests.config import files
from tests.daemon.site import Site
from tests.services import clinic


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder: Path = tmp_path_factory.mktemp("s")
    return Site(folder, f"sqlite:///{folder}/dialmark.db")


def fetched(port: int) -> int | str:
    """Status of the public listener's answer to what nobody asks, or why there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except urllib.error.URLError as error:
        return type(error.reason).__name__


async def test_what_it_tells_of_pools(site: Site) -> None:
    """R101: readiness and metrics, before anybody came."""
    await site.apply(clinic.ROUTING)
    async with site.running():
        found = await site.check("pools")
        metrics = await site.metrics()
        await site.until_said("leases taken up")
    assert (found["well"], found["required"], found["summary"]) == (True, False, "1 pools")
    assert found["facts"] == {"pools": 1, "exhausted": 0, "lost": 0, "refused": 0}
    assert metrics['dialmark_numbers_shown_total{result="pool"}'] == 0
    assert metrics["dialmark_pools_exhausted_total"] == metrics["dialmark_lending_problem"] == 0
    assert site.code == 0


async def test_a_called_number_is_held_before_the_journal_knows(site: Site) -> None:
    """R99: the routing question alone keeps the number from the next visitor."""
    await site.apply(clinic.ROUTING)
    async with site.running():
        await site.until_said("leases taken up")
        before_us = time.time_ns() // 1_000
        assert (await site.plan())["DM_OK"] == "1"
        async with site.open_store() as database:
            held = 0
            while held <= before_us:
                async with database.read() as connection:
                    _, slot = await leases.slot_of(connection, clinic.FIRST) or (None, None)
                held = slot.call_until_us if slot is not None else 0
                assert time.time_ns() // 1_000 < before_us + 20_000_000, "nobody holds the called number"


async def test_a_port_that_is_taken_stops_nobody(site: Site) -> None:
    """N1: calls and the admin listener go on; pages are served once the port is free."""
    with socket.create_server(("127.0.0.1", site.public)):
        await site.apply(clinic.ROUTING)
        async with site.running():
            refused = await site.check("public listener")
            assert (refused["well"], refused["required"]) == (False, False)
            assert "address already in use" in refused["summary"]
            assert (await site.plan())["DM_OK"] == "1"
            await site.until_said("public listener not open, will be tried again")
    async with site.running():
        assert (await site.check("public listener"))["well"]
        assert fetched(site.public) == 404
    assert fetched(site.public) == "ConnectionRefusedError"


async def test_the_port_becomes_free(site: Site) -> None:
    await site.apply(clinic.ROUTING)
    with socket.create_server(("127.0.0.1", site.public)) as taken:
        async with site.running():
            taken.close()
            await site.until_said("public listener open")
            assert (await site.check("public listener"))["well"]
            assert fetched(site.public) == 404


async def test_no_public_listener(site: Site) -> None:
    """`web.port = 0`: no check, nothing listens."""
    site.settings["web"]["port"] = 0
    await site.apply(clinic.ROUTING)
    async with site.running():
        assert "public=" not in next(line for line in site.said if "READY" in line)
        with pytest.raises(KeyError):
            await site.check("public listener")


async def test_a_broken_table_of_traffic_sources(site: Site) -> None:
    """R108: it is told and left out; calls do not wait until it is mended."""
    table = site.folder / "own.csv"
    table.write_text("kind,match,name,medium,detail\nnothing,x,y,,\n")
    site.settings["web"]["traffic_file"] = str(table)
    await site.apply(clinic.ROUTING)
    async with site.running():
        await site.until_said("own table of traffic sources is not used")
        assert (await site.plan())["DM_OK"] == "1"


async def test_an_own_table_of_traffic_sources(site: Site) -> None:
    """R108: rules may use what only it knows."""
    table = site.folder / "own.csv"
    table.write_text("kind,match,name,medium,detail\nclick_id,houseid,house,paid_search,64\n")
    site.settings["web"]["traffic_file"] = str(table)
    rule = 'key = "radio-jazz"\nname = "Radio"\nchannel = "offline"\n[[source.visits]]\nclick_ids = ["houseid"]\n'
    await site.apply(f"{files.SMALL}\n[[source]]\n{rule}")
    async with site.running():
        assert (await site.plan())["DM_OK"] == "1"
        assert not any("routing problem" in line for line in site.said)
