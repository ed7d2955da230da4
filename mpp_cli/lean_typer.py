"""Typer commands that start fast."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

#: Options that may stand alone, and then mean standard output, in a command where they are no flags; a value needs
#: the "=".
_OPTIONAL_VALUE: Final = frozenset({"--json"})
_ORDER: Final = "mpp_cli.order"


class LeanCommand(TyperCommand):
    """A command whose parameters are all flags and texts, taken over as they are.

    Typer 0.29 checks every value, also one that was not given, by pydantic, whose import takes longer than all
    the rest of a small run. What is no text is read by :mod:`.run`.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        # With the help option, which is made only here.
        return _take_values_as_they_are(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Click's options whose value may be left out take the next argument for it; that may be an input.
        end = args.index("--") if "--" in args else len(args)
        alone = {name for each in self.params if not getattr(each, "is_flag", True) for name in each.opts}
        alone &= _OPTIONAL_VALUE
        given = [f"{arg}=-" if arg in alone else arg for arg in args[:end]]
        return super().parse_args(ctx, [*given, *args[end:]])

    def make_parser(self, ctx: Any) -> Any:
        """The parser of Typer's, which then keeps the order of the options: see :func:`in_order_given`."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_and_note(args: list[str]) -> Any:
            values, rest, order = parse(args)
            ctx.meta[_ORDER] = [parameter.name for parameter in order]
            return values, rest, order

        parser.parse_args = parse_and_note
        return parser


def in_order_given(ctx: Any, **values: list[str] | None) -> list[tuple[str, str]]:
    """The values of options that may be repeated, as (option, value), in the order of the command line."""
    rest = {name: iter(given or ()) for name, given in values.items()}
    return [(name, next(rest[name])) for name in ctx.meta.get(_ORDER, ()) if name in rest]


class LeanGroup(TyperGroup):
    """A group of commands that is as fast as they are."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _take_values_as_they_are(super().get_params(ctx))


def _take_values_as_they_are(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if not isinstance(parameter.process_value, _ValueAsItIs):
            parameter.process_value = _ValueAsItIs(parameter)
    return parameters


class _ValueAsItIs:
    """Stands in for a parameter's ``process_value``."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter
        self._checked = parameter.process_value

    def __call__(self, ctx: Any, value: Any) -> Any:
        if self._parameter.required and value in (None, ()):
            return self._checked(ctx, value)  # Typer says what is missing
        callback = self._parameter.callback
        return value if callback is None else callback(ctx, self._parameter, value)
