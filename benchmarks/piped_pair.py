"""Row 3: a producer and a consumer joined by a pipe, ten bytes an item."""

from __future__ import annotations

import dataclasses

from .harness import Contestant, compete, original
from .table import Row, at_least

IN_TWO_PROCESSES = 3_000
INSIDE_ONE_WORKER = 12_000
# The original slows down with the number of items.
ORIGINALS_ITEMS = (200, 1_000)


def run(rounds: int, seconds: float) -> list[Row]:
    work = "piped pair, 10-byte payload, "
    ours = Contestant("ours", "atbu_pipeline.py", "piped_pair")
    inside = Contestant("ours, inside one worker", "atbu_pipeline_new.py", "piped_pair_in_one_worker")
    theirs = original("piped_pair")
    sizes = [
        dataclasses.replace(theirs, name=f"{theirs.name}, {items} items", items=items) for items in ORIGINALS_ITEMS
    ]
    figures = compete([ours, inside, *sizes], rounds, seconds)
    ours_median, inside_median = figures[ours.label].required, figures[inside.label].required
    rows = []
    for one in sizes:
        figure = figures.get(one.label)
        median, note = (figure.median, figure.note) if figure else (None, one.absence)
        target = at_least(IN_TWO_PROCESSES, "/s")
        rows.append(Row(work + "two processes", "items/s", ours_median, one.label, median, target, note))
    target = at_least(INSIDE_ONE_WORKER, "/s")
    rows.append(Row(work + "inside one worker", "items/s", inside_median, "in two processes", ours_median, target))
    return rows
