"""How a webhook is posted: to whom, under which certificate, for how long, and what comes of it."""

import socket
from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import Config
from gateway_core.storage.account import hook_secret_place
from gateway_core.storage.secret_box import SecretBox
from gateway_core.storage.webhook import Endpoint
from gateway_core.webhooks.event import webhook
from gateway_core.webhooks.sender import ANSWER_BYTES, Outcome, Sender
from tests.gateway_core.webhooks.conftest import config
from tests.support.certificate import server_context
from tests.support.upstream import Answer, Cut, Silence, Upstream, answer, head
from tests.support.webhook_receiver import OK, hooks_url, is_signed_by

BOX = SecretBox("a secret key of the tests, long enough", "tests")
OTHER_BOX = SecretBox("another secret key of the tests, long enough", "tests")
PUBLIC_ONLY = Config()
ROW = webhook("key.deleted", "a", {"label": "ä"})._replace(attempts=3)


async def sent(url: str, settings: Config, **fields: Any) -> Outcome:
    return await Sender(settings, BOX).send(
        Endpoint(**{"account_id": "a", "url": url, "events": None, "hook_secret": None, **fields}), ROW
    )


async def test_a_webhook_arrives_whole_and_signed(receiver: Upstream) -> None:
    sealed = BOX.seal("whsec_1", hook_secret_place("a"))
    assert (await sent(hooks_url(receiver), config(), hook_secret=sealed)).delivered
    (request,) = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/hooks/?for=headgate", ROW.body.encode())
    assert is_signed_by("whsec_1", request)
    assert not is_signed_by("whsec_2", request)
    told = {
        name: request.headers[name]
        for name in ("content-type", "x-headgate-event", "x-headgate-delivery", "x-headgate-attempt")
    }
    assert told == {
        "content-type": "application/json",
        "x-headgate-event": "key.deleted",
        "x-headgate-delivery": ROW.id,
        "x-headgate-attempt": "3",
    }


async def test_a_secret_that_cannot_be_read_sends_nothing(receiver: Upstream) -> None:
    sealed = OTHER_BOX.seal("whsec_1", hook_secret_place("a"))
    outcome = await sent(hooks_url(receiver), config(), hook_secret=sealed)
    assert not outcome.delivered
    assert "whsec" not in outcome.error
    assert receiver.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/",
        "https://localhost:{port}/",
        "https://[::1]:{port}/",
        "https://2130706433:{port}/",
        "https://0x7f.1:{port}/",
        "https://169.254.169.254/",
        "http://127.0.0.1:{port}/",
        "http://example.com/",
    ],
)
async def test_what_is_not_public_is_refused_when_it_is_sent_too(receiver: Upstream, url: str) -> None:
    outcome = await sent(url.format(port=receiver.port), PUBLIC_ONLY)
    assert not outcome.delivered
    assert receiver.connections == []


async def test_a_name_that_leads_into_a_private_network_is_refused(
    receiver: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", receiver.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    outcome = await sent("https://hooks.example.com/", PUBLIC_ONLY)
    assert outcome == Outcome(None, "The endpoint has an address that may not be asked.")
    assert receiver.connections == []


async def test_the_certificate_must_be_that_of_the_name_wherever_the_name_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Upstream(tls=server_context(tmp_path)) as receiver:
        receiver.script(OK)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", receiver.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        wrong = await sent(f"https://hooks.example.com:{receiver.port}/", config())
        assert "it is for another host" in wrong.error
        assert receiver.requests == []
        assert (await sent(f"https://localhost:{receiver.port}/", config())).delivered
        (request,) = receiver.requests
        assert request.headers["host"] == f"localhost:{receiver.port}"


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        (answer(status=200), 200, ""),
        (answer(status=299), 299, ""),
        (answer([b"x" * 10_000] * 20), 200, ""),
        ([head(200, {"content-length": str(10 * ANSWER_BYTES)}), b"x" * 10, Cut()], 200, ""),
        ([head(204), Silence()], 204, ""),
        (answer(status=410), 410, "status 410"),
        (answer(status=404), 404, "status 404"),
        (answer(status=307, headers={"location": "http://127.0.0.1/"}), None, "status 307, which is not followed"),
        ([b"garbage\r\n\r\n"], None, "not HTTP"),
        ([Cut()], None, "closed the connection"),
    ],
)
async def test_only_a_2xx_is_a_delivery(receiver: Upstream, given: Answer, status: int | None, told: str) -> None:
    receiver.script(given)
    outcome = await sent(hooks_url(receiver), config())
    assert (outcome.status, outcome.delivered, outcome.is_gone) == (status, not told, status == 410)
    assert told in outcome.error
    assert len(receiver.requests) == 1


async def test_an_endpoint_that_is_silent_is_waited_for_so_long_only(receiver: Upstream) -> None:
    receiver.script([Silence()])
    outcome = await sent(hooks_url(receiver), config(timeout_seconds=0.1))
    assert outcome.status is None
    assert "took too long" in outcome.error or "within 0.1 s" in outcome.error
    # A body without an end is not waited for longer, and what its status says counts.
    receiver.script([head(200, {"content-length": "5"}), Silence()])
    assert (await sent(hooks_url(receiver), config(timeout_seconds=0.1))).delivered


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("99999", 3600), ("soon", 0), ("-1", 0), ("²", 0)])
async def test_an_endpoint_says_when_it_wants_to_be_asked_again(receiver: Upstream, value: str, seconds: int) -> None:
    receiver.script([head(503, {"content-length": "0"})[:-2] + b"retry-after: " + value.encode("utf-8") + b"\r\n\r\n"])
    assert (await sent(hooks_url(receiver), config())).retry_after_seconds == seconds
