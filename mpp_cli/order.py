"""Whether stages can stand in an order: bytes flow from the first to the sink, and what has none to give comes after.

Asked of stages, and of the classes of those that could not be built, so that a wrong order is told together with
wrong options.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Appended where the last stage gives bytes that nobody takes.
SINK: Final = "write"


@dataclass(frozen=True)
class Placed:
    """A stage as far as its order matters.

    Attributes:
        label: What messages call it.
        shape: The stage, or its class; None where neither is known, and so nothing can be said.
    """

    label: str
    shape: Any

    @property
    def needs_bytes(self) -> bool:
        return getattr(self.shape, "needs_bytes", False) is True

    @property
    def is_sink(self) -> bool:
        return getattr(self.shape, "is_sink", False) is True

    @property
    def is_pass_through(self) -> bool:
        return getattr(self.shape, "is_pass_through", False) is True

    @property
    def needs_file_bytes(self) -> bool:
        return getattr(self.shape, "needs_file_bytes", False) is True

    @property
    def gives_bytes(self) -> bool:
        return self.needs_bytes and not self.is_sink


def lacks_sink(stages: Sequence[Placed]) -> bool:
    """Whether the last stage's bytes have no taker."""
    return bool(stages) and stages[-1].gives_bytes


def order_faults(stages: Sequence[Placed]) -> Iterator[tuple[int | None, str]]:
    """The number, from 0, of each stage that cannot stand where it does, or None for all, and why.

    That a sink is missing at the end is no fault: it is added.
    """
    yield from _lost_between(stages)
    giver: int | None = None  # the last stage whose bytes wait for a taker
    sink: Placed | None = None
    without: Placed | None = None  # the first stage that takes no bytes, and gives none
    for number, stage in enumerate(stages):
        if stage.shape is None:
            giver = without = None
        elif stage.needs_bytes:
            if sink is not None and stage.is_sink:
                yield number, f"the output has been written by '{sink.label}' before; leave one of them out"
            elif sink is not None:
                yield (
                    number,
                    f"it needs bytes, and '{sink.label}' before it has taken them; put it before that",
                )
            elif without is not None:
                yield number, f"it needs bytes, and '{without.label}' before it gives none; put it before that"
                without = None  # said once
            giver = number if stage.gives_bytes else None
            sink = sink or (stage if stage.is_sink else None)
        else:
            if giver is not None and sink is None:
                words = f"it gives bytes, and '{stage.label}' after it takes none; put '{SINK}' between them"
                yield giver, words
            elif sink is None:
                without = without or stage
            giver = None
    if stages and all(stage.shape is not None and not stage.needs_bytes for stage in stages):
        yield None, "no stage of it writes anything"


def _lost_between(stages: Sequence[Placed]) -> Iterator[tuple[int, str]]:
    """Stages that need the bytes of a file, and stand where no file has those that pass."""
    end = next((number for number, stage in enumerate(stages) if stage.is_sink), len(stages))
    for number, stage in enumerate(stages[:end]):
        before, behind = stages[:number], stages[number + 1 : end]
        if stage.needs_file_bytes and _change_bytes(before) and _change_bytes(behind):
            yield (
                number,
                "it stands between stages that change the bytes, so no file has those that it sees; put it first, "
                f"or last before '{SINK}'",
            )


def _change_bytes(stages: Sequence[Placed]) -> bool:
    """Whether one of them is known to do more than to watch."""
    return any(stage.shape is not None and not stage.is_pass_through for stage in stages)
