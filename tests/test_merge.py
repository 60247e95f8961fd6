"""The three-way merge as a pure function: whatever two requests do, no change of either is lost."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pyramid_sqlsession.session.merge import FLASH, FlashQueue, Merged, changed_keys, merge

Data = dict[Any, Any]

values = st.sampled_from([None, 0, 1, True, "", "a", [], [1], ["a", "b"], {}, {"n": 1}])
data = st.dictionaries(st.sampled_from("abcde"), values)
texts = st.sampled_from(["saved", "sent", "gone"])


def dumps(value: Any) -> str:
    return json.dumps(value)


def differ(key: Any, one: Any, other: Any) -> bool:
    return dumps({key: one}) != dumps({key: other})


def merged(base: Data, mine: Data, theirs: Data) -> Merged:
    return merge(base, mine, theirs, differ, {})


class Queue:
    """What a request sees of one flash queue, and what is recorded of it."""

    def __init__(self, loaded: list[str]) -> None:
        self.loaded = list(loaded)
        self.messages = list(loaded)
        self.shown: list[str] = []
        self.flashed: list[str] = []
        self.recorded = FlashQueue()

    def do(self, step: Any) -> None:
        if step == "pop":
            if self.messages:
                self.recorded.popped = True
                self.recorded.added.clear()
            self.shown += self.messages
            self.messages.clear()
        else:
            message, allow_duplicate = step
            if allow_duplicate or message not in self.messages:
                self.messages.append(message)
                self.flashed.append(message)
                self.recorded.added.append((message, bool(allow_duplicate)))

    @classmethod
    def after(cls, loaded: list[str], steps: list[Any]) -> Queue:
        queue = cls(loaded)
        for step in steps:
            queue.do(step)
        return queue

    def stored(self) -> Data:
        return {FLASH: self.messages} if self.messages else {}


def merged_queue(loaded: list[str], mine: Queue, theirs: list[str]) -> list[str]:
    base = {FLASH: loaded} if loaded else {}
    stored = {FLASH: theirs} if theirs else {}
    result = merge(base, mine.stored(), stored, differ, {FLASH: mine.recorded})
    assert not result.conflicts
    assert result.data.get(FLASH, None) != []
    queue: list[str] = result.data.get(FLASH, [])
    return queue


flash_steps = st.tuples(texts, st.just(True))
steps = st.lists(st.one_of(st.just("pop"), flash_steps), max_size=5)


# ---- ordinary keys


@given(data, data, data)
def test_a_key_that_one_side_alone_changed_keeps_that_change(
    base: Data, mine: Data, theirs: Data
) -> None:
    result = merged(base, mine, theirs).data
    my_changes = {*changed_keys(base, mine, differ)}
    their_changes = {*changed_keys(base, theirs, differ)}
    for key in "abcde":
        source = mine if key in my_changes else theirs if key in their_changes else base
        assert (key in result) == (key in source)
        if key in result:
            assert dumps(result[key]) == dumps(source[key])


@given(data, data, data)
def test_the_conflicts_are_the_keys_that_both_sides_changed(
    base: Data, mine: Data, theirs: Data
) -> None:
    both = {*changed_keys(base, mine, differ)} & {*changed_keys(base, theirs, differ)}
    conflicts = merged(base, mine, theirs).conflicts
    assert {*conflicts} == both
    assert len(conflicts) == len(both)


@given(data, data)
def test_what_nobody_else_changed_is_stored_as_it_is(base: Data, mine: Data) -> None:
    result = merged(base, mine, base)
    assert dumps(sorted(result.data.items())) == dumps(sorted(mine.items()))
    assert not result.conflicts


@given(data, data)
def test_what_i_did_not_change_stays_theirs(base: Data, theirs: Data) -> None:
    result = merged(base, copy.deepcopy(base), theirs)
    assert dumps(result.data) == dumps(theirs)
    assert not result.conflicts


@given(data, data, data)
def test_the_order_of_changes_without_conflict_does_not_matter(
    base: Data, mine: Data, theirs: Data
) -> None:
    one, other = merged(base, mine, theirs), merged(base, theirs, mine)
    assert {*one.conflicts} == {*other.conflicts}
    if not one.conflicts:
        assert dumps(sorted(one.data.items())) == dumps(sorted(other.data.items()))


@given(data, data, data)
def test_a_merge_changes_none_of_its_arguments(base: Data, mine: Data, theirs: Data) -> None:
    before = dumps([base, mine, theirs])
    merged(base, mine, theirs)
    assert dumps([base, mine, theirs]) == before


@given(st.permutations("abc"), st.permutations("abcde"), data)
def test_their_keys_keep_their_order_and_mine_come_after(
    known: list[str], all_keys: list[str], more: Data
) -> None:
    theirs = dict.fromkeys(known, 0)
    mine = {**theirs, **{key: 1 for key in all_keys if key not in theirs}}
    result = merged(theirs, mine, theirs).data
    assert list(result) == list(mine)


def test_a_key_that_looks_like_a_queue_but_holds_no_list_is_an_ordinary_key() -> None:
    queue = FlashQueue(added=[("x", True)])
    base, mine, theirs = {"_f_": 1}, {"_f_": 2}, {"_f_": [1]}
    merged = merge(base, mine, theirs, lambda key, a, b: bool(a != b), {"_f_": queue})
    assert merged == Merged({"_f_": 2}, ["_f_"])


def test_equal_changes_of_both_are_a_conflict() -> None:
    # two increments
    assert merged({"n": 1}, {"n": 2}, {"n": 2}) == Merged({"n": 2}, ["n"])
    assert merged({}, {"n": 2}, {"n": 2}) == Merged({"n": 2}, ["n"])


def test_a_key_that_both_deleted_is_a_conflict() -> None:
    assert merged({"n": 1, "m": 1}, {"m": 1}, {"m": 1}) == Merged({"m": 1}, ["n"])


def test_of_a_change_and_a_deletion_mine_wins() -> None:
    assert merged({"n": 1}, {}, {"n": 2}) == Merged({}, ["n"])
    assert merged({"n": 1}, {"n": 2}, {}) == Merged({"n": 2}, ["n"])


def test_the_insides_of_a_value_are_not_merged() -> None:
    base = {"cart": {"apple": 1}}
    mine = {"cart": {"apple": 1, "pear": 1}}
    theirs = {"cart": {"apple": 2}}
    assert merged(base, mine, theirs) == Merged(mine, ["cart"])


def test_values_are_compared_as_they_are_stored() -> None:
    # equal in Python, different in JSON, and the other way round
    assert changed_keys({"n": 1}, {"n": True}, differ) == ["n"]
    assert changed_keys({"n": 1}, {"n": 1.0}, differ) == ["n"]
    assert changed_keys({"n": (1, 2)}, {"n": [1, 2]}, differ) == []


def test_keys_need_not_be_strings() -> None:
    def unequal(key: Any, one: Any, other: Any) -> bool:
        return bool(one != other)

    assert merge({1: 1}, {1: 1, None: 2}, {(3, 4): 5}, unequal, {}) == Merged(
        {(3, 4): 5, None: 2}, []
    )


# ---- flash queues


@given(st.lists(texts, max_size=3), steps)
def test_operations_on_what_was_loaded_give_what_the_request_sees(
    loaded: list[str], mine: list[Any]
) -> None:
    queue = Queue.after(loaded, mine)
    assert queue.recorded.replay(loaded, loaded) == queue.messages


@given(st.lists(texts, max_size=3), steps, st.lists(texts, max_size=3))
@example(["saved"], ["pop", ("saved", True)], ["saved"])
def test_flashes_beside_a_request_that_only_flashes_are_all_kept_once(
    loaded: list[str], mine: list[Any], added: list[str]
) -> None:
    queue = Queue.after(loaded, mine)
    result = merged_queue(loaded, queue, [*loaded, *added])
    assert Counter(result + queue.shown) == Counter(loaded + queue.flashed + added)


@given(st.lists(texts, max_size=3), st.lists(texts, max_size=3))
def test_flashes_beside_a_request_that_popped_are_all_kept_once(
    loaded: list[str], mine: list[str]
) -> None:
    queue = Queue.after(loaded, [(message, True) for message in mine])
    assert merged_queue(loaded, queue, []) == mine


@given(st.lists(texts, max_size=3), steps, st.lists(texts, max_size=3))
def test_what_i_popped_is_gone_and_what_i_flashed_later_is_last(
    loaded: list[str], mine: list[Any], added: list[str]
) -> None:
    queue = Queue.after(loaded, ["pop", *mine])
    result = merged_queue(loaded, queue, [*loaded, *added])
    assert result[: len(added)] == added
    assert result[len(added) :] == queue.messages


@given(
    st.lists(st.integers(0, 2), max_size=3),
    st.lists(st.one_of(st.just("pop"), st.just("flash")), max_size=5),
    st.lists(st.one_of(st.just("pop"), st.just("flash")), max_size=5),
)
def test_messages_that_can_be_told_apart_are_never_lost_nor_doubled(
    old: list[int], mine: list[str], theirs: list[str]
) -> None:
    loaded = [f"old {position}" for position, _ in enumerate(old)]

    def named(who: str, steps: list[str]) -> list[Any]:
        return [
            "pop" if step == "pop" else (f"{who} {position}", True)
            for position, step in enumerate(steps)
        ]

    me = Queue.after(loaded, named("mine", mine))
    they = Queue.after(loaded, named("theirs", theirs))
    result = merged_queue(loaded, me, they.messages)
    everything = [*result, *me.shown, *they.shown]
    # both may have shown what both had loaded, and only that
    twice = [message for message, count in Counter(everything).items() if count > 1]
    assert {*twice} <= {*loaded} & {*me.shown} & {*they.shown}
    assert {*everything} == {*loaded, *me.flashed, *they.flashed}
    assert sorted(result, key=[*they.messages, *me.messages].index) == result


@given(st.lists(texts, max_size=3), st.lists(st.tuples(texts, st.booleans()), max_size=4))
def test_duplicates_come_from_flashes_that_allow_them(
    theirs: list[str], flashes: list[tuple[str, bool]]
) -> None:
    result = merged_queue([], Queue.after([], list(flashes)), theirs)
    assert {*result} == {*theirs, *(message for message, _ in flashes)}
    for message in {*result}:
        allowed = theirs.count(message) + flashes.count((message, True))
        once = (message, False) in flashes
        assert result.count(message) <= allowed + once


def test_two_pops_are_no_conflict() -> None:
    assert merged_queue(["saved"], Queue.after(["saved"], ["pop"]), []) == []


def test_a_pop_and_an_equal_flash_beside_a_pop_leave_the_new_message() -> None:
    queue = Queue.after(["saved"], ["pop", ("saved", True)])
    assert merged_queue(["saved"], queue, []) == ["saved"]


def test_a_pop_removes_as_many_equal_messages_as_were_loaded() -> None:
    queue = Queue.after(["saved", "saved"], ["pop"])
    assert merged_queue(["saved", "saved"], queue, ["saved", "saved", "saved"]) == ["saved"]


def test_queues_are_merged_beside_ordinary_keys() -> None:
    queue = Queue.after(["old"], [("mine", True)])
    base: Data = {FLASH: ["old"], "n": 1, "m": 1}
    mine: Data = {FLASH: ["old", "mine"], "n": 2, "m": 1}
    theirs: Data = {FLASH: ["old", "theirs"], "n": 1, "m": 2}
    result = merge(base, mine, theirs, differ, {FLASH: queue.recorded})
    assert result == Merged({"n": 2, "m": 2, FLASH: ["old", "theirs", "mine"]}, [])


def with_queue(change: Callable[[list[Any]], Any], theirs: Any) -> Merged:
    """My change of a queue in place, beside what the other side has there."""
    mine = ["old"]
    change(mine)
    return merge({FLASH: ["old"]}, {FLASH: mine}, {FLASH: theirs}, differ, {FLASH: FlashQueue()})


def test_a_queue_that_was_edited_directly_is_an_ordinary_key() -> None:
    result = with_queue(lambda messages: messages.insert(0, "mine"), ["old", "theirs"])
    assert result == Merged({FLASH: ["mine", "old"]}, [FLASH])


def test_a_queue_that_the_other_side_made_no_list_is_an_ordinary_key() -> None:
    assert with_queue(lambda messages: None, "odd") == Merged({FLASH: "odd"}, [])
    assert with_queue(lambda messages: messages.append(1), 7) == Merged(
        {FLASH: ["old", 1]}, [FLASH]
    )


def test_a_queue_that_was_no_list_when_it_was_loaded_is_an_ordinary_key() -> None:
    queue = FlashQueue(popped=True)
    assert merge({FLASH: "odd"}, {}, {FLASH: "odd", "n": 1}, differ, {FLASH: queue}) == Merged(
        {"n": 1}, []
    )
