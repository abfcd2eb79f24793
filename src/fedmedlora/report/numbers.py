"""Numbers as people read them: F1, intervals, bytes, seconds, counts."""

from __future__ import annotations

from collections.abc import Sequence

UNDEFINED = "n/a"
NOT_MEASURED = "not measured"


def share_text(value: float | None, digits: int = 3) -> str:
    """``0.712``, or "n/a" where undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def interval_text(interval: Sequence[float] | None, digits: int = 2) -> str:
    """``0.66–0.75``, or "" where there is none."""
    return "" if interval is None else f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}"


def loss_text(value: float | None) -> str:
    """``0.482``, or "n/a"."""
    return UNDEFINED if value is None else f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def count_text(value: int) -> str:
    """``4,884,480``."""
    return f"{value:,}"


def bytes_text(num_bytes: float | None) -> str:
    """``19.6 MB``; powers of 1000, as in a plan."""
    if num_bytes is None:
        return NOT_MEASURED
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < (999.5 if unit == "bytes" else 999.95) or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """``0.4 s``, ``52 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 site``, ``3 sites``."""
    return f"{count_text(count)} {one if count == 1 else many or one + 's'}"
