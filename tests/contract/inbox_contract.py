"""What every inbox does, the real one and the one in memory. Subclasses give the fixtures."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Publish = Callable[[bytes], Awaitable[None]]
Restart = Callable[[], Awaitable[Any]]

MAX_BATCH = 3
"""The inbox under test takes at most this many together."""


class InboxContract:
    """The inbox of one queue, for one loop."""

    @pytest.fixture
    def inbox(self) -> Any:
        """An inbox of an empty queue that takes at most `MAX_BATCH`."""
        raise NotImplementedError

    @pytest.fixture
    def publish(self) -> Publish:
        """Put a body into the queue of the inbox."""
        raise NotImplementedError

    @pytest.fixture
    def restart(self) -> Restart:
        """Let the process of the inbox die without a word, and return the inbox of the next one."""
        raise NotImplementedError

    async def test_a_batch_is_empty_when_nothing_comes(self, inbox):
        batch = await inbox.take()
        await inbox.acknowledge(batch)

        assert list(batch.submissions) == []

    async def test_the_oldest_come_first_and_never_too_many_at_once(self, inbox, publish):
        await _publish(publish, b"1", b"2", b"3", b"4")
        first, second = await _take(inbox, 3), await _take(inbox, 1)

        assert bodies(first) == [b"1", b"2", b"3"]
        assert bodies(second) == [b"4"]

    async def test_each_line_of_a_bundle_is_a_submission_and_all_are_settled_together(self, inbox, publish):
        await _publish(publish, b"1\n2", b"3")
        taken = await _take(inbox, 3)
        await inbox.release()
        again = await _take(inbox, 3)
        await inbox.acknowledge(again)
        await inbox.release()

        assert bodies(taken) == bodies(again) == [b"1", b"2", b"3"]
        assert [item.redelivered for item in again.submissions] == [True, True, True]
        assert bodies(await inbox.take()) == []

    async def test_a_bundle_fills_a_batch_by_its_lines_and_is_never_split(self, inbox, publish):
        await _publish(publish, b"1", b"2", b"3\n4\n5", b"6")
        first, second = await _take(inbox, 5), await _take(inbox, 1)
        await inbox.acknowledge(first)
        await inbox.release()

        assert bodies(first) == [b"1", b"2", b"3", b"4", b"5"]
        assert bodies(await _take(inbox, 1)) == bodies(second) == [b"6"]

    async def test_what_is_no_bundle_is_one_submission_as_it_came(self, inbox, publish):
        await _publish(publish, b"1\n\n2\n", b"3")

        assert bodies(await _take(inbox, 2)) == [b"1\n\n2\n", b"3"]

    async def test_what_is_acknowledged_never_comes_again(self, inbox, publish):
        await _publish(publish, b"1", b"2")
        await inbox.acknowledge(await _take(inbox, 2))
        await inbox.release()

        assert bodies(await inbox.take()) == []

    async def test_what_is_released_comes_again_and_says_so(self, inbox, publish):
        await _publish(publish, b"1", b"2")
        taken = await _take(inbox, 2)
        await inbox.release()
        again = await _take(inbox, 2)

        assert [item.redelivered for item in taken.submissions] == [False, False]
        assert bodies(again) == [b"1", b"2"]
        assert [item.redelivered for item in again.submissions] == [True, True]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    async def test_to_acknowledge_a_batch_settles_no_other_that_is_in_hand(self, inbox, publish, order):
        """Whichever is finished first: all of it, and nothing else."""
        await _publish(publish, b"1", b"2", b"3", b"4", b"5")
        batches = [await _take(inbox, 3), await _take(inbox, 2)]
        finished, unfinished = (batches[number] for number in order)
        await inbox.acknowledge(finished)
        await inbox.release()
        again = await _take(inbox, len(unfinished.submissions))

        assert bodies(again) == bodies(unfinished)

    async def test_batches_that_are_finished_in_any_order_are_all_settled(self, inbox, publish):
        await _publish(publish, *(b"%d" % number for number in range(7)))
        batches = [await _take(inbox, 3), await _take(inbox, 3), await _take(inbox, 1)]
        for number in (1, 0, 2):
            await inbox.acknowledge(batches[number])
        await _publish(publish, b"more")
        await inbox.acknowledge(await _take(inbox, 1))
        await inbox.release()

        assert bodies(await inbox.take()) == []

    async def test_what_is_acknowledged_after_its_release_comes_again_without_an_error(self, inbox, publish):
        await _publish(publish, b"1")
        late = await _take(inbox, 1)
        await inbox.release()
        again = await _take(inbox, 1)
        await inbox.release()
        await inbox.acknowledge(late)

        assert bodies(again) == [b"1"]
        assert bodies(await _take(inbox, 1)) == [b"1"]

    async def test_what_a_dead_process_had_in_hand_comes_to_the_next_one(self, inbox, publish, restart):
        await _publish(publish, b"1", b"2", b"3", b"4")
        await inbox.acknowledge(await _take(inbox, 3))
        await _take(inbox, 1)
        successor = await restart()

        assert bodies(await _take(successor, 1)) == [b"4"]


def bodies(batch) -> list[bytes]:
    return [item.body for item in batch.submissions]


async def _publish(publish: Publish, *messages: bytes) -> None:
    for body in messages:
        await publish(body)


async def _take(inbox, count: int):
    """Take exactly so many; a message that is on its way may need another turn."""
    for _ in range(20):
        batch = await inbox.take()
        if batch.submissions:
            assert len(batch.submissions) == count
            return batch
    pytest.fail("nothing came")
