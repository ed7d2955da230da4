"""Decompression of one or more members (streams, frames) one after another, in bounded portions.

A format says how a member begins, what decodes one, and what may stand behind it; the loop is the same for all.
"""

from __future__ import annotations

import io
from typing import ClassVar, Final, Protocol

from .buffers import keep_freed_memory
from .byte_stage import CHUNK_BYTES, ByteStage
from .errors import StageDataError
from .file_item import FileItem

#: Compressed bytes handed to a decoder at once. It keeps what it has not decoded yet, and moves it for each portion
#: of output: little, so that a small input with a huge content is not moved again and again.
_READ_BYTES: Final = 64 << 10


class Decoder(Protocol):
    """What decodes one member, as those of bz2, lzma, isal and lz4 do."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class MemberInput:
    """The compressed input of one item, of which some bytes can be looked at before they are taken.

    Args:
        reader: Gives the compressed bytes.
        stage: Says for messages what the format is called.
        item: Says for messages what the input is called.
    """

    def __init__(self, reader: io.BufferedReader, stage: MemberStage, item: FileItem) -> None:
        self._reader = reader
        self._stage = stage
        self._item = item
        self._ahead = b""
        #: How many bytes have been taken.
        self.position = 0

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer only at the end; they are still to come."""
        while len(self._ahead) < size and (more := self._reader.read1(_READ_BYTES)):
            self._ahead += more
        return self._ahead[:size]

    def take(self) -> bytes:
        """Some bytes; none at the end."""
        data, self._ahead = self._ahead or self._reader.read1(_READ_BYTES), b""
        self.position += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        """Put back what was taken last and not used."""
        self._ahead = data + self._ahead
        self.position -= len(data)

    def skip_zeros(self) -> int:
        """Take all zero bytes that come next; gives how many."""
        num_zeros = 0
        while data := self.take():
            rest = data.lstrip(b"\0")
            num_zeros += len(data) - len(rest)
            if rest:
                self.give_back(rest)
                break
        return num_zeros

    def error(self, problem: str) -> StageDataError:
        return StageDataError(self._stage.label, self._item.name, problem)

    def empty(self) -> StageDataError:
        return self.error(f"the input is empty, which no {self._stage.format_name} data is")

    def truncated(self) -> StageDataError:
        return self.error(f"the compressed data ends in the middle of a {self._stage.member_noun} (truncated?)")

    def foreign(self) -> StageDataError:
        where = f"what follows the compressed data at byte {self.position}" if self.position else "it"
        return self.error(f"{where} is {self._stage.name_foreign(self.peek(self._stage.magic_bytes))}")

    def warn_of_garbage(self) -> None:
        """Tell that what follows is ignored, as the format's own program does."""
        if self._stage.refuses_garbage:
            raise self.foreign()
        import logging

        logging.getLogger(__name__).warning(
            "stage %r: %r: trailing garbage at byte %d ignored", self._stage.label, self._item.name, self.position
        )


class MemberStage(ByteStage):
    """A decompressor of members. Derive, and write the methods that say what the format is."""

    #: What messages call the format, and one member of it.
    format_name: ClassVar[str]
    member_noun: ClassVar[str] = "stream"
    #: So many bytes tell whether a member begins.
    magic_bytes: ClassVar[int]
    #: There is no more to a stage than its options, so keeping it only saves sending them.
    keep_in_worker: ClassVar[bool] = True
    #: Whether what the format's own program ignores behind the data is an error.
    refuses_garbage: bool = False

    def is_member(self, head: bytes) -> bool:
        """Whether a member begins with ``head``: the next ``magic_bytes`` bytes, or fewer at the input's end.

        What may be the beginning of a member that was cut short is one: its decoder will find that.
        """
        raise NotImplementedError

    def new_decoder(self, head: bytes) -> Decoder:
        """What decodes the member that begins so."""
        raise NotImplementedError

    def decoder_errors(self) -> tuple[type[Exception], ...]:
        """What a decoder raises at data that it cannot take."""
        raise NotImplementedError

    def name_foreign(self, head: bytes) -> str:
        """Say for users what begins with ``head`` and is no member."""
        return f"not {self.format_name} data"

    def explain(self, ex: Exception) -> str:
        """Say for users what such an error means."""
        return f"the compressed data is corrupt ({ex})"

    def goes_on(self, source: MemberInput) -> bool:
        """Whether another member follows; there is more input. Here anything else than a member is an error."""
        if self.is_member(source.peek(self.magic_bytes)):
            return True
        raise source.foreign()

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        keep_freed_memory()
        source = MemberInput(reader, self, item)
        head = source.peek(self.magic_bytes)
        if not head:
            raise source.empty()
        if not self.is_member(head):
            raise source.foreign()
        is_more = True
        while is_more:
            self._decode_member(source, writer)
            is_more = bool(source.peek(1)) and self.goes_on(source)

    def _decode_member(self, source: MemberInput, writer: io.BufferedWriter) -> None:
        errors = self.decoder_errors()
        decoder = self.new_decoder(source.peek(self.magic_bytes))
        while not decoder.eof:
            data = source.take() if decoder.needs_input else b""
            if not data and decoder.needs_input:
                raise source.truncated()
            try:
                made = decoder.decompress(data, CHUNK_BYTES)
            except errors as ex:
                raise source.error(self.explain(ex)) from ex
            writer.write(made)
        source.give_back(decoder.unused_data or b"")


__all__ = ["Decoder", "MemberInput", "MemberStage"]
