"""A webhook's signature, as Headgate makes it and as the documents' receiver checks it."""

import time

import pytest

from gateway_core.webhooks.signature import TOLERANCE_SECONDS, is_signed, signature
from tests.support.webhook_receiver import Verifies, receiver_of_the_manual

SECRET, BODY = "whsec_1", b'{"a": 1}'


RECEIVERS: dict[str, Verifies] = {"own": is_signed, "manual": receiver_of_the_manual()}


def test_the_signature_is_the_hmac_of_time_and_body() -> None:
    # echo -n '1700000000.{"a": 1}' | openssl dgst -sha256 -hmac whsec_1
    told = signature(SECRET, BODY, 1_700_000_000)
    assert told == "t=1700000000,v1=345767350af79f55505b287500562460532a2fabf206b52ab48ca7a2db2ecf2e"


@pytest.mark.parametrize("name", RECEIVERS)
def test_a_receiver_takes_what_was_signed_and_nothing_else(name: str) -> None:
    takes, now = RECEIVERS[name], int(time.time())
    good = signature(SECRET, BODY)
    code = good.partition("v1=")[2]
    assert takes(SECRET, BODY, good)
    assert takes(SECRET, BODY, f"{good.partition(',')[0]},v1={'0' * 64},v1={code}")
    assert not takes("whsec_2", BODY, good)
    assert not takes(SECRET, BODY + b" ", good)
    for header in (
        "",
        "t=",
        f"v1={code}",
        f"t={now}",
        f"t=x,v1={code}",
        f"t={now + 1},v1={code}",
        good.replace("v1", "v0"),
        "t=1,v1=ä",
    ):
        assert not takes(SECRET, BODY, header), header
    for far in (-TOLERANCE_SECONDS - 60, TOLERANCE_SECONDS + 60):
        assert not takes(SECRET, BODY, signature(SECRET, BODY, now + far))
