"""From a name to an object: built-in tables, entry points, ``module:object`` and ``./file.py:object``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

from mpp_stages import builtin
from mpp_stages.builtin import PIPELINES, STAGES

from .errors import listed, nearest, shown

STAGE_GROUP: Final = "mpp.stages"
PIPELINE_GROUP: Final = "mpp.pipelines"
#: Folders whose frames are never where a user's module failed.
_MACHINERY: Final = (
    os.path.dirname(os.path.abspath(__file__)),
    os.path.dirname(os.path.abspath(builtin.__file__)),
    os.path.dirname(os.__file__) + "/importlib",
)
#: Where packages are installed, also below Python's own folder.
_PACKAGES: Final = ("/site-packages/", "/dist-packages/")
_PYTHON: Final = os.path.dirname(os.__file__) + "/"


class ResolveProblem(Exception):
    """A name leads to nothing, or what it leads to could not be loaded; the cause is the user's own error."""


def split_reference(text: str) -> tuple[str, str] | None:
    """Take ``module:object`` or ``./file.py:object`` apart; None for anything else."""
    place, colon, attribute = text.rpartition(":")
    if not colon or not place or not attribute:
        return None
    is_attribute = all(part.isidentifier() for part in attribute.split("."))
    is_module = all(part.isidentifier() for part in place.split("."))
    return (place, attribute) if is_attribute and (is_module or place.endswith(".py")) else None


def find_stage(use: str, folder: str) -> Any:
    """Find what stands behind ``use`` of a stage; a relative file stands in ``folder``.

    Raises:
        ResolveProblem: There is no such stage, or its module fails.
    """
    if use in STAGES:
        module, attribute = STAGES[use].split(":")
        return load_object(module, attribute, folder)
    reference = split_reference(use)
    if reference is not None:
        return load_object(*reference, folder)
    return _load_entry_point(STAGE_GROUP, use, "stage", STAGES)


def find_pipeline(name: str) -> Any:
    """Find a ready-made pipeline that a plug-in brings; built-in ones are in the table ``PIPELINES``.

    Raises:
        ResolveProblem: There is no such pipeline, or its module fails.
    """
    return _load_entry_point(PIPELINE_GROUP, name, "pipeline", PIPELINES)


def is_stage_of_plugin(name: str) -> bool:
    """Whether a plug-in brings a stage of that name, and none a pipeline, which would come first."""
    from importlib.metadata import entry_points

    return bool(entry_points(group=STAGE_GROUP, name=name)) and not entry_points(group=PIPELINE_GROUP, name=name)


def plugin_names(group: str) -> list[str]:
    """Names that installed plug-ins add; a name of ours is never one of them."""
    from importlib.metadata import entry_points  # costs 25 ms; only other names than ours need it

    ours: Iterable[str] = STAGES if group == STAGE_GROUP else PIPELINES
    return sorted({point.name for point in entry_points(group=group)} - set(ours))


def load_object(place: str, attribute: str, folder: str) -> Any:
    """Import a module, or a file relative to ``folder``, and give the object of that name in it.

    Raises:
        ResolveProblem: There is no such module, file or object, or loading it raises.
    """
    module = _import_file(place, folder) if place.endswith(".py") else _import_module(place)
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            public = [name for name in dir(found) if not name.startswith("_")]
            raise ResolveProblem(f"'{shown(place)}' has no '{attribute}'{nearest(part, public)}") from None
    return found


def _import_module(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as ex:
        missing = ex.name or name
        if name == missing or name.startswith(missing + "."):
            raise ResolveProblem(f"there is no module '{missing}'{_module_hint(missing)}") from ex
        raise ResolveProblem(f"module '{name}' needs '{missing}', which is not installed{where_raised(ex)}") from ex
    except (Exception, SystemExit) as ex:
        raise ResolveProblem(_import_failure(f"module '{name}'", ex)) from ex


def _module_hint(name: str) -> str:
    if os.path.exists(f"{name.split('.')[0]}.py"):
        return " on the module path (--app-dir . looks in this folder too)"
    import pkgutil

    return nearest(name, (module.name for module in pkgutil.iter_modules()))


def _import_file(path: str, folder: str) -> ModuleType:
    import importlib

    from .user_files import module_name

    full = os.path.abspath(os.path.join(folder, path))
    if not os.path.isfile(full):
        raise ResolveProblem(f"there is no file '{shown(path)}'{_file_hint(full)}")
    try:
        return importlib.import_module(module_name(full))
    except (Exception, SystemExit) as ex:
        raise ResolveProblem(_import_failure(f"'{shown(path)}'", ex)) from ex


def _file_hint(full: str) -> str:
    try:
        files = [name for name in os.listdir(os.path.dirname(full)) if name.endswith(".py")]
    except OSError:
        return ""
    return nearest(os.path.basename(full), files)


def _load_entry_point(group: str, name: str, kind: str, ours: Iterable[str]) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group=group, name=name):
        try:
            return point.load()
        except (Exception, SystemExit) as ex:
            raise ResolveProblem(_import_failure(f"{kind} '{name}' ({point.value})", ex)) from ex
    known = [*ours, *plugin_names(group)]
    # A stage alone is a pipeline too.
    stages = [*STAGES, *plugin_names(STAGE_GROUP)] if group == PIPELINE_GROUP else []
    hint = nearest(name, known + stages) or f"; there are {listed(known)}"
    raise ResolveProblem(f"there is no {kind} '{shown(name)}'{hint}")


def _import_failure(what: str, ex: BaseException) -> str:
    return f"{what} failed to load: {type(ex).__name__}: {_error_text(ex)}{where_raised(ex)}"


def _error_text(ex: BaseException) -> str:
    return ex.msg if isinstance(ex, SyntaxError) and ex.filename else str(ex)


def where_raised(ex: BaseException) -> str:
    """The line of the user's own code that raised, as `` (file:line)``; nothing where none of it was running.

    That is the last frame which belongs neither to us, nor to Python, nor to an installed package; where there is none,
    the last one of a package, which may be a plug-in.
    """
    if isinstance(ex, SyntaxError) and ex.filename:
        return f" ({_short_path(ex.filename)}:{ex.lineno})"
    trace, own, package = ex.__traceback__, "", ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and os.path.dirname(file) not in _MACHINERY:
            here = f" ({_short_path(file)}:{trace.tb_lineno})"
            if any(packages in file for packages in _PACKAGES):
                package = here
            elif not file.startswith(_PYTHON):
                own = here
        trace = trace.tb_next
    return own or package


def _short_path(file: str) -> str:
    relative = os.path.relpath(file)
    return shown(relative if len(relative) < len(file) else file)
