"""Decryption of the age format, what ``age`` writes."""

from __future__ import annotations

import io
from typing import ClassVar

from .age_keys import check_key_file, read_identities, read_passphrase
from .age_passphrase import AgeFormatError, decrypt_with_passphrase
from .age_streams import WatchedReader, WatchedWriter
from .byte_stage import ByteStage
from .errors import StageDataError
from .file_item import FileItem


class DecryptStage(ByteStage):
    """Decrypt what ``age`` or the stage encrypt has written.

    Args:
        identities_file: The file with the secret key, as ``age-keygen`` or ``ssh-keygen`` writes it.
        passphrase_file: A file with the passphrase instead; a newline at its end is not part of it.
    """

    name = "decrypt"
    strips_suffixes: ClassVar[dict[str, str]] = {".age": ""}
    path_options = ("identities_file", "passphrase_file")
    example: ClassVar[str | None] = 'use = "decrypt"\nidentities_file = "key.txt"'

    def __init__(self, identities_file: str | None = None, passphrase_file: str | None = None) -> None:
        super().__init__()
        if (identities_file is None) == (passphrase_file is None):
            raise ValueError("give it either an identities_file or a passphrase_file")
        self.identities_file = identities_file
        self.passphrase_file = passphrase_file
        self._identities_path = identities_file and check_key_file("identities_file", identities_file)
        self._passphrase_path = passphrase_file and check_key_file("passphrase_file", passphrase_file)

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        if self._passphrase_path is not None:
            passphrase = read_passphrase(self._passphrase_path, "passphrase_file")
            try:
                decrypt_with_passphrase(reader, writer, passphrase)
            except AgeFormatError as ex:
                raise StageDataError(self.label, item.name, str(ex)) from None
        elif self._identities_path is not None:
            self._decrypt_with_keys(reader, writer, item, self._identities_path)

    def _decrypt_with_keys(
        self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem, path: str
    ) -> None:
        import pyrage

        keys = read_identities(path, "identities_file")
        source, sink = WatchedReader(reader), WatchedWriter(writer)
        try:
            pyrage.decrypt_io(source, sink, keys)
        except (pyrage.DecryptError, OSError) as ex:
            source.raise_failure()
            sink.raise_failure()
            raise StageDataError(self.label, item.name, _explained(str(ex))) from None
        source.raise_failure()
        sink.raise_failure()


def _explained(words: str) -> str:
    known = {
        "No matching keys found": "none of the keys in identities_file is for it (a passphrase, perhaps?)",
        "decryption error": "the encrypted data is corrupt or truncated",
        "Header is invalid": "it is no age file, or its header is corrupt",
        "failed to fill whole buffer": "it is empty or truncated",
        "Incomplete header": "its header is truncated",
        "age file is truncated": "it is truncated",
        "last chunk has been processed": "something follows its end",
    }
    return known.get(words, f"it cannot be decrypted ({' '.join(words.split())})")


__all__ = ["DecryptStage"]
