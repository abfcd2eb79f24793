"""PubTator's blocks, and what is damaged in them."""

from pathlib import Path

import pytest

from fedmedlora.corpora.formats.pubtator import read

BLOCK = "7|t|Chest pain\n7|a|No fever.\n"


def test_title_space_abstract(tmp_path: Path) -> None:
    lines = (
        "7\t0\t10\tChest pain\tDisease\tD1|D2\tChest|pain\n7\t14\t19\tfever\tDisease\tD3\n7\tCID\tD9\tD3\n"
    )
    (tmp_path / "a.txt").write_text(f"\n{BLOCK}{lines}\n\n8|t|\n8|a|Well\n")
    (tmp_path / "README.txt").write_text("A corpus.\n\nSee the paper.\n")
    first, second = read(tmp_path)
    assert (first.name, first.group, first.text) == ("7", "7", "Chest pain No fever.")
    assert [(s.label, s.span, s.line) for s in first.spans] == [
        ("Disease", ((0, 10),), 4),
        ("Disease", ((14, 19),), 5),
    ]
    assert first.skipped == {"relation CID: links concepts, not mentions": 1}
    assert second.text == " Well"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("7\tSecret pain\tDisease\tD1\n", "neither a mention"),  # the offsets are missing
        ("7\t0\t10\tSecret pain\n", "neither a mention"),  # the type is missing
        ("7\t0\t99\tSecret\tDisease\tD1\n", "offsets 0 to 99"),
        ("7\t5\t5\tSecret\tDisease\tD1\n", "offsets 5 to 5"),
        ("8\t0\t5\tSecret\tDisease\tD1\n", "another abstract"),
        ("7 0 5 Secret\n", "another abstract"),
    ],
)
def test_damages_are_named_and_not_shown(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(BLOCK + lines)
    with pytest.raises(ValueError, match=rf"a\.txt:3: .*{message}") as error:
        read(tmp_path)
    assert "Secret" not in str(error.value)


@pytest.mark.parametrize("block", ["7|t|Secret\n", "7|t|Secret\n8|a|x\n", "7|a|Secret\n7|a|x\n"])
def test_a_block_needs_title_and_abstract(block: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(block)
    with pytest.raises(ValueError, match="a block begins with") as error:
        read(tmp_path)
    assert "Secret" not in str(error.value)
