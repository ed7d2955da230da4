"""Rows 1 and 2: no-op process stages beside the pools, and what remains of that where items are many.

The pools are handed bare numbers, we hand over work items, each with its determiner and its stage_complete().
"""

from __future__ import annotations

from functools import partial

from .harness import Contestant, alternate, original, peer, rows_beside_peers
from .table import Row, at_most, times_peer

EXECUTOR, POOL = "ProcessPoolExecutor.submit", "Pool.imap"
ONE_STAGE, THREE_STAGES = "1 no-op process stage", "3 no-op process stages"


def _peers(work: str) -> list[Contestant]:
    return [
        Contestant(EXECUTOR, "futures_executor.py", work),
        Contestant(POOL, "multiprocessing_pool.py", work),
        peer("loky", "loky_executor.py", work, "loky"),
        peer("pebble", "pebble_pool.py", work, "pebble"),
        peer("mpire", "mpire_pool.py", work, "mpire"),
        peer("pypeln", "pypeln_stages.py", work, "pypeln"),
        original(work),
    ]


def run_one_stage(rounds: int, seconds: float) -> list[Row]:
    ours = Contestant("ours", "atbu_pipeline.py", "one_stage")
    targets = {EXECUTOR: times_peer(2.5)}
    rows = rows_beside_peers(f"{ONE_STAGE}, submit", ours, targets, _peers("one_stage"), rounds, seconds)
    mapped = Contestant("ours", "atbu_pipeline_new.py", "one_stage_map")
    pool = [Contestant(POOL, "multiprocessing_pool.py", "one_stage")]
    return rows + rows_beside_peers(f"{ONE_STAGE}, map", mapped, {}, pool, rounds, seconds)


def run_three_stages(rounds: int, seconds: float) -> list[Row]:
    ours = Contestant("ours", "atbu_pipeline.py", "three_stages")
    targets = {POOL: times_peer(1.8)}
    rows = rows_beside_peers(f"{THREE_STAGES}, submit", ours, targets, _peers("three_stages"), rounds, seconds)
    for what, work, its_targets in (
        ("map", "three_stages_map", targets),
        ("wants_all, submit", "three_stages_wants_all", {}),
        ("wants_all, map", "three_stages_wants_all_map", {}),
    ):
        new = Contestant("ours", "atbu_pipeline_new.py", work)
        pool = [Contestant(POOL, "multiprocessing_pool.py", "three_stages")]
        rows += rows_beside_peers(f"{THREE_STAGES}, {what}", new, its_targets, pool, rounds, seconds)
    return rows


def run_growth(rounds: int, seconds: float) -> list[Row]:
    """Microseconds an item where 1,000 are submitted at once and where 100,000 are; the target is on their ratio."""
    rows = []
    for what, script, work in (
        (f"growth, {ONE_STAGE}, submit", "atbu_pipeline.py", "one_stage"),
        (f"growth, {THREE_STAGES}, map", "atbu_pipeline_new.py", "three_stages_map"),
    ):
        figures = alternate(
            {
                "few": partial(Contestant("ours", script, work, items=1_000).measure, seconds),
                "many": partial(Contestant("ours", script, work, items=100_000).measure, seconds),
            },
            rounds,
        )
        few, many = figures["few"].required, figures["many"].required
        rows.append(
            Row(
                f"{what}: cost of one of 100,000 items / of one of 1,000",
                "×",
                few / many,
                f"{1e6 / many:.1f} µs / {1e6 / few:.1f} µs",
                target=at_most(1.2, "×"),
            )
        )
    return rows
