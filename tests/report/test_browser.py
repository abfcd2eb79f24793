"""The page in a real browser: it is drawn, and does not scroll sideways at any width."""

import pytest
from browser import BROWSER, look_at

from fedmedlora.report.page import page_text


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_it_fits_the_window(results, example, tmp_path, width):
    if BROWSER is None:
        pytest.skip("no chromium on this machine: the page is not looked at in a browser")
    assert look_at(page_text(results, [example]), tmp_path, width)["overflow"] == "0"
