"""`doctor` on what visitors' browsers reach (R93, R108)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from tests.cli.conftest import ROUTING, Operator
from tests.rig import ports
from tests.services import clinic


@contextmanager
def listener(status: int) -> Iterator[int]:
    """Answers every question for a script with this status; gives its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/dni/v1/clinic.js" else 400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def told(operator: Operator, web: str, check: str) -> tuple[str, str, str] | None:
    """State, text and advice of one check with this `[web]`."""
    before = operator.config.read_text()
    operator.config.write_text(f"{before}[web]\n{web}\n")
    rows = operator("doctor", "--format", "json", code=1).json
    operator.config.write_text(before)
    return next(((row["state"], row["text"], row["advice"]) for row in rows if row["check"] == check), None)


def test_the_public_listener(operator: Operator) -> None:
    operator.apply(clinic.ROUTING)
    check = "public listener"
    with listener(200) as port:
        found = told(operator, f"port = {port}", check)
    assert found is not None
    assert found[:2] == ("ok", f"http://127.0.0.1:{port} serves the script of clinic")
    with listener(404) as port:
        found = told(operator, f"port = {port}", check)
    assert found is not None and found[0] == "fail" and "Not Found" in found[1]
    found = told(operator, f"port = {ports.free_port()}", check)
    assert found is not None and found[0] == "fail" and "refused" in found[1]
    found = told(operator, "port = 0", check)
    assert found is not None and found[0] == "fail" and "set web.port" in found[2]


def test_a_house_without_web_sites_needs_no_listener(operator: Operator) -> None:
    operator.apply(ROUTING)
    assert told(operator, "port = 0", "public listener") is None
    assert told(operator, "", "visitors' addresses") is None


def test_a_proxy_must_be_named(operator: Operator) -> None:
    """Else the limits by address would count all visitors as one."""
    operator.apply(clinic.ROUTING)
    check = "visitors' addresses"
    with listener(200) as port:
        found = told(operator, f"port = {port}", check)
        assert found is not None and found[0] == "warn" and "web.trusted_proxies" in found[2]
        assert told(operator, f'port = {port}\ntrusted_proxies = ["127.0.0.1/32"]', check) is None


def test_own_files_that_are_broken(operator: Operator) -> None:
    table = operator.folder / "own.csv"
    table.write_text("kind,match,name,medium,detail\nnothing,x,y,,\n")
    found = told(operator, f'traffic_file = "{table}"', "web.traffic_file")
    assert found is not None and found[0] == "fail" and "own.csv: line 2" in found[1]
    found = told(operator, f'places_file = "{operator.folder}/gone.mmdb"', "web.places_file")
    assert found is not None and found[0] == "fail" and "No such file" in found[1]
