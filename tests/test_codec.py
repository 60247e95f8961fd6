from __future__ import annotations

import json
import math
import pickle
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyramid.exceptions import ConfigurationError
from pyramid.i18n import TranslationString
from sqlalchemy import JSON, Integer, LargeBinary, String, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB

from pyramid_sqlsession import SessionDataError, SessionTooLarge
from pyramid_sqlsession.data.codec import Codec, Decoded

MIB = 1024**2
# what is not encrypted is the same for every token
TOKEN = "t" * 43

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


class Pickle:
    """A serializer of an application, for what JSON cannot hold."""

    def dumps(self, data: dict[Any, Any]) -> bytes:
        return pickle.dumps(data, 5)

    def loads(self, stored: bytes) -> Any:
        return pickle.loads(stored)  # noqa: S301  # the test has made it


class Wrapped(TypeDecorator[Any]):
    """A type of an application that wraps JSON."""

    impl = JSON
    cache_ok = True


class Shouting(TypeDecorator[str]):
    """A type of an application that wraps Text."""

    impl = Text
    cache_ok = True


def codec(type_: Any = None, serializer: Any = "json", max_size: int = MIB) -> Codec:
    return Codec(serializer, LargeBinary() if type_ is None else type_, max_size)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5))
@pytest.mark.parametrize("type_", [LargeBinary(), Text(), Shouting()])
def test_what_json_can_hold_is_read_back_as_it_was(type_: Any, data: dict[str, Any]) -> None:
    this = codec(type_)
    read = this.from_column(this.to_column(data, TOKEN), TOKEN)
    assert read == Decoded(this.dumps(data), data, as_configured=True)
    assert this.loads(this.dumps(data)) == data


def test_each_kind_of_column_gets_what_it_stores() -> None:
    data = {"name": "Zo\u00eb"}
    assert codec(LargeBinary()).to_column(data, TOKEN) == b'{"name":"Zo\\u00eb"}'
    assert codec(Text()).to_column(data, TOKEN) == '{"name":"Zo\\u00eb"}'
    for type_ in (JSON(), JSONB(), JSON().with_variant(JSONB(), "postgresql")):
        assert codec(type_).to_column(data, TOKEN) == '{"name":"Zo\\u00eb"}'
        spaced = '{"name": "Zo\u00eb"}'
        for stored in ('{"name":"Zo\\u00eb"}', spaced, spaced.encode()):
            read = codec(type_).from_column(stored, TOKEN)
            assert read == Decoded(codec().dumps(data), data, as_configured=True)


def test_a_type_around_json_gets_and_gives_what_json_does() -> None:
    data = {"name": "Zo\u00eb", "f": 0.5}
    assert codec(Wrapped()).to_column(data, TOKEN) == data
    read = codec(Wrapped()).from_column(data, TOKEN)
    assert read == Decoded(codec().dumps(data), data, as_configured=True)


class Color(IntEnum):
    """An int that is more than an int."""

    RED = 1


def test_tuples_and_subclasses_are_stored_plain() -> None:
    this = codec()
    data = {"t": (1, 2), "c": Color.RED, "s": TranslationString("hello", "d")}
    stored = this.to_column(data, TOKEN)
    assert this.loads(stored) == {"t": [1, 2], "c": 1, "s": "hello"}
    assert type(this.loads(stored)["s"]) is str


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def circular() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"cart": [object()]}, "session['cart'][0] is of type object"),
        ({"when": {"at": b"x"}}, "session['when']['at'] is of type bytes"),
        ({"f": float("nan")}, "session['f'] is nan, which JSON cannot hold"),
        ({"f": [1.0, float("inf")]}, "session['f'][1] is inf"),
        ({"n": {1: "x"}}, "session['n'] has the key 1"),
        ({None: 1}, "session has the key None"),
        ({("a", "b"): 1}, "session has the key ('a', 'b')"),
        ({"set": {1}}, "session['set'] is of type set"),
        ({"d": deep(101)}, "is nested deeper than 100 levels"),
        ({"d": deep(5000)}, "is nested deeper than 100 levels"),
        ({"c": circular()}, "is nested deeper than 100 levels"),
        ({"big": 10**5000}, "cannot store the session as JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_json_cannot_hold_is_an_error_that_names_its_path(data: Any, message: str) -> None:
    with pytest.raises(SessionDataError) as caught:
        codec().to_column(data, TOKEN)
    assert message in str(caught.value)


class Word(str):
    """As translation strings are."""

    __slots__ = ()


@pytest.mark.parametrize("data", [{"t": Word("[")}, {"l": (Word(""), [Word("x")])}, {Word("k"): 1}])
def test_a_subclass_of_str_is_stored_as_the_plain_text(data: Any) -> None:
    this = codec()
    stored = this.from_column(this.to_column(data, TOKEN), TOKEN).data
    assert stored == json.loads(json.dumps(data))


@pytest.mark.parametrize("leaf", [1, {}, [], "]", "[[[["])
@pytest.mark.parametrize("kind", ["lists", "dicts", "both"])
@pytest.mark.parametrize("levels", range(97, 104))
def test_what_is_read_could_be_stored(levels: int, kind: str, leaf: Any) -> None:
    value = leaf
    for level in range(levels):
        value = [value] if kind == "lists" or (kind == "both" and level % 2) else {"k": value}
    this = codec()
    try:
        stored = this.to_column({"d": value}, TOKEN)
    except SessionDataError:
        with pytest.raises(SessionDataError, match="deeper"):
            this.from_column(json.dumps({"d": value}).encode(), TOKEN)
    else:
        assert this.from_column(stored, TOKEN).data == {"d": value}


NUMBERS = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
    # many digits and a small exponent, near the largest float
    st.builds(
        "{}{}{}e{}".format,
        st.sampled_from(["", "-"]),
        st.integers(1, 9),
        st.integers(190, 320).map("7".__mul__),
        st.sampled_from(["0", "9", "+99", "-9", "-99"]),
    ),
    st.builds("{}.{}".format, st.integers(200, 320).map("9".__mul__), st.integers(0, 99)),
)  # fmt: skip


