"""What each failure is, and the table of what is done with it."""

import pytest

from gateway_core.errors import (
    ContextTooLong,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    ProviderBroken,
    ProviderHungUp,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnauthorized,
    ProviderUnreachable,
)
from gateway_core.routing.failure import TABLE, Failure, Next, Wait, failure


def refused(status: int, message: str = "No.", wait: float | None = None, **fields: str) -> ProviderRefused:
    return ProviderRefused(message, retry_after_seconds=wait, provider="lab", upstream_status=str(status), **fields)


CASES: list[tuple[GatewayError, Failure | None]] = [
    (refused(429, wait=0), Failure.LIMITED_FOR),
    (refused(503, wait=3), Failure.LIMITED_FOR),
    (refused(529, wait=3), Failure.LIMITED_FOR),
    (refused(500, wait=3), Failure.FAILED),
    (refused(429), Failure.LIMITED),
    (refused(429, wait=1, upstream_code="insufficient_quota"), Failure.UNPAID),
    (refused(429, upstream_code="rate_limit_exceeded", upstream_type="requests"), Failure.LIMITED),
    # Anthropic says 400 of an account without money, Google 400, xAI 403 and 429.
    (refused(400, "Your credit balance is too low to access the Anthropic API.", upstream_type="invalid_request_error"), Failure.UNPAID),
    (refused(400, "You have reached your specified API usage limits. You will regain access on 2026-12-01."), Failure.UNPAID),
    (refused(400, "Please enable billing on your project.", upstream_type="FAILED_PRECONDITION"), Failure.UNPAID),
    (refused(429, "Your team has either used all available credits or reached its monthly spending limit."), Failure.UNPAID),
    (refused(403, "You have run out of credits."), Failure.UNPAID),
    (refused(409), Failure.LIMITED),
    *((refused(status), Failure.FAILED) for status in (500, 502, 503, 504, 520, 529)),
    (refused(501), Failure.UNIMPLEMENTED),
    (refused(408), Failure.SILENT),
    (refused(402), Failure.UNPAID),
    (refused(403), Failure.UNAUTHORIZED),
    (refused(403, "Unsupported country, region, or territory."), Failure.UNAUTHORIZED),
    (refused(403, "Your input was flagged."), Failure.FILTERED),
    (refused(403, upstream_code="content_filter"), Failure.FILTERED),
    (refused(400, upstream_code="content_filter"), Failure.FILTERED),
    (refused(400, upstream_type="content_policy_violation"), Failure.FILTERED),
    (refused(400, "The response was filtered due to the prompt triggering content management policy."), Failure.FILTERED),
    (refused(400, upstream_code="context_length_exceeded"), Failure.TOO_LONG),
    (refused(400, upstream_type="exceed_context_size_error"), Failure.TOO_LONG),
    (refused(400, "prompt is too long: 215000 tokens > 200000 maximum"), Failure.TOO_LONG),
    (refused(400, "Input is too long for requested model."), Failure.TOO_LONG),
    (refused(400, "The input token count (1200000) exceeds the maximum number of tokens allowed"), Failure.TOO_LONG),
    # Anthropic, and Claude at Bedrock.
    (refused(400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"), Failure.TOO_LONG),
    (refused(400, "The model returned the following errors: prompt is too long: 2 > 1"), Failure.TOO_LONG),
    # Amazon's own models.
    (refused(400, "Input Tokens Exceeded: Number of input tokens exceeds maximum length."), Failure.TOO_LONG),
    # Google's Vertex AI, xAI, Moonshot, Text Generation Inference, Z.ai, GitHub Models, Ollama.
    (refused(400, "the input token count is 1200000 but model only supports up to 1048576"), Failure.TOO_LONG),
    (refused(400, "This model's maximum prompt length is 131072 but the request contains 537812"), Failure.TOO_LONG),
    (refused(400, "Your request exceeded model token limit: 262144"), Failure.TOO_LONG),
    (refused(422, "`inputs` tokens + `max_new_tokens` must be <= 4096"), Failure.TOO_LONG),
    (refused(400, "Prompt exceeds max length"), Failure.TOO_LONG),
    (refused(413, "Request body too large", upstream_code="tokens_limit_reached"), Failure.TOO_LONG),
    (refused(400, "the input length exceeds the context length"), Failure.TOO_LONG),
    (refused(413, "This model's maximum context length is 8192 tokens."), Failure.TOO_LONG),
    (refused(413), Failure.REFUSED),
    (refused(400), Failure.REFUSED),
    (refused(400, "max_tokens is too large"), Failure.REFUSED),
    (refused(404), Failure.REFUSED),
    (refused(422), Failure.REFUSED),
    (ProviderHungUp("", provider="lab"), Failure.HUNG_UP),
    (ProviderBroken("", provider="lab"), Failure.BROKEN),
    (ProviderUnreachable("", provider="lab"), Failure.UNREACHABLE),
    (ProviderUnauthorized("", provider="lab", upstream_status="401"), Failure.UNAUTHORIZED),
    (ProviderTimeout("", provider="lab", phase="connect"), Failure.UNREACHABLE),
    (ProviderTimeout("", provider="lab", phase="first_token"), Failure.SLOW),
    *((ProviderTimeout("", provider="lab", phase=phase), Failure.SILENT) for phase in ("first_byte", "idle", "total")),
    (ContextTooLong("", param="messages", limit="1", input_tokens="2"), Failure.TOO_LONG),
    (DeadlineExceeded(""), None),
    (InvalidRequest("", param="messages"), None),
]  # fmt: skip


@pytest.mark.parametrize(("error", "what"), CASES, ids=repr)
def test_a_failure_is_what_its_error_tells(error: GatewayError, what: Failure | None) -> None:
    assert failure(error) is what


def test_the_table_has_a_rule_for_every_failure() -> None:
    assert set(TABLE) == set(Failure)


def test_what_is_the_requests_own_fault_is_tried_nowhere_else_and_blames_nobody() -> None:
    for what in (Failure.FILTERED, Failure.REFUSED):
        rule = TABLE[what]
        assert (rule.retries, rule.next, rule.breaks, rule.alarms) == (0, Next.NONE, False, False)


def test_a_silent_target_is_not_asked_again() -> None:
    assert all(TABLE[what].retries == 0 for what in (Failure.SILENT, Failure.SLOW, Failure.UNREACHABLE))


def test_nobody_is_asked_more_than_once_again() -> None:
    assert all(rule.retries <= 1 for rule in TABLE.values())
    assert all(rule.wait is Wait.NONE or rule.retries for rule in TABLE.values())
