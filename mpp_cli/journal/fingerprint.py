"""What makes two pipelines the same to a journal: stages and options that decide the bytes, and the user's code.

Not in it: timeout, retries, where a stage runs, the number of jobs, and versions of mpp and of the compressors, for
their output stays valid. Names of outputs are part of each record instead.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mpp_cli.planned import PlannedStage

#: Enough to see a difference, too little to find a secret by trying.
_SHORT_DIGITS: Final = 8
#: Code that comes with mpp changes with its version, which is not part of the fingerprint.
_OWN_PACKAGES: Final = ("mpp_stages.", "mpp_cli.definition", "atbu.mp_pipeline.")

StageRecord = Mapping[str, Any]


def stage_records(planned: Sequence[PlannedStage]) -> list[dict[str, Any]]:
    """The canonical definition: for each stage ``use``, ``options`` in force, and ``code`` where it is the user's.

    Numbers and flags stand there as they are. Of texts only the beginning of a hash does: an option may be a password.
    """
    from mpp_stages.options import describe_options

    records = []
    for each in planned:
        stage: Any = each.stage
        is_filter = callable(getattr(stage, "function", None))
        kind = stage.function if is_filter else type(stage)
        given: dict[str, Any] = dict(each.options)
        if is_filter:
            given |= getattr(stage, "options", {})
        options = {}
        try:
            described = describe_options(stage if is_filter else kind)
        except (TypeError, ValueError):
            described = []  # a class whose options cannot be seen; its code counts
        for option in described:
            fallback = None if option.is_required else option.default
            options[option.name] = _comparable(given.get(option.name, getattr(stage, option.name, fallback)))
        record: dict[str, Any] = {"use": _stage_name(kind), "label": each.label, "options": options}
        code = _code_of(kind)
        if code is not None:
            record["code"] = code
        records.append(record)
    return records


def fingerprint(records: Sequence[StageRecord]) -> str:
    """The hash of a canonical definition; what a stage is called does not count."""
    counted = [{key: value for key, value in record.items() if key != "label"} for record in records]
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def differences(old: Sequence[StageRecord], new: Sequence[StageRecord]) -> list[str]:
    """How two definitions differ, in words."""
    if [_key(record) for record in old] != [_key(record) for record in new]:
        return [f"its stages were {_labels(old)}, and are {_labels(new)}"]
    found = []
    for number, (was, now) in enumerate(zip(old, new, strict=True), start=1):
        where = f"stage {number} '{now.get('label')}'"
        before: Mapping[str, Any] = was.get("options") or {}
        after: Mapping[str, Any] = now.get("options") or {}
        found += [
            f"{where}: {_change(name, before.get(name), after.get(name))}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
        if was.get("code") != now.get("code"):
            found.append(f"{where}: its code has changed")
    return found or ["its definition has changed"]


def _key(record: StageRecord) -> object:
    return record.get("use")


def _labels(records: Sequence[StageRecord]) -> str:
    return " | ".join(str(record.get("label")) for record in records)


def _change(name: str, before: object, after: object) -> str:
    # Only numbers and flags stand in the clear.
    if any(isinstance(value, (str, list, dict)) for value in (before, after)):
        return f"{name} has changed"
    return f"{name} was {_word(before)}, is {_word(after)}"


def _word(value: object) -> str:
    return "not set" if value is None else json.dumps(value)


def _comparable(value: Any) -> Any:
    """An option's value as JSON that is the same in every process; of texts, and of what JSON cannot tell, a hash."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_comparable(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _comparable(each) for key, each in value.items()}
    if isinstance(value, (str, bytes)):
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        return f"#{hashlib.sha256(raw).hexdigest()[:_SHORT_DIGITS]}"
    if callable(value) and hasattr(value, "__qualname__"):
        return [_stage_name(value), _code_of(value)]
    # Its repr may show an address, which is another one in the next run.
    return f"a {type(value).__qualname__}"


def _stage_name(kind: Any) -> str:
    module = getattr(kind, "__module__", "")
    name = getattr(kind, "__qualname__", repr(kind))
    if module.startswith("mpp_cli.user_files."):
        # The path of the user's file stands in the module's name; moved elsewhere it is still the same code.
        module = module.removeprefix("mpp_cli.user_files.").rpartition("_")[0] + ".py"
    return f"{module}:{name}"


def _code_of(kind: Any) -> str | None:
    """A hash of the file in which a stage of the user's is defined; what that imports is not looked at."""
    module = str(getattr(kind, "__module__", ""))
    if module.startswith(_OWN_PACKAGES):
        return None
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return None
    try:
        with open(file, "rb") as source:
            return hashlib.sha256(source.read()).hexdigest()[:32]
    except OSError:
        return None  # in a zip file, for one
