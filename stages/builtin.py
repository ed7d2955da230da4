"""Names of the built-in stages and of the ready-made pipelines.

Tables of text only: a start costs no scan, and only the stage that is asked for is imported.
"""

from __future__ import annotations

from typing import Any, Final

#: Stage name -> ``module:class``.
STAGES: Final[dict[str, str]] = {
    "b2": "mpp_stages.digests:B2Stage",
    "blake3": "mpp_stages.digests:Blake3Stage",
    "chunks": "mpp_stages.lines:ChunksStage",
    "count": "mpp_stages.count:CountStage",
    "decrypt": "mpp_stages.decrypt:DecryptStage",
    "encrypt": "mpp_stages.encrypt:EncryptStage",
    "exec": "mpp_stages.exec:ExecStage",
    "lines": "mpp_stages.lines:LinesStage",
    "md5": "mpp_stages.digests:Md5Stage",
    "sha1": "mpp_stages.digests:Sha1Stage",
    "sha224": "mpp_stages.digests:Sha224Stage",
    "sha256": "mpp_stages.digests:Sha256Stage",
    "sha384": "mpp_stages.digests:Sha384Stage",
    "sha512": "mpp_stages.digests:Sha512Stage",
    "tee": "mpp_stages.tee:TeeStage",
    "unzstd": "mpp_stages.unzstd:UnzstdStage",
    "verify": "mpp_stages.verify:VerifyStage",
    "write": "mpp_stages.write:WriteStage",
    "xxh3": "mpp_stages.digests:Xxh3Stage",
    "xxh64": "mpp_stages.digests:Xxh64Stage",
    "zstd": "mpp_stages.zstd:ZstdStage",
}

#: Pipeline name -> its stages in order, each with its options.
PIPELINES: Final[dict[str, tuple[tuple[str, dict[str, Any]], ...]]] = {
    "unzstd": (("unzstd", {}), ("write", {})),
    "zstd": (("zstd", {}), ("write", {})),
}
