"""Stages as a user writes them, as the text of a file."""

STAGES = '''\
"""Stages of a user's own."""
from typing import Literal
from mpp_stages.byte_stage import ByteStage

class Add(ByteStage):
    """Put some text behind the data.

    Args:
        text: What is put there,
            on as many lines as it takes.
        times: How often.
        mode: How.
        share: A part of one.
        words: Some words.
    """

    def __init__(
        self, text: str, times: int = 1, mode: Literal["fast", "slow"] = "fast", share: float | None = None,
        words: list[str] | None = None,
    ) -> None:
        super().__init__()
        if times > 100:
            raise ValueError(f"times must be at most 100, not {times}")
        if text == "forbidden":
            raise ValueError("text must not be 'forbidden'")
        self.text, self.times, self.mode, self.share, self.words = text, times, mode, share, words

    def run(self, reader, writer, item):
        writer.write(reader.read() + self.text.encode() * self.times)

class Plain(ByteStage):
    def run(self, reader, writer, item):
        writer.write(reader.read())

class Anything(Plain):
    def __init__(self, **options):
        super().__init__()
        if "bad" in options:
            raise KeyError("bad")

ready = Add("!", 2)
pipeline = [Add("a"), Add("b")]
def function(): return pipeline
def no_stage(): return 3
number = 3
'''
