"""OpenAI's usage object becomes the contract."""

from gateway_core.providers.openai.reading import integer, part

PROMPT_DETAILS = {
    name: integer(name)
    for name in ("cached_tokens", "audio_tokens", "cache_write_tokens", "text_tokens", "image_tokens")
}
COMPLETION_DETAILS = {
    name: integer(name)
    for name in (
        "reasoning_tokens",
        "audio_tokens",
        "text_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
    )
}
USAGE = {
    "prompt_tokens": integer("prompt_tokens"),
    "completion_tokens": integer("completion_tokens"),
    "total_tokens": integer("total_tokens"),
    "prompt_tokens_details": part("prompt_tokens_details", PROMPT_DETAILS),
    "completion_tokens_details": part("completion_tokens_details", COMPLETION_DETAILS),
}
