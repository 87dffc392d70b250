"""The one error of the load: an answer that does not count."""


class WrongAnswer(Exception):
    """The server under test answered wrongly, or not at all."""
