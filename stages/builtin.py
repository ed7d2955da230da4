"""Names of the built-in stages and of the ready-made pipelines.

Tables of text only: a start costs no scan, and only the stage that is asked for is imported.
"""

from __future__ import annotations

from typing import Any, Final

#: Stage name -> ``module:class``.
STAGES: Final[dict[str, str]] = {
    "bunzip2": "mpp_stages.bunzip2:Bunzip2Stage",
    "bzip2": "mpp_stages.bzip2:Bzip2Stage",
    "decompress": "mpp_stages.decompress:DecompressStage",
    "gunzip": "mpp_stages.gunzip:GunzipStage",
    "gzip": "mpp_stages.gzip_stage:GzipStage",
    "lz4": "mpp_stages.lz4_stage:Lz4Stage",
    "unlz4": "mpp_stages.unlz4:Unlz4Stage",
    "unxz": "mpp_stages.unxz:UnxzStage",
    "unzstd": "mpp_stages.unzstd:UnzstdStage",
    "write": "mpp_stages.write:WriteStage",
    "xz": "mpp_stages.xz:XzStage",
    "zstd": "mpp_stages.zstd:ZstdStage",
}

#: Pipeline name -> its stages in order, each with its options.
PIPELINES: Final[dict[str, tuple[tuple[str, dict[str, Any]], ...]]] = {
    "bunzip2": (("bunzip2", {}), ("write", {})),
    "bzip2": (("bzip2", {}), ("write", {})),
    "decompress": (("decompress", {}), ("write", {})),
    "gunzip": (("gunzip", {}), ("write", {})),
    "gzip": (("gzip", {}), ("write", {})),
    "lz4": (("lz4", {}), ("write", {})),
    "unlz4": (("unlz4", {}), ("write", {})),
    "unxz": (("unxz", {}), ("write", {})),
    "unzstd": (("unzstd", {}), ("write", {})),
    "xz": (("xz", {}), ("write", {})),
    "zstd": (("zstd", {}), ("write", {})),
}
