"""What an answer tells beside itself is what metadata can carry, whoever is named in it."""

import grpc.aio
import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call, GatewayUse, Rewrite, Target
from gateway_core.inprocess.metadata import Texts, received
from gateway_core.services.chat_completion import ChatCompletion
from gateway_core.services.edge import answer_metadata
from gateway_core.tokens import Tokens


class Left:
    keys: tuple[str, ...] = (
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    )

    def values(self) -> list[str]:
        return ["10", "9", "1m0s"]


def ended(provider: str = "lab") -> Call[ChatCompletionSpec]:
    call = Call("r-1", ChatCompletion(), ChatCompletionSpec(model="m"), stream=False)
    call.target = Target(provider, "tiny")
    call.attempt_count, call.failed_attempts = 2, ("läb/tiny=503",)
    call.gateway = GatewayUse("g-1", "desk", 1)
    call.usage = Tokens(prompt=3, completion=4)
    call.cost_pico_usd = 16_000_000
    call.limits_left = Left()
    call.rewrites = [Rewrite("top_k", "nö\n"), Rewrite("n", "one")]
    return call


def test_an_answer_tells_all_that_is_known_of_its_call() -> None:
    told = answer_metadata(ended())
    assert tuple(told) == (
        ("x-headgate-request-id", "r-1"),
        ("x-headgate-provider", "lab"),
        ("x-headgate-attempts", r"l\xe4b/tiny=503, lab/tiny=ok"),
        ("x-headgate-gateway", "g-1"),
        ("x-headgate-input-tokens", "3"),
        ("x-headgate-output-tokens", "4"),
        ("x-headgate-cost", "0.000016"),
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "9"),
        ("x-ratelimit-reset-requests", "1m0s"),
        ("x-headgate-warning", r"top_k: n\xf6\n"),
        ("x-headgate-warning", "n: one"),
    )
    assert received(told) is told
    assert received(Texts(*told.columns)) == tuple(told), "it is what would have been found out by looking"


def test_a_call_that_got_nowhere_tells_its_id() -> None:
    call = Call("r-1", ChatCompletion(), ChatCompletionSpec(model="m"), stream=False)
    assert tuple(received(answer_metadata(call))) == (("x-headgate-request-id", "r-1"),)


@pytest.mark.parametrize("odd", ["lä", "a\r\nb: c", "a\x7f", "\u2028"])
def test_the_name_of_a_provider_that_no_transport_takes_is_found_out(odd: str) -> None:
    with pytest.raises(grpc.aio.InternalError):
        received(answer_metadata(ended(odd)))
