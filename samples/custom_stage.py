"""A stage of one's own: masks e-mail addresses in a text, line by line.

As a Python object, which must be importable (``--app-dir`` says from where) or a file:

    mpp run --app-dir samples custom_stage:pipeline < access.log > masked.log.zst
    mpp run samples/custom_stage.py:pipeline < access.log > masked.log.zst

From a TOML, where its options can be set: see custom_stage.toml.
"""

import io
import re

from mpp_stages.byte_stage import ByteStage
from mpp_stages.file_item import FileItem

ADDRESS = re.compile(rb"[\w.+-]+@[\w-]+\.[\w.-]+")


class MaskAddresses(ByteStage):
    """Put a mask in the place of each e-mail address.

    Args:
        mask: What stands there instead.
        keep_domain: Whether the part behind the @ stays.
    """

    # Output of "x.log" is called "x.log.masked", until a stage behind this one adds to it.
    adds_suffix = ".masked"

    def __init__(self, mask: str = "***", keep_domain: bool = False) -> None:
        super().__init__()
        if "@" in mask:
            raise ValueError(f"mask must not look like an address itself, as {mask!r} does")
        self.mask = mask
        self.keep_domain = keep_domain

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        mask = self.mask.encode()
        for line in reader:
            writer.write(ADDRESS.sub(lambda found: self._masked(found[0], mask), line))

    def _masked(self, address: bytes, mask: bytes) -> bytes:
        return mask + address[address.index(b"@") :] if self.keep_domain else mask


# Names of built-in stages may stand in a list, too. 'write' is added at the end.
pipeline = [MaskAddresses(), "zstd"]