@example("1e309", "").via("the shortest exponent")
@example("-1E+309", "").via("signs")
@example("1e0000309", "").via("zeros before it")
@example("1" + 300 * "0" + "e9", "").via("an exponent of one digit")
@example(309 * "9" + ".5", "").via("no exponent")
@example("1e308", "e000").via("it is finite")
@example("1e-999", "").via("it is zero")
@given(NUMBERS, st.text(alphabet="e0+ x", max_size=5))
def test_a_number_that_is_read_is_finite(number: str, text: str) -> None:
    stored = f'{{"text": {json.dumps(text)}, "n": [{number}]}}'.encode()
    if math.isfinite(float(number)):
        assert codec().from_column(stored, TOKEN).data["n"] == [json.loads(number)]
    else:
        with pytest.raises(SessionDataError):
            codec().from_column(stored, TOKEN)


class Half(dict[Any, Any]):
    """Keys in it that are no strings are not among those that it gives away one by one."""

    def __iter__(self) -> Any:
        return (key for key in super().__iter__() if isinstance(key, str))


@pytest.mark.parametrize("leaf", [1, "x", None, [], (), {}, [1], Color.RED, Half({1: 2})])
@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("levels", [1, *range(98, 103)])
def test_all_columns_refuse_the_same(levels: int, kind: type, leaf: Any) -> None:
    value = leaf
    for _ in range(levels):
        value = [value] if kind is list else {"k": value}
    # for a JSON column each value is always looked at
    assert refusal(LargeBinary(), {"d": value}) == refusal(JSON(), {"d": value})


def refusal(type_: Any, data: Any) -> str | None:
    """Why a column refuses the data; None if it does not."""
    try:
        codec(type_).to_column(data, TOKEN)
    except SessionDataError as error:
        return str(error)
    return None


def test_brackets_in_texts_do_not_hide_depth() -> None:
    value: Any = []
    for _ in range(300):
        value = ["]", value, "["]
    with pytest.raises(SessionDataError, match="deeper"):
        codec().from_column(json.dumps({"d": value}).encode(), TOKEN)


def test_brackets_in_texts_are_not_taken_for_depth() -> None:
    data = {"d": ["[" * 200, "{]" * 200, [["]"] * 200]]}
    wide: Any = {"d": [{"x": [1]}] * 200}
    this = codec()
    assert this.from_column(this.to_column(wide, TOKEN), TOKEN).data == wide
    assert this.from_column(this.to_column(data, TOKEN), TOKEN).data == data


def test_a_json_column_holds_every_other_value() -> None:
    data = {"n": 1, "f": 0.5, "t": True, "none": None, "l": ["x", {"y": 2}]}
    assert codec(JSON()).to_column(data, TOKEN) == codec().dumps(data).decode()


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5))
def test_a_json_column_gives_back_what_it_does_not_refuse(data: dict[str, Any]) -> None:
    this = codec(JSON())
    if refusal(JSON(), data) is None:
        read = this.from_column(this.to_column(data, TOKEN), TOKEN)
        assert read == Decoded(this.dumps(data), data, as_configured=True)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30, -(10**4000)])
