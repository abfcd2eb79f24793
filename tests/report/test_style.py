"""Contrast by WCAG 2.2: text 4.5 to 1 (AA), graphical marks 3 to 1, in both colour schemes."""

import re

import pytest

from fedmedlora.report.shell import style

CSS = style("colours.css", "style.css")
LIGHT, DARK, PRINT = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colours", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_colours_can_be_read(colours):
    for text in ("ink", "quiet", "accent"):
        for ground in ("ground", "surface"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["ink"], colours["notice"]) >= 4.5
    for name in ("problem", "treatment", "drug", "test", "modifier"):
        assert contrast(colours["ink"], colours[f"t-{name}"]) >= 4.5, name
    for place in range(8):
        assert contrast(colours[f"k{place}"], colours["surface"]) >= 3, place
        assert contrast(colours[f"k{place}"], colours.get("track", colours["surface"])) >= 3, place


def test_both_schemes_define_the_same():
    assert LIGHT.keys() == DARK.keys()
    assert "prefers-color-scheme: dark" in CSS
    assert "@media print" in CSS


def test_numbers_of_a_heat_map_can_be_read():
    """The darkest shade lies over the surface; ink stands on it."""
    shades = re.findall(r"\.h\d \{ fill-opacity: ([\d.]+); \}", style("study_figures.css"))
    assert shades == sorted(shades)
    assert len(set(shades)) == 5
    for colours in (LIGHT, DARK, {**LIGHT, **PRINT}):
        parts = [[int(colours[name][i : i + 2], 16) for i in (1, 3, 5)] for name in ("accent", "surface")]
        for shade in map(float, shades):
            mixed = [round(shade * a + (1 - shade) * b) for a, b in zip(*parts, strict=True)]
            assert contrast(colours["ink"], "#" + "".join(f"{part:02x}" for part in mixed)) >= 4.5
