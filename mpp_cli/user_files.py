"""Python files of the user as modules that a worker finds again, however it was started.

The file ``/home/me/stage.py`` is the module ``mpp_cli.user_files.stage_2f686f6d65…``: its path stands in its name, in
hex, so that it never takes the place of an installed module, and a worker that unpickles a stage can import it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

#: Makes this module a package, so that an import of one of the user's files comes here first.
__path__: list[str] = []

_PREFIX: Final = __name__ + "."


def module_name(path: str) -> str:
    """The name under which the file at ``path``, absolute, is imported."""
    return f"{_PREFIX}{os.path.basename(path).removesuffix('.py')}_{os.fsencode(path).hex()}"


class _UserFileFinder:
    """Finds the file whose path stands in the module's name."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(_PREFIX):
            return None
        file = os.fsdecode(bytes.fromhex(name.rpartition("_")[2]))
        # Its neighbours may be imported by it, but never instead of an installed module.
        if os.path.dirname(file) not in sys.path:
            sys.path.append(os.path.dirname(file))
        return importlib.util.spec_from_file_location(name, file)


# At import, for in a worker nothing else of ours runs before the stage is unpickled.
sys.meta_path.append(_UserFileFinder)
