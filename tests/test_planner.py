"""What is submitted next: the longest alone, small ones together, all workers busy to the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mpp_stages.file_item import FileItem, PathSource, PathTarget

from mpp_cli.in_order import InOrder
from mpp_cli.jobs import Job
from mpp_cli.planner import BATCH_S, Entry, Planner

SMALL = 4 << 20
A_FILE = Job(FileItem(PathSource("/in"), PathTarget("/out"), name="in"), is_stream=False)


def planner_with(sizes, *, in_order: bool = False, small_bytes: int = SMALL) -> Planner:
    planner = Planner(2, small_bytes, in_order=in_order)
    for number, size in enumerate(sizes):
        planner.add(Entry(number, A_FILE, size))
    return planner


def take_all(planner: Planner, *, is_last: bool = True) -> list[list[int]]:
    taken = []
    while entries := planner.take(is_last=is_last, is_hungry=True):
        taken.append([entry.number for entry in entries])
    return taken


def test_large_files_go_first_and_the_longest_of_them_before_all():
    """A run of one long file and many small ones ends when the long one does, not that much after."""
    sizes = [100, 50 << 20, 100, 10 << 30, 100, None]
    assert take_all(planner_with(sizes))[:3] == [[5], [3], [1]]


def test_without_batches_every_file_goes_alone():
    """The longest first all the same."""
    assert take_all(planner_with([1, 3, 2], small_bytes=-1)) == [[1], [2], [0]]


def test_the_first_batches_are_small_and_grow_by_what_was_measured():
    """There is output at once; later a batch is about as long as it should be."""
    planner = planner_with([1000] * 5000)
    first = planner.take(is_last=False, is_hungry=True)
    for _ in range(20):
        planner.learn(first, len(first) * 100e-6)
    later = planner.take(is_last=False, is_hungry=True)
    assert len(first) < 50
    assert 0.7 * BATCH_S < len(later) * 100e-6 < 1.3 * BATCH_S


def test_the_last_batches_shrink_so_that_all_workers_end_together():
    """No worker gets all the rest."""
    planner = planner_with([1000] * 400)
    for _ in range(20):
        planner.learn([Entry(0, A_FILE, 1000)], 100e-6)
    lengths = [len(numbers) for numbers in take_all(planner)]
    assert max(lengths) <= 100
    assert lengths == sorted(lengths, reverse=True)
    assert min(lengths[:-1]) >= 20  # shorter ones would cost more trips than they save


def test_a_batch_waits_for_more_files_only_while_all_workers_are_busy():
    """And not when there is enough, or no more to come."""
    planner = planner_with([1000] * 3)
    assert planner.take(is_last=False, is_hungry=False) == []
    assert len(planner.take(is_last=False, is_hungry=True)) == 3
    planner = planner_with([1000] * 1000)
    assert planner.take(is_last=False, is_hungry=False)


def test_a_batch_is_bounded_in_bytes():
    """Whatever the time: they are all in memory at the worst."""
    planner = planner_with([3 << 20] * 100)
    for _ in range(50):
        planner.learn([Entry(0, A_FILE, 3 << 20)], 1e-9)
    assert all(len(numbers) <= 6 for numbers in take_all(planner, is_last=False))


def test_what_comes_back_is_next_and_what_must_go_alone_goes_alone():
    """Files that were not begun keep their place; those of a dead worker go one at a time, before all others."""
    planner = planner_with([1000] * 100)
    taken = planner.take(is_last=False, is_hungry=True)
    planner.give_back(taken[1:])
    planner.add_alone(taken[0])
    assert [entry.number for entry in planner.take(is_last=False, is_hungry=True)] == [0]
    assert not planner.is_small(taken[0])
    assert planner.take(is_last=False, is_hungry=True)[0].number == 1


@given(st.lists(st.one_of(st.none(), st.integers(0, 8 << 20)), max_size=60), st.booleans())
def test_everything_is_taken_once_and_in_order_where_that_is_wanted(sizes, in_order):
    """Nothing is lost between large and small."""
    numbers = [number for taken in take_all(planner_with(sizes, in_order=in_order)) for number in taken]
    assert (numbers if in_order else sorted(numbers)) == list(range(len(sizes)))


@given(st.permutations(range(12)))
def test_order_is_restored(numbers):
    """Each is given out as soon as all before it have come."""
    in_order: InOrder[int] = InOrder()
    given_out: list[int] = []
    for count, number in enumerate(numbers, start=1):
        given_out += in_order.add(number, number)
        come = set(numbers[:count])
        assert in_order.next_number == next(n for n in range(13) if n not in come)
    assert given_out == list(range(12))
