import csv
import io
import re
import xml.etree.ElementTree as ET

import pytest
from html_reader import HOSTILE

from fedmedlora.report.study_files import write_figures_and_tables
from fedmedlora.report.study_page import study_page_text

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def written(made_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, write_figures_and_tables(made_study, folder)


def rows(path):
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def test_the_page_names_exactly_these_files(made_study, written):
    folder, paths = written
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert found == {path.relative_to(folder).as_posix() for path in paths}
    assert len(paths) == len(found) > 60
    named = re.findall(r"(?:figures|tables)/[\w-]+\.(?:svg|csv)", study_page_text(made_study))
    assert set(named) == found
    assert len(named) == len(found)  # each once


def test_the_same_bytes_each_time(made_study, written, tmp_path):
    folder, _ = written
    for path in write_figures_and_tables(made_study, tmp_path):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()


def test_nothing_is_written_of_wrong_results(made_study, tmp_path):
    with pytest.raises(ValueError, match=r"^version"):
        write_figures_and_tables({**made_study, "version": 9}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_told(made_study, tmp_path):
    (tmp_path / "figures").write_text("")
    with pytest.raises(ValueError, match=r"figures: cannot be made \(File exists\)"):
        write_figures_and_tables(made_study, tmp_path)


def test_a_picture_stands_alone(written):
    _, paths = written
    pictures = [path for path in paths if path.suffix == ".svg"]
    assert len(pictures) > 15
    for path in pictures:
        text = path.read_text(encoding="utf-8")
        root = ET.fromstring(text)
        assert root.tag == f"{SVG}svg"
        assert root.attrib["role"] == "img"
        assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
        title, description, style = root[:3]
        assert [one.tag for one in root[:3]] == [f"{SVG}title", f"{SVG}desc", f"{SVG}style"]
        assert root.attrib["aria-labelledby"] == f"{title.attrib['id']} {description.attrib['id']}"
        assert title.text
        assert description.text
        assert "prefers-color-scheme: dark" in style.text
        assert "url(" not in text
        assert not {one.tag for one in root.iter()} & {f"{SVG}script", f"{SVG}image", f"{SVG}foreignObject"}
        assert not any("href" in key for one in root.iter() for key in one.attrib)
        words = [one.text for one in root.iter(f"{SVG}text")]
        assert words[-1].endswith("--out RUN")


def test_nothing_in_a_picture_lies_outside_it(written):
    _, paths = written
    for path in (path for path in paths if path.suffix == ".svg"):
        root = ET.fromstring(path.read_text(encoding="utf-8"))
        width, height = float(root.attrib["width"]), float(root.attrib["height"])

        def walk(element, left, top, width=width, height=height, path=path):
            moved = re.fullmatch(r"translate\(([\d.]+) ([\d.]+)\)", element.attrib.get("transform", ""))
            if moved:
                left, top = left + float(moved[1]), top + float(moved[2])
            for x, y in (("x", "y"), ("x1", "y1"), ("x2", "y2"), ("cx", "cy")):
                if x in element.attrib and y in element.attrib:
                    assert -1 <= left + float(element.attrib[x]) <= width + 1, path
                    assert -1 <= top + float(element.attrib[y]) <= height + 1, path
            for child in element:
                walk(child, left, top)

        walk(root, 0.0, 0.0)


def test_a_table_by_hand(made_study, written):
    folder, _ = written
    head, *body = rows(folder / "tables" / "scores-entities.csv")
    assert head[:5] == [
        "Method",
        "Mean of training sites: Strict",
        "Mean of training sites: Strict, low",
        "Mean of training sites: Strict, high",
        "Mean of training sites: Lenient",
    ]
    assert "Worst training site: Strict, cohort" in head
    row = next(row for row in body if row[0] == "Fed-MedLoRA+")
    mean = next(
        m
        for m in made_study["means"]
        if (m["arm"], m["method"], m["kind"], m["criterion"], m["over"])
        == ("main", "fed_medlora_plus", "entities", "strict", "site")
    )
    assert [float(cell) for cell in row[1:4]] == [mean["f1"], *mean["interval"]]  # all digits
    assert row[head.index("Worst training site: Strict, cohort")] == mean["worst_cohort"]
    assert all(len(row) == len(head) for row in body)


def test_every_table_is_whole(written):
    _, paths = written
    for path in (path for path in paths if path.suffix == ".csv"):
        found = rows(path)
        assert len(found) > 1
        assert {len(row) for row in found} == {len(found[0])}
        assert len(set(found[0])) == len(found[0]), path  # no two columns of one name


def test_units_stand_in_the_head(written):
    folder, _ = written
    head, *body = rows(folder / "tables" / "cost.csv")
    assert head[1:3] == ["Up (bytes)", "Down (bytes)"]
    # 4 rounds of 3 sites that send 19,550,000 bytes each
    assert next(row for row in body if row[0] == "Fed-MedLoRA")[1] == "234600000.0"


def test_hostile_names(study, tmp_path):
    study["arms"][0]["title"] = "=HYPERLINK(1)"
    study["arms"][1].update(name="../../x", title=HOSTILE, group="-../-", x_label="=1+1")
    study["arms"][2].update(name="..-..-X", group="-../-")
    for key in ("runs", "scores", "means", "comparisons"):
        for one in study[key]:
            one["arm"] = {"noise-20": "../../x", "noise-40": "..-..-X"}.get(one["arm"], one["arm"])
    folder = tmp_path / "in"
    paths = write_figures_and_tables(study, folder)
    assert all(path.resolve().parent.parent == folder for path in paths)
    assert {found.name for found in tmp_path.iterdir()} == {"in"}
    names = {path.name for path in paths}
    assert {"weights-x.svg", "weights-x-2.svg", "arms-unnamed-entities.svg"} <= names
    cells = [cell for path in paths if path.suffix == ".csv" for row in rows(path) for cell in row]
    assert "'=HYPERLINK(1)" in cells
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell[:1] in "=@" and cell]
    assert not [c for c in cells if c[:1] in "+-" and c and not re.fullmatch(r"-[\d.e-]+", c)]
    for path in paths:
        assert not re.search("[\x00-\x09\x0b-\x1f\u200b\u202e]", path.read_text(encoding="utf-8"))
        if path.suffix == ".svg":
            ET.fromstring(path.read_text(encoding="utf-8"))
