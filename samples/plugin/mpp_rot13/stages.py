"""The stage."""

import string

from mpp_stages.byte_stage import CHUNK_BYTES, ByteStage


class Rot13(ByteStage):
    """Rotate the letters of the alphabet.

    Args:
        by: How many places.
    """

    name = "rot13"
    adds_suffix = ".rot"

    def __init__(self, by: int = 13) -> None:
        super().__init__()
        if not 0 <= by < 26:
            raise ValueError(f"by must be from 0 to 25, not {by}")
        self.by = by

    def run(self, reader, writer, item):
        small, large = string.ascii_lowercase, string.ascii_uppercase
        rotated = "".join(letters[self.by :] + letters[: self.by] for letters in (small, large))
        table = bytes.maketrans((small + large).encode(), rotated.encode())
        while chunk := reader.read1(CHUNK_BYTES):
            writer.write(chunk.translate(table))
