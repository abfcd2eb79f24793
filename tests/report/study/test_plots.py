import xml.etree.ElementTree as ET

from fedmedlora.report.figures import Point
from fedmedlora.report.study.axis import axis_of, share_axis
from fedmedlora.report.study.plots import Curve, DifferenceRow, curve_panel, difference_panel, heat_panel

MARKS = (0.0, 0.5, 1.0)


def parse(panel):
    return ET.fromstring(panel.markup().source)


def test_a_curve_panel_says_what_it_shows():
    points = ((40.0, Point(0.75, (0.7, 0.8))), (20.0, Point(0.5, None)), (30.0, Point(None, None)))
    curve = Curve("A", 1, 0, points, aside=Point(0.25, None))
    panel = curve_panel("p", "F1", [curve], axis_of("notes", (20, 30, 40)), MARKS, aside="main")
    svg = parse(panel)
    assert svg[1].text == "A: 0.250 in main, 0.500 at 20, 0.750 at 40 (95% interval 0.70–0.80)."
    circles = svg.findall(".//circle")
    # y from pixel 196 (0) to pixel 32 (1); x from 44 + 14 + 48 = 106 to 320; main at 44 + 20
    assert [float(c.attrib["cy"]) for c in circles] == [114, 73, 155]
    assert [float(c.attrib["cx"]) for c in circles] == [106, 320, 64]
    assert [c.attrib["class"] for c in circles] == ["mark solid", "mark solid", "mark hollow"]
    assert svg.find(".//path").attrib["d"].count("M") == 2  # a gap at 30


def test_curves_that_share_an_x_are_set_off():
    curves = [Curve(name, 0, 0, ((1.0, Point(0.5, None)),)) for name in "AB"]
    axis = axis_of("x", (1,))
    held = [float(c.attrib["cx"]) for c in parse(curve_panel("p", "F1", curves, axis, MARKS)).iter("circle")]
    assert held[1] - held[0] == 3
    flat = curve_panel("p", "F1", curves, share_axis("x"), MARKS, is_diagonal=True, is_shifted=False)
    assert len({c.attrib["cx"] for c in parse(flat).iter("circle")}) == 1
    assert any(line.attrib["class"] == "reference" for line in parse(flat).iter("line"))


def test_a_long_curve_has_few_marks():
    points = tuple((place / 59, Point(0.5, None)) for place in range(60))
    panel = curve_panel("p", "F1", [Curve("A", 0, 0, points)], share_axis("recall"), MARKS)
    assert len(list(parse(panel).iter("circle"))) == 12  # every fifth
    assert parse(panel).find(".//path").attrib["d"].count("L") == 59


def test_nothing_to_draw():
    svg = parse(curve_panel("p", "F1", [Curve("A", 0, 0, ())], axis_of("x", ()), MARKS))
    assert svg[1].text == "A: not measured."
    assert "not measured" in [text.text for text in svg.iter("text")]


def test_marks_beside_the_axis_alone_are_something_to_draw():
    curve = Curve("A", 0, 0, (), aside=Point(0.5, None))
    svg = parse(curve_panel("p", "F1", [curve], axis_of("x", (1, 2)), MARKS, aside="main"))
    assert "not measured" not in [text.text for text in svg.iter("text")]
    assert len(list(svg.iter("circle"))) == 1


def test_a_long_last_tick_stays_in_the_picture():
    axis = axis_of("bytes", (1, 2), {1: "1 MB", 2: "1,000 kilobytes"}.__getitem__)
    ticks = {
        t.text: float(t.attrib["x"]) for t in parse(curve_panel("p", "F1", [], axis, MARKS)).iter("text")
    }
    assert ticks["1 MB"] == 58  # 44 + 14, where it belongs
    assert ticks["1,000 kilobytes"] == 340 - 2 - 6.2 * 15 / 2  # 15 characters about the middle; else at 320


def test_differences_lie_around_zero():
    row = DifferenceRow("A − B", 0, 0, Point(0.1, (0.05, 0.15)), None, "+0.10 significant")
    svg = parse(difference_panel("p", "Mean", [row]))
    # the scale reaches to 0.2, from pixel 14 to pixel 326: 0 is at 170, 0.1 at 248
    assert [float(c.attrib["cx"]) for c in svg.iter("circle")] == [248]
    assert [t.text for t in svg.iter("text")][1:6] == ["-0.2", "-0.1", "0", "+0.1", "+0.2"]
    assert svg[1].text == "A − B: +0.10 significant."
    zero = [line for line in svg.iter("line") if line.attrib["class"] == "reference"]
    assert [float(line.attrib["x1"]) for line in zero] == [170]


def test_a_heat_map_prints_its_numbers():
    svg = parse(heat_panel("p", "Types", ["A", "B"], ["drug", "test"], [[0.5, None], [0.9, 0.0]]))
    boxes = [box.attrib["class"] for box in svg.iter("rect")]
    assert boxes == ["heat h2", "heat h4", "heat h0"]  # fifths: 0.5, 0.9, 0.0
    texts = [text.text for text in svg.iter("text")]
    assert texts == ["Types", "drug", "test", "A", "0.50", "–", "B", "•0.90", "0.00"]
    assert svg[1].text == "A: drug 0.50. B: drug 0.90, test 0.00."


def test_a_full_score_has_the_last_shade_and_a_wide_map_keeps_its_size():
    wide = heat_panel("p", "Types", ["A"], [f"type {n}" for n in range(12)], [[1.0] * 12])
    svg = parse(wide)
    assert {box.attrib["class"] for box in svg.iter("rect")} == {"heat h4"}
    assert svg.attrib["class"] == "panel wide"
    assert float(svg.attrib["width"]) > 340
    ET.fromstring(heat_panel("p", "Types", [], [], []).markup().source)


def test_hostile_labels_are_text():
    row = DifferenceRow("</svg><script>", 0, 0, None, None, "\x00<b>\u202e")
    svg = parse(difference_panel("p", "</title>", [row]))
    assert {element.tag for element in svg.iter()} == {"svg", "title", "desc", "text", "g", "line"}
    assert "[U+0000]<b>[U+202E]" in svg[1].text
