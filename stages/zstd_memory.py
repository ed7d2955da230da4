"""How much memory zstd's compression takes, from zstd's own estimate and the way its threads share work."""

from __future__ import annotations

from typing import Final

#: From zstdmt_compress.c: a thread works on four windows, at least 1 MiB, at most 1 GiB ...
_MIN_JOB_LOG: Final = 20
_MAX_JOB_LOG: Final = 30
#: ... or, where matches are searched far back, on eight cycles of its chain table, which is half of a tree's.
_MIN_FAR_JOB_LOG: Final = 21
_FIRST_TREE_STRATEGY: Final = 6
#: Beside one portion for each thread the input's buffer holds two that are being filled and an overlap.
_SLACK_JOBS: Final = 3
#: Outputs that wait to be written while all threads work.
_WAITING_OUTPUTS: Final = 2
#: Our own buffers and the threads' stacks.
_OTHER_BYTES: Final = 8 << 20
#: Long distance matching: one entry of eight bytes for 2**7 bytes of the window.
_FAR_TABLE_SHIFT: Final = 4


def compression_bytes(level: int, threads: int, long: int | None, job_bytes: int | None) -> int:
    """What compressing one large input takes at most. Loads zstandard, which knows the levels' tables.

    Args:
        job_bytes: The size of the pieces that threads work on, where it is not zstd's own choice.
    """
    from zstandard import ZstdCompressionParameters

    parameters = ZstdCompressionParameters.from_level(level)
    context = parameters.estimated_compression_context_size()
    window_log = parameters.window_log if long is None else long
    if long is None:
        job_log = max(_MIN_JOB_LOG, window_log + 2)
    else:
        cycle_log = parameters.chain_log - (parameters.strategy >= _FIRST_TREE_STRATEGY)
        job_log = max(_MIN_FAR_JOB_LOG, cycle_log + 3)
    job = job_bytes or 1 << min(job_log, _MAX_JOB_LOG)
    buffered = max((1 << window_log) if long is not None else 0, threads * job) + _SLACK_JOBS * job
    tables = threads * context + ((1 << window_log) >> _FAR_TABLE_SHIFT if long is not None else 0)
    # Each portion's output is kept until those before it have been written; data that zstd cannot shrink fills it.
    outputs = (threads + _WAITING_OUTPUTS) * job
    return tables + buffered + outputs + _OTHER_BYTES


__all__ = ["compression_bytes"]
