"""Each codec by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fedmedlora.exchange.codec import load_codec
from fedmedlora.exchange.codecs import int4, int8
from fedmedlora.exchange.codecs.top_k import TopK


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even():
    # The last of 8 binary digits of a number from 1 to 2 is worth 2**-7.
    one = 2.0**-7
    cases = [
        (1 + one / 2, 1.0),  # a tie: 1 is even
        (1 + 3 * one / 2, 1 + 2 * one),  # a tie: 1 + one is odd
        (1 + 0.51 * one, 1 + one),
        (1 + 0.49 * one, 1.0),
        (-1 - 0.51 * one, -1 - one),
        (2 - one / 4, 2.0),  # into the next exponent
        (0.0, 0.0),
        (2.0**-149, 0.0),
        (2.0**126, 2.0**126),
    ]
    codec = load_codec("bfloat16")
    given = f32(*(value for value, _ in cases))
    parts = codec.encode(given)
    assert parts[""][0] == 0x3F80  # 1.0
    assert codec.decode(parts, (9,)).tolist() == [expected for _, expected in cases]
    assert codec.encode(f32(-0.0))[""][0] == 0x8000


def test_int8_by_hand():
    codec = load_codec("int8")
    # The largest is 127 / 64, so the scale is 1 / 64; 1.5 and 2.5 of it are ties, and go to 2.
    given = f32(127 / 64, -1 / 64, 1.5 / 64, 2.5 / 64, 0.4 / 64, 0.0)
    parts = codec.encode(given.reshape(2, 3))
    assert parts["numbers"].tolist() == [[127, -1, 2], [2, 0, 0]]
    assert parts["scales"].tolist() == [1 / 64]
    back = codec.decode(parts, (2, 3))
    assert back.tolist() == [[127 / 64, -1 / 64, 2 / 64], [2 / 64, 0.0, 0.0]]


def test_every_block_has_its_own_scale():
    given = np.concatenate([np.full(int8.BLOCK, 1e-3, np.float32), f32(100.0, -50.0)])
    parts = load_codec("int8").encode(given)
    assert parts["scales"].shape == (2,)
    assert set(parts["numbers"][: int8.BLOCK].tolist()) == {127}  # not flattened by the 100
    assert parts["numbers"][-2:].tolist() == [127, -64]  # 63.5 ties to the even 64


def test_int4_puts_two_numbers_into_a_byte():
    codec = load_codec("int4")
    # Scale 1: the numbers are the values. 7 is 15, -7 is 1, 0 is 8; the first one is the lower half.
    parts = codec.encode(f32(7, -7, 1, 0, -3))
    assert parts["numbers"].tolist() == [15 + 16 * 1, 9 + 16 * 8, 5 + 16 * 8]
    assert codec.decode(parts, (5,)).tolist() == [7, -7, 1, 0, -3]


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_tiny_blocks_are_zeros_and_large_ones_are_not(name):
    codec = load_codec(name)
    tiny = f32(2.0**-101, -(2.0**-149), 0.0)
    assert codec.decode(codec.encode(tiny), (3,)).tolist() == [0.0, 0.0, 0.0]
    large = f32(2.0**126, -(2.0**126), 1.0)
    np.testing.assert_allclose(
        codec.decode(codec.encode(large), (3,)), f32(2.0**126, -(2.0**126), 0), rtol=1e-6
    )


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, -0.0])
@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_scale_that_is_none_is_refused(name, scale):
    codec = load_codec(name)
    parts = codec.encode(f32(1, 2, 3))
    with pytest.raises(ValueError, match="a scale is negative, infinite or NaN"):
        codec.decode({**parts, "scales": f32(scale)}, (3,))


def test_numbers_that_are_none_are_refused():
    codec = load_codec("int8")
    parts = codec.encode(f32(1, 2, 3))
    with pytest.raises(ValueError, match="beyond 127"):
        codec.decode({**parts, "numbers": np.array([0, -128, 0], np.int8)}, (3,))
    codec = load_codec("int4")
    parts = codec.encode(f32(1, 2, 3))
    for numbers, message in (([0x80, 0x88], "beyond 7"), ([0x88, 0x98], "half byte after the last")):
        with pytest.raises(ValueError, match=message):
            codec.decode({**parts, "numbers": np.array(numbers, np.uint8)}, (3,))
    assert int4.TOP == 7


def test_top_k_takes_the_largest_and_of_equal_ones_the_first():
    codec = TopK(0.5)
    # Half of 6 values: the 5, and of the three 2s the first two.
    given = f32(2, -5, 1, -2, 2, 0).reshape(2, 3)
    parts = codec.encode(given)
    assert parts["bits"].tolist() == [0b001011]
    assert parts["values"].tolist() == [2, -5, -2]
    assert codec.decode(parts, (2, 3)).tolist() == [[2, -5, 0], [-2, 0, 0]]


def test_few_values_have_numbers_for_positions():
    codec = TopK(0.01)
    given = np.zeros(300, np.float32)
    given[[299, 7, 130]] = 1.0, -2.0, 3.0
    parts = codec.encode(given)  # 3 positions take 12 bytes, 300 bits take 38
    assert parts["positions"].tolist() == [7, 130, 299]
    assert parts["values"].tolist() == [-2, 3, 1]
    np.testing.assert_array_equal(codec.decode(parts, (300,)), given)


@pytest.mark.parametrize(
    ("share", "num", "k"), [(0.1, 30, 3), (0.1, 31, 4), (0.001, 5, 1), (1.0, 4, 4), (0.5, 0, 0)]
)
def test_how_many_are_sent(share, num, k):
    assert TopK(share).encode(np.ones(num, np.float32))["values"].shape == (k,)


def test_positions_that_are_none_are_refused():
    few, many = TopK(0.01), TopK(0.5)
    parts = few.encode(np.ones(300, np.float32))
    for positions in ([0, 1, 1], [0, 2, 1], [0, 1, 300]):
        with pytest.raises(ValueError, match="positions do not rise, or lead out"):
            few.decode({**parts, "positions": np.array(positions, np.uint32)}, (300,))
    parts = many.encode(np.ones(6, np.float32))
    for bits in (0b1, 0b1111, 0b11000001):
        with pytest.raises(ValueError, match="not as many positions as values, or one leads"):
            many.decode({**parts, "bits": np.array([bits], np.uint8)}, (6,))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        TopK(share)
