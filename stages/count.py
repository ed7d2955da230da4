"""The stage that counts what passes."""

from __future__ import annotations

from .checks import check_flag
from .file_item import FileItem
from .pass_through import PassThroughStage
from .taps import Watch


class CountStage(PassThroughStage):
    """Count lines and bytes as they pass, and words if asked, as ``wc`` does; ``mpp run -v`` shows the figures.

    Args:
        words: Count words too: runs of bytes that are not ASCII white space. It is slower.
    """

    name = "count"

    def __init__(self, words: bool = False) -> None:
        super().__init__()
        self.words = check_flag("words", words)

    def watch(self, item: FileItem) -> Watch:
        return _Counting(self, item)


class _Counting(Watch):
    def __init__(self, stage: CountStage, item: FileItem) -> None:
        self.label = stage.label
        self._stage = stage
        self._item = item
        self._num_bytes = self._num_lines = self._num_words = 0
        self._is_in_word = False

    def update(self, data: memoryview) -> None:
        portion = bytes(data)
        self._num_bytes += len(portion)
        self._num_lines += portion.count(b"\n")
        if self._stage.words:
            self._num_words += len(portion.split()) - (self._is_in_word and not portion[:1].isspace())
            self._is_in_word = not portion[-1:].isspace()

    def finish(self) -> None:
        add = self._stage.add_finding
        add(self._item, "bytes", self._num_bytes)
        add(self._item, "lines", self._num_lines)
        if self._stage.words:
            add(self._item, "words", self._num_words)


__all__ = ["CountStage"]
