"""A tap: what a stage that only watches sees of the bytes that its neighbour reads anyway.

A stage that passes its bytes on unchanged needs no process and no pipe of its own. The planner (:mod:`.fusing`) hands
it to the stage behind it, which reads through a :class:`TappedReader`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from atbu.mp_pipeline.exception import InvalidStateError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Watch:
    """Sees all bytes of one item, in order. Whatever it raises fails the item.

    Attributes:
        label: What messages call the stage it belongs to.
    """

    label: str = ""

    def update(self, data: memoryview) -> None:
        """The next bytes, never none; the view is only valid during the call."""
        raise NotImplementedError

    def finish(self) -> None:
        """All bytes have been seen, and whatever comes before has succeeded. Not called otherwise."""

    def close(self) -> None:
        """Let go of everything; called once, after success and failure."""


class TappedReader(io.RawIOBase):
    """Reads ``raw`` and shows each portion to the watches.

    Its end is told only when every watch has agreed: one that refuses the data makes the reading stage fail, which
    therefore never finishes its format. A failure is raised again by each further read and by :meth:`check`.

    Args:
        raw: Owned by the caller.
        watches: In the order of their stages; closed by :meth:`close`.
    """

    def __init__(self, raw: io.RawIOBase, watches: Sequence[Watch]) -> None:
        super().__init__()
        self._raw = raw
        self._watches = watches
        self._is_at_end = False
        self._failure: BaseException | None = None
        #: How many bytes there will be, where ``raw`` knows.
        self.size: int | None = getattr(raw, "size", None)

    @property
    def has_message_ahead(self) -> bool:
        """Whether there is something to read although the descriptor may have nothing more to give."""
        is_decided = self._is_at_end or self._failure is not None
        return is_decided or bool(getattr(self._raw, "has_message_ahead", False))

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        if self._failure is not None:
            raise self._failure
        if self._is_at_end:
            return 0
        view = memoryview(buffer).cast("B")
        n = self._raw.readinto(view)
        if n:
            seen = view[:n]
            for watch in self._watches:
                self._ask(watch, seen)
        elif n == 0 and view.nbytes:
            for watch in self._watches:
                self._ask(watch, None)
            self._is_at_end = True
        return n

    def check(self) -> None:
        """Raise what a watch has raised, for a stage that went on all the same, or that some bytes were not seen."""
        if self._failure is not None:
            raise self._failure
        if not self._is_at_end:
            labels = ", ".join(watch.label for watch in self._watches)
            raise InvalidStateError(f"the input was closed before its end, and so {labels!r} has not seen all of it")

    def close(self) -> None:
        if not self.closed:
            for watch in self._watches:
                watch.close()
        super().close()

    def _ask(self, watch: Watch, seen: memoryview | None) -> None:
        try:
            if seen is None:
                watch.finish()
            else:
                watch.update(seen)
        except BaseException as ex:
            self._failure = ex
            ex.add_note(f"in stage {watch.label!r}")
            raise


__all__ = ["TappedReader", "Watch"]
