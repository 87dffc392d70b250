"""OpenAI's usage object becomes the contract."""

from gateway_core.providers.openai.reading import Fields, part

PROMPT_DETAILS: Fields = {
    name: int for name in ("cached_tokens", "audio_tokens", "cache_write_tokens", "text_tokens", "image_tokens")
}
COMPLETION_DETAILS: Fields = {
    name: int
    for name in (
        "reasoning_tokens",
        "audio_tokens",
        "text_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
    )
}
USAGE: Fields = {
    "prompt_tokens": int,
    "completion_tokens": int,
    "total_tokens": int,
    "prompt_tokens_details": part("prompt_tokens_details", PROMPT_DETAILS),
    "completion_tokens_details": part("completion_tokens_details", COMPLETION_DETAILS),
}
