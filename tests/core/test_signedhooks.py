"""Messages signed by the rules of Standard Webhooks, against the published vector and the published verifier."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import signedhooks

VECTOR = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'


def test_the_vector_of_the_specification() -> None:
    keys = signedhooks.keys(SECRET)
    assert signedhooks.verified(VECTOR, BODY, keys, 1614265330) == VECTOR["webhook-id"]
    upper = {name.title(): value for name, value in VECTOR.items()}
    assert signedhooks.verified(upper, BODY, keys, 1614265630) == VECTOR["webhook-id"]
    for now in (1614265631, 1614265029):
        with pytest.raises(signedhooks.NotSigned, match="timestamp"):
            signedhooks.verified(VECTOR, BODY, keys, now)


@given(
    body=st.text(max_size=60).filter(lambda text: text.isascii()),
    altered=st.text(max_size=60).filter(lambda text: text.isascii()),
    header=st.sampled_from(["{good}", "v1,AAAA {good}", "{good} v1,AAAA", "v1a,x {good}", "v2,{bare}", "v1,{cut}"]),
)
def test_it_agrees_with_the_published_verifier(body: str, altered: str, header: str) -> None:
    published = standardwebhooks.Webhook(SECRET)
    now = datetime.now(UTC)
    good = published.sign("msg_1", now, body)
    bare = good.removeprefix("v1,")
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": header.format(good=good, bare=bare, cut=base64.b64encode(b"x").decode()),
    }
    try:
        published.verify(altered, headers, json_parse=False)
        theirs = True
    except standardwebhooks.WebhookVerificationError:
        theirs = False
    try:
        signedhooks.verified(headers, altered.encode(), signedhooks.keys(SECRET), now.timestamp())
        ours = True
    except signedhooks.NotSigned:
        ours = False
    assert ours == theirs


@pytest.mark.parametrize("text", ["", "whsec_", "secret", f"{SECRET}\n{SECRET}\n{SECRET}", "whsec_!!!", SECRET[6:]])
def test_a_secret_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        signedhooks.keys(text)
    assert SECRET[6:] not in str(caught.value)
