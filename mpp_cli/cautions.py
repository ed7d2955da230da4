"""What ``mpp check`` warns of: pipelines that work and do what hardly anybody wants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .planned import PlannedStage
from .sizes import memory_words

#: What one stage may take for one file at once before it is worth a word.
_MUCH_MEMORY_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class Caution:
    """A warning.

    Attributes:
        number: Of the stage, from 1.
        kind: ``encrypted``, ``compressed``, ``text``, ``undone`` or ``memory``.
    """

    number: int
    kind: str
    words: str


@dataclass(frozen=True)
class _Layer:
    """Something that has been put around the data on the way."""

    stage: PlannedStage
    number: int
    is_encrypted: bool


def memory_of(planned: PlannedStage) -> int | None:
    """What one run of the stage may take, where it says so."""
    ask = getattr(planned.stage, "memory_bytes", None)
    if not callable(ask):
        return None
    found = ask()
    return found if isinstance(found, int) else None


def cautions(planned: Sequence[PlannedStage]) -> Iterator[Caution]:
    """Go through the stages as the data does."""
    layers: list[_Layer] = []
    undone: PlannedStage | None = None  # the decompression right before, if nothing has come between
    for number, current in enumerate(planned, start=1):
        stage = current.stage
        if not getattr(stage, "needs_bytes", False) or getattr(stage, "is_sink", False):
            continue
        is_encrypted = getattr(stage, "is_encrypted_output", False) is True
        is_compressed = not is_encrypted and getattr(stage, "is_compressed_output", False) is True
        strips = _strips(stage)
        if is_compressed or getattr(stage, "wants_text", False) is True:
            yield from _on_layers(number, current, layers, is_compressed)
        if strips:
            top = layers.pop() if layers else None
            if top is not None and (getattr(top.stage.stage, "adds_suffix", None) or "") in strips:
                words = f"it only undoes what '{top.stage.label}' has done; leave both out"
                yield Caution(number, "undone", words)
        elif is_encrypted or is_compressed:
            if undone is not None and getattr(stage, "adds_suffix", None) in _strips(undone.stage):
                words = (
                    f"it makes again what '{undone.label}' has undone; that serves to change its level or options alone"
                )
                yield Caution(number, "undone", words)
            layers.append(_Layer(current, number, is_encrypted))
        if strips:
            undone = current
        elif getattr(stage, "is_pass_through", False) is not True:
            undone = None
        yield from _on_memory(number, current)


def _strips(stage: Any) -> Mapping[str, str]:
    strips = getattr(stage, "strips_suffixes", None)
    return strips if isinstance(strips, Mapping) else {}


def _on_layers(number: int, current: PlannedStage, layers: Sequence[_Layer], is_compressor: bool) -> Iterator[Caution]:
    """Warn of compression, or a look at lines, of what can only be noise."""
    if not layers:
        return
    encrypted = next((layer for layer in layers if layer.is_encrypted), None)
    worst = encrypted or layers[-1]
    done = "encrypted" if worst.is_encrypted else "compressed"
    if is_compressor:
        where = "; put it before that" if worst.is_encrypted else "; one of them is enough"
        words = f"it compresses what '{worst.stage.label}' has {done}, which makes nothing smaller{where}"
        yield Caution(number, done, words)
    else:
        words = f"it looks at lines, and '{worst.stage.label}' before it has {done} them; put it before that"
        yield Caution(number, "text", words)


def _on_memory(number: int, current: PlannedStage) -> Iterator[Caution]:
    memory = memory_of(current)
    if memory is not None and memory >= _MUCH_MEMORY_BYTES:
        words = f"it may take {memory_words(memory)} of memory for each large file at once"
        words += "; take lower options, or few --jobs"
        yield Caution(number, "memory", words)
