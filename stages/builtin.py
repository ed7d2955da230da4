"""Names of the built-in stages and of the ready-made pipelines.

Tables of text only: a start costs no scan, and only the stage that is asked for is imported.
"""

from __future__ import annotations

from typing import Any, Final

#: Stage name -> ``module:class``.
STAGES: Final[dict[str, str]] = {
    "b2": "mpp_stages.digests:B2Stage",
    "blake3": "mpp_stages.digests:Blake3Stage",
    "bunzip2": "mpp_stages.bunzip2:Bunzip2Stage",
    "bzip2": "mpp_stages.bzip2:Bzip2Stage",
    "chunks": "mpp_stages.lines:ChunksStage",
    "count": "mpp_stages.count:CountStage",
    "decompress": "mpp_stages.decompress:DecompressStage",
    "decrypt": "mpp_stages.decrypt:DecryptStage",
    "encrypt": "mpp_stages.encrypt:EncryptStage",
    "exec": "mpp_stages.exec:ExecStage",
    "gunzip": "mpp_stages.gunzip:GunzipStage",
    "gzip": "mpp_stages.gzip_stage:GzipStage",
    "lines": "mpp_stages.lines:LinesStage",
    "lz4": "mpp_stages.lz4_stage:Lz4Stage",
    "md5": "mpp_stages.digests:Md5Stage",
    "sha1": "mpp_stages.digests:Sha1Stage",
    "sha224": "mpp_stages.digests:Sha224Stage",
    "sha256": "mpp_stages.digests:Sha256Stage",
    "sha384": "mpp_stages.digests:Sha384Stage",
    "sha512": "mpp_stages.digests:Sha512Stage",
    "tee": "mpp_stages.tee:TeeStage",
    "unlz4": "mpp_stages.unlz4:Unlz4Stage",
    "unxz": "mpp_stages.unxz:UnxzStage",
    "unzstd": "mpp_stages.unzstd:UnzstdStage",
    "verify": "mpp_stages.verify:VerifyStage",
    "write": "mpp_stages.write:WriteStage",
    "xxh3": "mpp_stages.digests:Xxh3Stage",
    "xxh64": "mpp_stages.digests:Xxh64Stage",
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

#: Pipeline name -> modules that its workers load besides its stages', for a start that has them loaded meanwhile.
LIBRARIES: Final[dict[str, tuple[str, ...]]] = {
    "bunzip2": ("bz2",),
    "bzip2": ("bz2",),
    "gunzip": ("isal.igzip_lib",),
    "gzip": ("isal.isal_zlib", "zlib_ng.zlib_ng"),
    "lz4": ("lz4.frame",),
    "unlz4": ("lz4.frame",),
    "unxz": ("lzma",),
    "unzstd": ("zstandard",),
    "xz": ("lzma",),
    "zstd": ("zstandard",),
}
