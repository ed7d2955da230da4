"""How the target of a file is called. Pure: no file is looked at.

Paths are what os.fsdecode() gives, so any bytes may stand in a name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from .name_pattern import filled


def target_path(source_path: str, stages: Iterable[Any], *, elsewhere: bool = False) -> str:
    """The path that the output of ``stages`` gets for ``source_path``, in the same folder.

    An explicit ``suffix`` of the sink is put behind the source's name and replaces all else, and so does its pattern
    ``rename``. Otherwise each stage in order adds its ``adds_suffix`` or takes off one of its ``strips_suffixes``.

    Args:
        source_path: The input's path.
        stages: The pipeline's stages in order.
        elsewhere: The output goes to another folder, where it may be called like its source.

    Raises:
        ValueError: A suffix to take off is not there, or nothing tells output and input apart.
    """
    stages = list(stages)
    for stage in reversed(stages):
        if getattr(stage, "is_sink", False) and getattr(stage, "suffix", None) is not None:
            return source_path + str(stage.suffix)
        if getattr(stage, "is_sink", False) and getattr(stage, "rename", None) is not None:
            renamed = os.path.join(os.path.dirname(source_path), filled(stage.rename, source_path))
            return _checked(renamed, source_path, elsewhere)
    folder, name = os.path.split(source_path)
    if not name:
        raise ValueError(f"{source_path!r} names a folder, not a file")
    for stage in stages:
        strips: Mapping[str, str] = getattr(stage, "strips_suffixes", None) or {}
        if strips:
            name = _without_suffix(name, strips, source_path, getattr(stage, "name", None) or type(stage).__name__)
        name += getattr(stage, "adds_suffix", None) or ""
    return _checked(os.path.join(folder, name), source_path, elsewhere)


def _checked(target: str, source_path: str, elsewhere: bool) -> str:
    if os.path.basename(target) in ("", ".", ".."):
        raise ValueError(f"{source_path!r}: the output would have no name; give the stage 'write' another rename")
    if target == source_path and not elsewhere:
        raise ValueError(f"{source_path!r}: the output would have the input's name; give the stage 'write' a suffix")
    return target


def _without_suffix(name: str, strips: Mapping[str, str], source_path: str, stage: str) -> str:
    for suffix, instead in strips.items():
        if name.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)] + instead
    known = " or ".join(strips)
    raise ValueError(f"stage {stage!r}: {source_path!r} is not called *{known}, so its output has no name")


__all__ = ["target_path"]
