"""Names of the built-in stages and of the ready-made pipelines.

Tables of text only: a start costs no scan, and only the stage that is asked for is imported.
"""

from __future__ import annotations

from typing import Any, Final

#: Stage name -> ``module:class``.
STAGES: Final[dict[str, str]] = {
    "exec": "mpp_stages.exec:ExecStage",
    "unzstd": "mpp_stages.unzstd:UnzstdStage",
    "write": "mpp_stages.write:WriteStage",
    "zstd": "mpp_stages.zstd:ZstdStage",
}

#: Pipeline name -> its stages in order, each with its options.
PIPELINES: Final[dict[str, tuple[tuple[str, dict[str, Any]], ...]]] = {
    "unzstd": (("unzstd", {}), ("write", {})),
    "zstd": (("zstd", {}), ("write", {})),
}
