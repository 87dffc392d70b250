"""What a model thought, on its way back to it: Converse takes what is signed or encrypted, and wants it unchanged.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ReasoningContentBlock.html; that signatures
of Claude hold on every platform is told by Anthropic's "Extended thinking".
"""

from headgate.v1.message_pb2 import ChatMessage, ReasoningDetail

from gateway_core.call import Rewrite
from gateway_core.providers.bedrock.written import Written
from gateway_core.upstream.json_text import Document

SIGNED = "anthropic-claude-v1"
"""The format of thoughts that are signed."""

ENCRYPTED = "bedrock-converse-v1"
"""The format of thoughts that only Bedrock can read."""

TEXT, DATA = "reasoning.text", "reasoning.encrypted"
"""The types of reasoning details."""

UNWANTED = "left out, Bedrock takes back only reasoning that it or Claude has signed or encrypted"


def reasoning_blocks(message: ChatMessage, path: str, written: Written, *, takes_signed: bool) -> list[Document]:
    """The thoughts of an earlier turn; the rest is left out, which no model there misses, and is told.

    Takes whether the model takes back what Claude has signed.
    """
    details = [detail for detail in message.reasoning_details if takes_signed or not detail.signature]
    blocks = [block for detail in details if (block := reasoning_block(detail)) is not None]
    if len(blocks) < len(message.reasoning_details):
        written.rewrites.append(Rewrite(f"{path}.reasoning_details", UNWANTED))
    elif message.reasoning and not blocks:
        written.rewrites.append(Rewrite(f"{path}.reasoning", UNWANTED))
    return blocks


def reasoning_block(detail: ReasoningDetail) -> Document | None:
    """One thought; None for one that Converse does not take back."""
    if detail.type == TEXT and detail.signature and detail.format in ("", SIGNED, ENCRYPTED):
        return {"reasoningContent": {"reasoningText": {"text": detail.text, "signature": detail.signature}}}
    if detail.type == DATA and detail.data and detail.format == ENCRYPTED:
        return {"reasoningContent": {"redactedContent": detail.data}}
    return None


def lacks_thoughts(message: ChatMessage) -> bool:
    """Whether a message calls tools and does not bring back what was thought before: Claude then must not think on."""
    is_thought = any(reasoning_block(detail) is not None for detail in message.reasoning_details)
    return bool(message.tool_calls) and not is_thought
