"""Encryption to the age format, what ``age`` writes and ``age -d`` reads."""

from __future__ import annotations

import io
from typing import Annotated, ClassVar

from atbu.mp_pipeline.exception import PipelineError

from .age_keys import check_key_file, parse_recipients, read_passphrase, read_recipients
from .age_passphrase import DEFAULT_WORK_FACTOR, MAX_WORK_FACTOR, encrypt_with_passphrase
from .age_streams import WatchedReader, WatchedWriter
from .byte_stage import ByteStage
from .checks import Between, check_whole_number
from .file_item import FileItem


class EncryptStage(ByteStage):
    """Encrypt in the age format, to public keys or with a passphrase.

    The same input gives other bytes each time. No secret stands in the definition: keys and passphrases are in files.

    Args:
        recipients: Public keys: of age (age1…) or of ssh (ssh-ed25519 …, ssh-rsa …).
        recipients_file: A file with public keys, one a line.
        passphrase_file: A file with a passphrase instead; a newline at its end is not part of it.
        work_factor: With a passphrase, trying one costs 2**work_factor KiB of memory, and time.
    """

    name = "encrypt"
    adds_suffix = ".age"
    is_compressed_output = True
    is_encrypted_output = True
    path_options = ("recipients_file", "passphrase_file")
    example: ClassVar[str | None] = (
        'use = "encrypt"\nrecipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]'
    )

    def __init__(
        self,
        recipients: list[str] | None = None,
        recipients_file: str | None = None,
        passphrase_file: str | None = None,
        work_factor: Annotated[int, Between(1, MAX_WORK_FACTOR)] = DEFAULT_WORK_FACTOR,
    ) -> None:
        super().__init__()
        has_recipients = recipients is not None or recipients_file is not None
        if has_recipients == (passphrase_file is not None):
            raise ValueError("give it either recipients (or recipients_file) or a passphrase_file")
        self.work_factor = check_whole_number("work_factor", work_factor, 1, MAX_WORK_FACTOR)
        self.recipients = recipients
        self.recipients_file = recipients_file
        self.passphrase_file = passphrase_file
        if recipients is not None:
            parse_recipients(recipients, "recipients")
        self._recipients_path = recipients_file and check_key_file("recipients_file", recipients_file)
        self._passphrase_path = passphrase_file and check_key_file("passphrase_file", passphrase_file)

    def memory_bytes(self) -> int | None:
        return None if self.passphrase_file is None else 1 << self.work_factor << 10

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        if self._passphrase_path is not None:
            passphrase = read_passphrase(self._passphrase_path, "passphrase_file")
            encrypt_with_passphrase(reader, writer, passphrase, self.work_factor)
            return
        import pyrage

        keys = parse_recipients(self.recipients, "recipients") if self.recipients is not None else []
        if self._recipients_path is not None:
            keys += read_recipients(self._recipients_path, "recipients_file")
        source, sink = WatchedReader(reader), WatchedWriter(writer)
        try:
            pyrage.encrypt_io(source, sink, keys)
        except (pyrage.EncryptError, OSError) as ex:
            source.raise_failure()
            sink.raise_failure()
            raise PipelineError(f"stage {self.label!r}: {item.name!r} could not be encrypted: {ex}") from ex
        source.raise_failure()
        sink.raise_failure()


__all__ = ["EncryptStage"]
