"""``mpp schema``: the TOML stage lists as a JSON Schema, made from the stages' own signatures.

Draft 7, the newest that taplo (Even Better TOML) knows. Its checks are exact: ``if`` the stage is ``zstd``, ``then``
it has these options and no others. For what to offer while typing taplo does not look into ``if`` and ``then``; the
first member of the stage's ``allOf`` is there for that, has all options of all stages, and refuses nothing.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final

from mpp_stages.builtin import STAGES
from mpp_stages.checks import Between
from mpp_stages.options import Option, describe_options, is_filter, takes_any_option

from atbu.mp_pipeline.stage import PipelineStage

from . import exit_codes
from .building import MAX_RETRIES, MAX_TIMEOUT_S, RUN_IN
from .options import plain_type, toml_kinds
from .resolve import STAGE_GROUP, ResolveProblem, find_stage, plugin_names
from .stdio import Stdio

_TYPES: Final[Mapping[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
}
#: A text that an environment variable stands in, of which nobody knows what it will be.
_VARIABLE: Final = {"type": "string", "pattern": r"\$\{"}
#: Stages of a user's own, of whose options a schema knows nothing: ``module:object``, ``./file.py:object``.
_OWN_STAGE: Final = ":"


def show_schema(stdio: Stdio) -> int:
    """Print the schema with the stages of installed plug-ins; one that cannot be loaded is allowed any option."""
    stdio.words_to_stderr()
    stdio.show([json.dumps(schema([*sorted(STAGES), *plugin_names(STAGE_GROUP)]), indent=2)])
    return exit_codes.DONE


def schema(names: Iterable[str]) -> dict[str, Any]:
    """The schema of a file whose stages are these, or a user's own."""
    stages = {name: _load(name) for name in names}
    branches = [
        {
            "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
            "then": _stage(name, stage),
        }
        for name, stage in stages.items()
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A pipeline of mpp",
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "What messages call the pipeline; the file's name by default."},
            "stage": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "object", "allOf": [_offers(stages), *branches]},
                "description": "The stages, in the order in which data goes through them.",
            },
        },
        "required": ["stage"],
        "additionalProperties": False,
    }


def _load(name: str) -> Any:
    try:
        return find_stage(name, "")
    except ResolveProblem:
        return None


def _offers(stages: Mapping[str, Any]) -> dict[str, Any]:
    """What may stand in a stage, for editors; and the one check that all stages share."""
    docs: dict[str, list[str]] = {}
    for name, stage in stages.items():
        for option in options_of(stage) if stage is not None else ():
            docs.setdefault(option.name, []).append(f"{name}: {option.doc}" if option.doc else name)
    use = {
        "description": "Which stage: a name, 'module:object' or './file.py:object' (beside this file).",
        "anyOf": [{"enum": list(stages)}, {"type": "string", "pattern": _OWN_STAGE}],
    }
    options = {option: {"description": "\n".join(words)} for option, words in docs.items()}
    return {"properties": {**options, **_reserved(), "use": use}, "required": ["use"]}


def _reserved() -> dict[str, Any]:
    return {
        "name": {"type": "string", "minLength": 1, "description": "What messages call the stage."},
        "run_in": {"enum": list(RUN_IN), "description": "Where its work runs."},
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_TIMEOUT_S,
            "description": "Seconds that one attempt at one file may take.",
        },
        "retries": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_RETRIES,
            "description": "Further attempts after a crash, a time-out, or an error that the stage lists.",
        },
    }


def _stage(name: str, stage: Any) -> dict[str, Any]:
    if stage is None:
        return {"description": f"The plug-in that brings '{name}' cannot be loaded."}
    options = options_of(stage)
    found: dict[str, Any] = {
        "description": (inspect.getdoc(stage) or "").partition("\n")[0],
        "properties": {"use": {"const": name}, **_reserved(), **{each.name: _option(each) for each in options}},
        "required": ["use", *(option.name for option in options if option.is_required)],
    }
    if is_filter(stage) or isinstance(stage, PipelineStage) or not takes_any_option(stage):
        found["additionalProperties"] = False
    return found


def options_of(stage: Any) -> list[Option]:
    """The options of what an entry point gives; a stage that is an object already takes none."""
    return [] if isinstance(stage, PipelineStage) and not is_filter(stage) else describe_options(stage)


def _option(option: Option) -> dict[str, Any]:
    found = type_schema(option.annotation)
    if option.doc:
        found["description"] = option.doc
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    if all(isinstance(each, (bool, int, float, str)) for each in (default if isinstance(default, list) else [default])):
        found["default"] = default
    return found


def type_schema(hint: Any) -> dict[str, Any]:
    """The schema of one value; empty for a type of which TOML knows nothing."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        # What TOML cannot write, nothing, cannot be given.
        kinds = [type_schema(arg) for arg in toml_kinds(hint)]
        unique = [kind for number, kind in enumerate(kinds) if kind not in kinds[:number]]
        return unique[0] if len(unique) == 1 else {} if {} in unique else {"anyOf": unique}
    if origin is typing.Literal:
        return {"anyOf": [{"enum": list(args)}, dict(_VARIABLE)]}
    if origin is typing.Annotated:
        found = type_schema(args[0])
        for limits in args[1:]:
            if isinstance(limits, Between):
                found |= {"minimum": limits.low, "maximum": limits.high}
        return found
    plain = plain_type(hint)
    if plain not in _TYPES:
        return {}
    found = {"type": _TYPES[plain]}
    if plain is list and args:
        _put(found, "items", args[0])
    elif plain is dict and len(args) == 2:
        _put(found, "additionalProperties", args[1])
    return found


def _put(found: dict[str, Any], key: str, hint: Any) -> None:
    inner = type_schema(hint)
    if inner:
        found[key] = inner
