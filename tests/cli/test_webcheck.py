"""`verify --web` (R28, R40, R46): real pages in the operator's Chromium, against what the rules say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli import webclinic
from tests.cli.conftest import Operator
from tests.cli.webclinic import FIRST, PRINTED, SITE_NUMBER, YEKATERINBURG, WebClinic


@pytest.fixture
def clinic(operator: Operator) -> Iterator[WebClinic]:
    operator.apply(webclinic.ROUTING)
    with webclinic.served(operator.folder / "dialmark.db") as made:
        yield made


def test_each_campaign_sees_its_number(operator: Operator, clinic: WebClinic) -> None:
    """R40: untagged, by a source's tags, by a referrer, from a city; and no number is lent to anybody."""
    found = operator("verify", "--web", "--no-sandbox", clinic.page(), "--format", "json").json
    assert found
    print(found)
