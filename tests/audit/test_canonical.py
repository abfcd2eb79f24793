"""One value, one way to write it; every other way is refused."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora.audit.canonical import canonical, read_canonical

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("aé\n", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_written_as_worked_by_hand():
    assert canonical({"b": [1, 0.5, None], "a": "é\n"}) == '{"a":"é\\n","b":[1,0.5,null]}'.encode()


@given(VALUES)
def test_there_and_back(value):
    data = canonical(value)
    assert canonical(read_canonical(data)) == data
    assert read_canonical(data) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [-math.inf],
        2**53 + 1,
        -(2**53) - 1,
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        b"x",
        {2},
        object(),
    ],
)
def test_what_has_no_single_form_is_refused(value):
    with pytest.raises(ValueError, match=r"^a "):
        canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a": 1}',  # a space
        b'{"a":1}\n',
        b'{"b":1,"a":2}',  # another order
        b'{"a":1,"a":1}',  # a key twice
        b'{"a":"\\u0041"}',  # an escape that is not needed
        b'{"a":1.0e0}',
        b'{"a":1.00}',
        b'{"a":-0}',  # reads as 0
        b'{"a":1E400}',  # reads as infinity
        b'{"a":NaN}',
        b'{"a":0.1000000000000000055}',  # reads as 0.1
        b'{"a":9007199254740993}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_other_bytes_of_the_same_or_no_value_are_refused(data):
    with pytest.raises(ValueError, match=r".") as caught:
        read_canonical(data)
    assert len(str(caught.value)) < 120  # and not its content
