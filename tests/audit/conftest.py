"""A small log of every kind of thing, and one of whole numbers only, at times that do not move."""

from __future__ import annotations

import pytest

from fedmedlora.audit.chain import link
from fedmedlora.audit.entries import (
    Admission,
    Arrays,
    Asked,
    Fault,
    Finished,
    Head,
    Joined,
    Left,
    Opened,
    Received,
    Refusal,
    Repaired,
    Round,
    Settings,
    Started,
    Versions,
)

H, RUN, LOG_ID = "ab" * 32, "0af" + "1" * 29, "cd" * 16


@pytest.fixture(scope="session")
def every_kind() -> list:
    """One entry of each kind, the first as it stands first."""
    head = Head(H, 7)
    return [
        Opened("fedmedlora-audit", 1, LOG_ID),
        Repaired(3, H),
        Versions({"fedmedlora": "0.1.0", "torch": "2.6.0+cpu"}),
        Settings("study", H, {"training.rounds": 2, "rules.x.tau": 0.05, "a": True, "name": "sha256:" + H}),
        Started(RUN, False, H, H, H, ("lakeside", "northgate")),
        Joined("lakeside", str(2**63), H, "0.1.0"),
        Asked("train", "lakeside", "7", RUN, "fed_medlora", 1, H, 1000, H, head),
        Left("train", RUN, "fed_medlora", 1, ("lacks_base",), (Arrays("a.*.b", "F32", (2, 3), 4),), 96, H),
        Received("train", "lakeside", "7", 1, 96, H, None),
        Refusal("train", "lakeside", "", "rounds 2: this site allows at most 1"),
        Round("single_site:lakeside", 1, {"lakeside": 0.25, "northgate": 0.75}, H),
        Admission("fed_medlora", 1, "lakeside", False, "norm"),
        Fault("failed", "", "", "", "ValueError"),
        Finished(RUN, {"fed_medlora": H}),
    ]


@pytest.fixture(scope="session")
def lines_of_log():
    """``lines_of_log(entries)`` -> their lines, one after the other."""

    def make(entries) -> list[bytes]:
        lines, head = [], None
        for entry in entries:
            line, head = link(entry, head, "2026-11-29T13:36:00Z")
            lines.append(line)
        return lines

    return make
