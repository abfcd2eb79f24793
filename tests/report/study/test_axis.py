import pytest

from fedmedlora.report.study.axis import axis_of, common_scale, power_axis, share_axis


def test_a_straight_axis_by_hand():
    axis = axis_of("sites", (2, 5, 3))
    assert not axis.is_log
    assert axis.ticks == ((2, "2"), (3, "3"), (5, "5"))
    assert [axis.place(value, 100, 400) for value in (2, 3, 5)] == [100, 200, 400]


def test_numbers_that_lie_far_apart_are_drawn_by_their_logarithm():
    axis = axis_of("notes", (1, 10, 100))
    assert axis.is_log
    assert [axis.place(value, 0, 200) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])


def test_zero_has_a_place_of_its_own():
    axis = axis_of("notes", (0, 1, 10, 100))
    assert axis.is_log
    assert axis.has_zero
    assert axis.place(0, 0, 230) == 0
    assert [axis.place(value, 0, 230) for value in (1, 10, 100)] == pytest.approx([30, 130, 230])


@pytest.mark.parametrize("values", [(), (3,), (0,), (-1, 100), (0, 0.0)])
def test_any_numbers(values):
    axis = axis_of("x", values)
    assert not axis.is_log
    for value in values:
        assert 0 <= axis.place(value, 0, 100) <= 100


def test_ticks_that_would_touch_are_left_out_the_last_never():
    axis = axis_of("x", (1, 2, 2.01, 2.02, 3, 2.98))
    pixels = [pixel for pixel, _ in axis.shown_ticks(0, 100)]
    assert pixels[0] == 0
    assert pixels[-1] == 100
    texts = [text for _, text in axis.shown_ticks(0, 100)]
    assert texts == ["1", "2", "3"]


def test_powers():
    axis = power_axis("bytes", (0, 20, 300), "{:g}".format, 4)
    # from 4 ** 2 = 16 to 4 ** 5 = 1024
    assert [text for _, text in axis.ticks] == ["0", "16", "64", "256", "1024"]
    assert (axis.low, axis.high) == (16, 1024)
    assert [text for _, text in power_axis("b", (16,), "{:g}".format, 4).ticks] == ["16", "64"]
    assert power_axis("b", (0, 0), "{:g}".format, 4).ticks == ((0, "0"),)


def test_scales():
    assert common_scale((0.31, None, 0.62)) == (0.3, 0.4, 0.5, 0.6, 0.7)
    assert common_scale(()) == (0.0, 0.5, 1.0)
    low, *_, high = common_scale((0.5, 0.5))
    assert low < 0.5 < high
    assert common_scale((0.0, 0.0))[0] == 0
    assert common_scale((1.0, 1.0))[-1] == 1
    assert share_axis("x").place(0.5, 0, 10) == 5
