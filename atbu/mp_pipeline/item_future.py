"""The future of a submitted item."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine
    from .runs import Entry


class ItemFuture(Future[Any]):
    """The future of a submitted item. Cancelling it frees the item, and its place, at once."""

    entry: Entry | None
    engine: Engine

    def cancel(self) -> bool:
        """Cancel the item if no stage has been asked for it yet; says whether it is cancelled."""
        is_cancelled = super().cancel()
        entry = self.entry
        if is_cancelled and entry is not None and not entry.is_ended:
            if entry.item._submission == entry.submission:
                entry.item._submission = None
            items, left = self.engine.items, entry
            self.engine.post(lambda: items.drop(left))
        return is_cancelled
