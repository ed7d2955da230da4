"""A pipeline from Python code: a list, a function that gives one, a PipelineDefinition, a filter, a stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import CoroutineType
from typing import Any

from mpp_stages.definition import PipelineDefinition
from mpp_stages.options import describe_options, is_filter

from atbu.mp_pipeline.stage import PipelineStage

from .document import Document, Step
from .errors import listed, nearest, shown
from .faults import DefinitionProblem, Fault, Place
from .inline_definition import read_inline
from .options import as_declared, as_filter, describe_type, option_faults
from .resolve import ResolveProblem, where_raised
from .settings import Setting
from .toml_values import word_value


def document_of(
    found: Any, reference: str, origin: str, folder: str, settings: Sequence[Setting]
) -> tuple[Document, Sequence[Setting]]:
    """The document that an object means, and the settings that are left for its stages.

    Args:
        found: What the reference named.
        settings: Those without a stage are the arguments of a function.

    Raises:
        ResolveProblem: It is no pipeline, or the user's code failed.
        DefinitionProblem: A function's arguments are wrong.
    """
    is_one_stage = is_filter(found) or isinstance(found, (type, PipelineStage))
    if not is_one_stage and not isinstance(found, PipelineDefinition) and callable(found):
        arguments = [setting for setting in settings if setting.stage is None]
        settings = [setting for setting in settings if setting.stage is not None]
        found = _called(found, reference, arguments)
    document = Document(reference, origin, Place(f"'{reference}'"), folder)
    if isinstance(found, PipelineDefinition):
        document.name, found = str(found.name), found.stages
    items = list(found) if isinstance(found, (list, tuple)) else [found]
    if not items:
        raise ResolveProblem(f"'{shown(reference)}' has no stages")
    for number, item in enumerate(items, start=1):
        _add(document, item, number)
    return document, settings


def _called(function: Any, reference: str, arguments: Sequence[Setting]) -> Any:
    """What the user's function gives. The values become what its annotations say, as a stage's options do."""
    known = {option.name: option for option in describe_options(function)}
    given = {
        setting.option: word_value(
            setting.value, known[setting.option].word_annotation if setting.option in known else Any
        )
        for setting in arguments
    }
    places = {setting.option: setting.place for setting in arguments}
    faults = []
    for path, kind, words in option_faults(function, given):
        if kind == "missing":
            continue  # in the words of a function below
        if kind == "unknown":
            hint = nearest(str(path[0]), known) or (f"; it takes {listed(known)}" if known else "; it takes none")
            words = f"'{reference}' has no argument '{path[0]}'{hint}"
        faults.append(Fault(places[str(path[0])], kind, words))
    for option in known.values():
        if option.is_required and option.name not in given:
            words = f"the argument '{option.name}' ({describe_type(option.annotation)}) is missing"
            hint = as_filter(function, option) or f"; give it with --set {option.name}=..."
            faults.append(Fault(Place(f"'{reference}'"), "missing", words + hint))
    if faults:
        raise DefinitionProblem(faults)
    made = {
        name: as_declared(value, known[name].annotation) if name in known else value for name, value in given.items()
    }
    try:
        found = function(**made)
        if isinstance(found, CoroutineType):
            found.close()  # or Python warns of it
            raise TypeError("an async function cannot make a pipeline")
        # A generator runs its code only now.
        return found if isinstance(found, (PipelineStage, PipelineDefinition, type, str, Mapping)) else _listed(found)
    except (Exception, SystemExit) as ex:
        words = f"'{shown(reference)}' raised {type(ex).__name__}: {ex}{where_raised(ex)}"
        raise ResolveProblem(words) from ex


def _listed(found: Any) -> Any:
    return list(found) if isinstance(found, Iterable) else found


def _add(document: Document, item: Any, number: int) -> None:
    """Add what one element of a user's list means."""
    place = document.place
    if isinstance(item, str):
        text = read_inline(item)
        document.faults += [
            Fault(place, fault.kind, f"number {number}: {fault.words}", fault.stage) for fault in text.faults
        ]
        document.steps += [Step(step.table, place) for step in text.steps]
    elif isinstance(item, Mapping):
        document.steps.append(Step(dict(item), place))
    elif (is_filter(item) and item.is_original) or (isinstance(item, type) and issubclass(item, PipelineStage)):
        use = getattr(item, "__name__", type(item).__name__)
        document.steps.append(Step({"use": use}, place, factory=item))
    elif isinstance(item, PipelineStage):
        document.steps.append(Step({"use": type(item).__name__}, place, stage=item))
    else:
        hint = "; decorate it with @chunk_filter or @line_filter" if callable(item) else ""
        kind = f"a {type(item).__name__}" if item is not None else "None"
        document.faults.append(Fault(place, "stage", f"number {number} is {kind}, not a stage{hint}"))
