"""Where an answer's texts come from: Gemini's grounding becomes the contract's citations.

Source: GroundingMetadata in https://ai.google.dev/api/generate-content#GroundingMetadata.
"""

from headgate.v1.chat_completion_pb2 import AnswerMessage

from gateway_core.providers.gemini.reading import INT32, Document, inner, objects, text, whole


def put_citations(message: AnswerMessage, grounding: Document, said: str) -> None:
    """Adds a citation for each page that a piece of the text comes from; takes the whole text.

    Gemini counts bytes, the contract characters.
    """
    data = said.encode()
    pages = [inner(chunk, "web") for chunk in objects(grounding, "groundingChunks")]
    for support in objects(grounding, "groundingSupports"):
        segment = inner(support, "segment")
        start, end = (characters(data, whole(segment, name, INT32) or 0) for name in ("startIndex", "endIndex"))
        places = support.get("groundingChunkIndices")
        for place in places if type(places) is list else ():
            page = pages[place] if type(place) is int and 0 <= place < len(pages) else {}
            if url := text(page, "uri"):
                cited = message.annotations.add().url_citation
                cited.url, cited.title = url, text(page, "title")
                cited.start_index, cited.end_index = start, end


def characters(data: bytes, count: int) -> int:
    """How many characters some first bytes of a text are."""
    return len(data[:count].decode(errors="ignore"))
