"""The page in a real browser: it is drawn, and does not scroll sideways at any width."""

import re
import shutil
import struct
import subprocess

import pytest

from fedmedlora.report.page import page_text

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
# The page itself runs no script; this one is put in by the test, which lifts the policy for it.
PROBE = (
    "<script>addEventListener('load', () => { const root = document.documentElement;"
    "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
    "document.body.dataset.overflow = root.scrollWidth - root.clientWidth; })</script>"
)


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_it_fits_the_window(results, example, tmp_path, width):
    if BROWSER is None:
        pytest.skip("no chromium on this machine: the page is not looked at in a browser")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_text(results, [example]))
    path = tmp_path / "report.html"
    path.write_text(page.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    picture = tmp_path / "page.png"
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    command += [f"--screenshot={picture}", path.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=90)
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (width, 900)
    command[-2] = "--dump-dom"
    dom = subprocess.run(command, check=True, capture_output=True, timeout=90, text=True).stdout
    assert re.search(r'data-overflow="(-?\d+)"', dom).group(1) == "0"
