"""How the target of a file is called. Pure: no file is looked at.

Paths are what os.fsdecode() gives, so any bytes may stand in a name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from .name_pattern import filled, fixed_end, keeps_apart


class OutputNamer:
    """Names outputs by their inputs' names, for one list of stages. Made once a run, asked once a file.

    An explicit ``suffix`` of the sink is put behind the source's name and replaces all else, and so does its pattern
    ``rename``. Otherwise each stage in order adds its ``adds_suffix`` or takes off one of its ``strips_suffixes``.

    Attributes:
        added: What every output's name ends with, because the stages have put it there; may be "".
        is_one_to_one: Whether two names never become one.
    """

    def __init__(self, stages: Iterable[Any]) -> None:
        stages = list(stages)
        sinks = [stage for stage in stages if getattr(stage, "is_sink", False)]
        self._pattern: str | None = getattr(sinks[-1], "rename", None) if sinks else None
        self._steps: list[tuple[Mapping[str, str], str, str]] = []
        for stage in reversed(stages):
            if getattr(stage, "is_sink", False) and getattr(stage, "suffix", None) is not None:
                self._steps.append(({}, str(stage.suffix), ""))
                break
        else:
            for stage in stages:
                strips: Mapping[str, str] = getattr(stage, "strips_suffixes", None) or {}
                adds = getattr(stage, "adds_suffix", None) or ""
                if strips or adds:
                    self._steps.append((strips, adds, getattr(stage, "name", None) or type(stage).__name__))
        if self._pattern is not None:
            self._steps = []
        self.added = "" if self._pattern is None else fixed_end(self._pattern)
        for strips, adds, _ in self._steps:
            self.added = adds if strips else self.added + adds
        self._takes_any_name = not any(strips for strips, _, _ in self._steps)
        # x.tzst and x.tar.zst both become x.tar; one suffix and nothing in its place cannot do that.
        self.is_one_to_one = (self._pattern is None or keeps_apart(self._pattern)) and all(
            list(strips.values()) in ([], [""]) for strips, _, _ in self._steps
        )

    def name_for(self, name: str, source_path: str | None = None) -> str:
        """The output's name for an input's, both without a folder.

        Raises:
            ValueError: A suffix to take off is not there; the message shows ``source_path`` where it is given.
        """
        if self._pattern is not None:
            return _usable(filled(self._pattern, name), source_path or name)
        if self._takes_any_name:
            return name + self.added
        output = name
        for strips, adds, stage in self._steps:
            if strips:
                output = _without_suffix(output, strips, source_path or name, stage)
            output += adds
        return output

    def why_not_found(self, name: str) -> str | None:
        """Why a file that was found in a folder, not named by the user, is left alone: it looks done already."""
        if self._takes_any_name:
            return f"called *{self.added} already" if self.added and name.endswith(self.added) else None
        try:
            self.name_for(name)
        except ValueError:
            return f"not called *{' or '.join(self._first_strips())}"
        return None

    def _first_strips(self) -> Mapping[str, str]:
        return next(strips for strips, _, _ in self._steps if strips)


def target_path(source_path: str, stages: Iterable[Any], *, elsewhere: bool = False) -> str:
    """The path that the output of ``stages`` gets for ``source_path``, in the same folder.

    Args:
        source_path: The input's path.
        stages: The pipeline's stages in order.
        elsewhere: The output goes to another folder, where it may be called like its source.

    Raises:
        ValueError: A suffix to take off is not there, or nothing tells output and input apart.
    """
    folder, name = os.path.split(source_path)
    if not name:
        raise ValueError(f"{source_path!r} names a folder, not a file")
    output = OutputNamer(stages).name_for(name, source_path)
    if output == name and not elsewhere:
        raise same_name(source_path)
    return os.path.join(folder, output)


def same_name(source_path: str) -> ValueError:
    """The error for an output that would take its input's place."""
    problem = "the output would have the input's name; use -o or --output-dir, or give the stage 'write' a suffix"
    return ValueError(f"{source_path!r}: {problem}")


def kept_path(path: str) -> str:
    """The part of an input's path that is kept below another output folder; "" for that folder itself.

    It never leads out: as in tar, a root is taken off, and everything up to the last ``..``. As in rsync and cp, a
    ``.`` within the path marks where the kept part begins: ``/data/./a/b`` and ``/data/.`` keep ``a/b`` and nothing.
    A ``.`` at the beginning says nothing.
    """
    parts = [part for part in path.split("/") if part]
    if "." in parts[1:]:
        parts = parts[parts.index(".", 1) + 1 :]
    parts = [part for part in parts if part != "."]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return "/".join(parts)


def _usable(output: str, source_path: str) -> str:
    if output in ("", ".", ".."):
        raise ValueError(f"{source_path!r}: the output would have no name; give the stage 'write' another rename")
    return output


def _without_suffix(output: str, strips: Mapping[str, str], source_path: str, stage: str) -> str:
    for suffix, instead in strips.items():
        if output.endswith(suffix) and len(output) > len(suffix):
            return output[: -len(suffix)] + instead
    known = " or ".join(strips)
    raise ValueError(f"stage {stage!r}: {source_path!r} is not called *{known}, so its output has no name")


__all__ = ["OutputNamer", "kept_path", "same_name", "target_path"]
