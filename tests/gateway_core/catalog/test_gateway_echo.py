"""A beginning that is put before an answer leaves what was told of its pieces true."""

from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk, ChunkChoice

from gateway_core.catalog.gateway_echo import with_beginning


def test_the_first_of_pieces_that_arrived_together_begins_with_it() -> None:
    begun: set[int] = set()
    role = ChatCompletionChunk(choices=[ChunkChoice(delta=AnswerMessage())])
    assert with_beginning(role, "{é", begun) == role
    chunk = ChatCompletionChunk(choices=[ChunkChoice(delta=AnswerMessage(content="abc"))], piece_lengths=[1, 2])
    told = with_beginning(chunk, "{é", begun)
    assert (told.choices[0].delta.content, list(told.piece_lengths)) == ("{éabc", [3, 2])
    assert (chunk.choices[0].delta.content, list(chunk.piece_lengths)) == ("abc", [1, 2])
    assert with_beginning(chunk, "{é", begun) is chunk
