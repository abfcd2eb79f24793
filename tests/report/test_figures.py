import xml.etree.ElementTree as ET

import pytest

from fedmedlora.report.figures import Bar, IntervalRow, Line, Point, bar_panel, interval_panel, line_panel
from fedmedlora.report.numbers import bytes_text, loss_text, seconds_text
from fedmedlora.report.svg import NUM_STYLES, Scale, mark, ticks


def parse(panel):
    return ET.fromstring(panel.markup().source)


def test_a_scale_by_hand():
    scale = Scale(0, 2, 10, 110)
    assert [scale(value) for value in (0, 0.5, 2, 9, -9)] == [10, 35, 110, 110, 10]
    assert Scale(1, 1, 0, 10)(1) == 5  # one round: in the middle


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 0.5, 1)),
        (0.31, 0.62, (0.3, 0.4, 0.5, 0.6, 0.7)),
        (0, 0, (0, 0.5, 1)),
        (3, 3, (2.5, 3, 3.5)),
        (0.4, 0.4, (0, 0.2, 0.4, 0.6, 0.8)),
        (0, 1e12, (0, 5e11, 1e12)),
        (-2, 1, (-2, -1, 0, 1)),
    ],
)
def test_ticks(low, high, expected):
    assert ticks(low, high, 4) == expected


def test_shapes_differ():
    assert len({mark(style, 5, 5).source for style in range(NUM_STYLES)}) == NUM_STYLES


def test_an_interval_panel_says_what_it_shows():
    rows = [
        IntervalRow("A", 0, Point(0.5, (0.4, 0.6)), Point(0.7, None)),
        IntervalRow("B", 1, Point(None, None), None),
    ]
    svg = parse(interval_panel("p", "Cohort", rows))
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-labelledby"] == "p-title p-desc"
    assert [child.text for child in svg[:2]] == [
        "Cohort",
        "A: strict 0.500 (95% interval 0.40–0.60), lenient 0.700. B: strict n/a, lenient not measured.",
    ]
    circles = svg.findall(".//circle")
    # the scale runs from pixel 8 (0) to pixel 332 (1): 0.5 is at 170, 0.7 at 234.8
    assert [float(circle.attrib["cx"]) for circle in circles] == [170, 234.8]
    assert [circle.attrib["class"] for circle in circles] == ["mark solid", "mark hollow"]


def test_a_line_has_a_gap_where_nothing_was_measured():
    svg = parse(line_panel("p", "Loss", [Line("A", 0, 0, (1.0, None, 0.5, 0.4))], number=loss_text))
    assert svg.find(".//path").attrib["d"].count("M") == 2
    assert len(svg.findall(".//circle")) == 3
    assert svg[1].text == "A: 1.000 in round 1, 0.400 in round 4."


@pytest.mark.parametrize("values", [(), (None,), (0.5,), (None, None, 3.0), tuple(map(float, range(200)))])
def test_lines_of_any_length(values):
    svg = parse(line_panel("p", "Loss", [Line("A", 0, 0, values)], number=loss_text))
    assert len(svg.findall(".//circle")) <= 26
    assert ("not measured" in svg[1].text) == (not any(v is not None for v in values))


def test_a_bar_is_as_long_as_its_sum():
    svg = parse(bar_panel("p", "Traffic", [Bar("A", 0, (1, 1), "2 bytes"), Bar("B", 1, (0,), "0")], high=4))
    boxes = [box for box in svg.findall(".//rect") if box.attrib["class"].startswith("mark")]
    # 324 pixels for 4: each part is 81 wide, less a gap of 1.5; the empty bar draws nothing
    assert [float(box.attrib["width"]) for box in boxes] == [79.5, 79.5]
    assert [float(box.attrib["x"]) for box in boxes] == [8, 89]


def test_hostile_labels_are_text():
    svg = parse(bar_panel("p", "</svg><script>", [Bar("\x00<b>\u202e", 0, (1,), "1")], high=1))
    assert {element.tag for element in svg.iter()} == {"svg", "title", "desc", "text", "g", "rect"}
    assert "[U+0000]<b>[U+202E]" in svg[1].text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_seconds(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (999_960, "1.0 MB"),
        (19_550_000, "19.6 MB"),
        (2**50, "1125899.9 GB"),
        (None, "not measured"),
    ],
)
def test_bytes(num_bytes, text):
    assert bytes_text(num_bytes) == text
