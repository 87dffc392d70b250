"""What hosts call the failures that they tell without an HTTP status, and what they mean by 403."""

import re

# The statuses with which the same words come where they come with one. Sources: OpenAI's error codes, Anthropic's
# errors (for hosts that pass them on), llama.cpp's format_error_response, vLLM's ErrorResponse, Google's RPC codes, the
# exceptions of Amazon Bedrock's Converse.
STATUSES = {
    "invalid_request_error": 400,
    "invalid_request": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "out_of_range": 400,
    "bad_request_error": 400,
    "badrequesterror": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "string_above_max_length": 400,
    "invalid_prompt": 400,
    "content_policy_violation": 400,
    "content_filter": 400,
    "authentication_error": 401,
    "authenticationerror": 401,
    "invalid_api_key": 401,
    "unauthenticated": 401,
    "billing_error": 402,
    "insufficient_balance": 402,
    "permission_error": 403,
    "permission_denied": 403,
    "permissiondeniederror": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "not_found": 404,
    "model_not_found": 404,
    "aborted": 409,
    "request_too_large": 413,
    "insufficient_quota": 429,
    "credit_balance_exhausted": 429,
    "organization_spend_limit_exceeded": 429,
    "organization_usage_limit_exceeded": 429,
    "project_spend_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "rate_limit": 429,
    "ratelimiterror": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "server_error": 500,
    "internal_server_error": 500,
    "internalservererror": 500,
    "internal_error": 500,
    "internal": 500,
    "unknown": 500,
    "data_loss": 500,
    "api_error": 500,
    "not_supported_error": 501,
    "unimplemented": 501,
    "overloaded": 503,
    "slow_down": 503,
    "unavailable": 503,
    "unavailable_error": 503,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "serviceunavailableerror": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
    "overloaded_error": 529,
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "throttlingexception": 429,
    "modelnotreadyexception": 429,
    "internalserverexception": 500,
    "serviceunavailableexception": 503,
}

KEY = re.compile(
    r"(?<![a-z])(keys?|access|iam)(?![a-z])|apikey|accessdenied|permission|authenti|authori[sz]|credential"
    r"|security token|unrecognizedclient|expiredtoken|signature",
    re.IGNORECASE,
)
"""What is said of a key that may not do what was asked of it."""

CONTENT = re.compile(r"content[ _-]?(policy|filter)|moderat|safety|flagged|region|country|territory", re.IGNORECASE)
"""What is said of a request, or of where it comes from."""


def event_status(code: str, kind: str) -> int | None:
    """The HTTP status that fits a failure inside of an answer, from its code and its type; None where none does."""
    if re.fullmatch(r"[45]\d\d", code):
        return int(code)
    return STATUSES.get(code.lower()) or STATUSES.get(kind.lower())


def is_about_the_key(*said: str) -> bool:
    """Whether a host that forbids (403) speaks of the key that it was given, and not of what was asked."""
    return any(KEY.search(text) for text in said) and not any(CONTENT.search(text) for text in said)
