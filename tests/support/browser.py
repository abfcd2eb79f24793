"""A page or picture in a real browser, where there is one."""

import re
import shutil
import struct
import subprocess

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
DARK = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]
# The page itself runs no script; this one is put in by the test, which lifts the policy for it.
PROBE = (
    "<script>addEventListener('load', () => { const root = document.documentElement;"
    "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
    "document.body.dataset.ground = getComputedStyle(document.body).backgroundColor;"
    "document.body.dataset.ink = getComputedStyle(document.body).color;"
    "document.body.dataset.overflow = root.scrollWidth - root.clientWidth; })</script>"
)


def look_at(page, folder, width, more=()):
    """The attributes that the probe left, once the page was drawn ``width`` pixels wide."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    path = folder / "report.html"
    path.write_text(page.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    picture = folder / "page.png"
    command = [BROWSER, *FLAGS, *more, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
    command += [f"--screenshot={picture}", path.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=90)
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (width, 900)
    command[-2] = "--dump-dom"
    dom = subprocess.run(command, check=True, capture_output=True, timeout=90, text=True).stdout
    return dict(re.findall(r'data-(ground|ink|overflow)="([^"]*)"', dom))