@pytest.mark.parametrize("type_", [JSON(), JSONB(), Wrapped()], ids=["json", "jsonb", "own"])
def test_a_json_column_refuses_an_integer_that_mysql_would_make_a_float_of(
    type_: Any, number: int
) -> None:
    assert codec().loads(codec().to_column({"n": number}, TOKEN)) == {"n": number}
    message = r"session\['n'\]\[0\] is an integer of more than 64 bits, which a JSON column"
    with pytest.raises(SessionDataError, match=message):
        codec(type_).to_column({"n": [number]}, TOKEN)


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), True, False, 0])
def test_a_json_column_takes_integers_of_64_bits(number: int) -> None:
    assert json.loads(codec(JSON()).to_column({"n": number}, TOKEN)) == {"n": number}


@pytest.mark.parametrize(
    ("data", "stored"),
    [
        ({"f": 1e16}, '{"f":10000000000000000.0}'),
        ({"f": -1.25e20}, '{"f":-125000000000000000000.0}'),
        ({"f": 1e15, "g": 1e-7}, '{"f":1000000000000000.0,"g":1e-07}'),
        ({"1e+16": "1e+16"}, '{"1e+16":"1e+16"}'),
        ({'"1e+16': ['\\"', 1e16, '"']}, '{"\\"1e+16":["\\\\\\"",10000000000000000.0,"\\""]}'),
    ],
    ids=["large", "negative", "not large", "text", "quotes"],
)
def test_a_float_has_no_exponent_that_jsonb_would_make_an_integer_of(
    data: Any, stored: str
) -> None:
    assert codec(JSON()).to_column(data, TOKEN) == stored
    assert codec(JSON()).from_column(stored, TOKEN).data == data


def test_a_json_columns_keys_have_no_order() -> None:
    one, other = {"a": 1, "b": {"c": 2.0, "d": 3}}, {"b": {"d": 3, "c": 2.0}, "a": 1}
    for type_, are_same in ((JSON(), True), (JSONB(), True), (Wrapped(), True), (Text(), False)):
        this = codec(type_)
        assert this.are_same(this.dumps(one), this.dumps(other)) is are_same
        assert this.differ("k", one, other) is not are_same
        assert this.differ("k", 1, 1.0)
        assert this.differ("k", [1, 2], [2, 1])


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfffy"])
@pytest.mark.parametrize("type_", [JSON(), JSONB()])
def test_a_json_column_refuses_what_its_database_would(type_: Any, text: str) -> None:
    assert codec().loads(codec().to_column({"t": text}, TOKEN)) == {"t": text}
    for data in ({"t": [text]}, {"t": {text: 1}}):
        with pytest.raises(SessionDataError, match="which a JSON column cannot hold"):
            codec(type_).to_column(data, TOKEN)


def test_a_session_that_is_too_large_is_an_error_that_names_both_sizes() -> None:
    small = codec(max_size=1024)
    small.to_column({"x": "a" * 1016}, TOKEN)
    with pytest.raises(SessionTooLarge, match=r"has 1025 bytes, sqlsession.max_size allows 1024"):
        small.to_column({"x": "a" * 1017}, TOKEN)


def test_a_serializer_of_the_application_is_used_in_binary_and_text_columns() -> None:
    binary = codec(serializer=Pickle())
    data = {1: {2, 3}, "x": b"\xff"}
    read = binary.from_column(binary.to_column(data, TOKEN), TOKEN)
    assert read == Decoded(binary.dumps(data), data, as_configured=True)

    class Sorted:
        dumps = staticmethod(lambda data: json.dumps(data, sort_keys=True).encode())
        loads = staticmethod(json.loads)

    text = codec(Text(), Sorted())
    assert text.to_column({"b": 1, "a": 2}, TOKEN) == '{"a": 2, "b": 1}'


def test_an_error_of_a_serializer_says_that_it_is_about_the_session() -> None:
    with pytest.raises(SessionDataError, match="cannot serialize the session: "):
        codec(serializer=Pickle()).dumps({"f": lambda: 0})


def test_a_serializer_that_does_not_return_a_dict_is_an_error() -> None:
    with pytest.raises(ValueError, match="is a list, not a dict"):
        codec().loads(b"[]")


def test_a_json_column_takes_no_serializer_of_the_application() -> None:
    with pytest.raises(ConfigurationError, match="declare the column as LargeBinary or Text"):
        codec(JSON(), Pickle())


def test_a_column_of_another_type_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="expected LargeBinary, Text or JSON"):
        codec(Integer())


def test_a_varchar_is_text_too() -> None:
    assert codec(String(1000)).to_column({}, TOKEN) == "{}"


def test_values_differ_when_they_are_stored_differently() -> None:
    this = codec()
    assert this.differ("k", 1, 2)
    assert this.differ("k", 1, 1.0)
    assert this.differ("k", 1, True)
    assert not this.differ("k", [1, (2,)], [1, [2]])
