"""Where an answer's texts come from: Gemini's grounding becomes the contract's citations.

Source: GroundingMetadata in https://ai.google.dev/api/generate-content#GroundingMetadata.
"""

from collections.abc import Iterator

from headgate.v1.chat_completion_pb2 import Annotation, UrlCitation

from gateway_core.providers.gemini.reading import INT32, whole
from gateway_core.upstream.document import inner, objects, text
from gateway_core.upstream.json_text import Document


def citations(grounding: Document, said: str) -> list[Annotation]:
    """A citation for each page that a piece of the text comes from; takes the whole text.

    Gemini counts bytes, the contract characters. None where the grounding makes no sense: the text is what matters.
    """
    try:
        return list(read(grounding, said.encode()))
    except ValueError:
        return []


def read(grounding: Document, data: bytes) -> Iterator[Annotation]:
    """The citations; raises ValueError where the grounding makes no sense."""
    pages = [inner(chunk, "web") for chunk in objects(grounding, "groundingChunks")]
    for support in objects(grounding, "groundingSupports"):
        segment = inner(support, "segment")
        start, end = (characters(data, whole(segment, name, INT32) or 0) for name in ("startIndex", "endIndex"))
        places = support.get("groundingChunkIndices")
        for place in places if type(places) is list else ():
            page = pages[place] if type(place) is int and 0 <= place < len(pages) else {}
            if url := text(page, "uri"):
                cited = UrlCitation(url=url, title=text(page, "title"), start_index=start, end_index=end)
                yield Annotation(url_citation=cited)


def characters(data: bytes, count: int) -> int:
    """How many characters some first bytes of a text are."""
    return len(data[:count].decode(errors="ignore"))
