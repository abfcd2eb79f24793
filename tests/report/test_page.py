import itertools
import re
import shlex

import pytest
from html_reader import HOSTILE, read

from fedmedlora.report.markup import escape, visible
from fedmedlora.report.page import page_text, write_report


def test_written_whole_and_the_same_each_time(results, example, tmp_path):
    path = write_report(results, tmp_path, [example])
    assert path == tmp_path / "report.html"
    first = path.read_bytes()
    assert write_report(results, tmp_path, [example]).read_bytes() == first
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]
    assert first.startswith(b"<!doctype html>")


def test_nothing_is_written_of_wrong_results(results, tmp_path):
    with pytest.raises(ValueError, match=r"^version"):
        write_report({**results, "version": 9}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_loads_nothing_and_runs_nothing(results, example):
    page = page_text(results, [example])
    found = read(page)
    tags = {tag for tag, _, _ in found.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "base", "video", "audio"}
    for _, attrs, _ in found.elements:
        assert not any(key.startswith("on") or key in ("src", "style", "srcset") for key in attrs)
        assert attrs.get("href", "#").startswith(("#", "data:,"))
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in page.replace("http-equiv", "")
    policy = next(meta for meta in found.all("meta") if meta.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")


def test_semantics(results, example):
    found = read(page_text(results, [example]))
    ids = [attrs["id"] for _, attrs, _ in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs, _ in found.elements:
        for target in attrs.get("aria-labelledby", "").split():
            assert target in ids
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
    assert [attrs["lang"] for attrs in found.all("html")] == ["en"]
    assert len(found.all("h1")) == len(found.all("main")) == 1
    levels = [int(tag[1]) for tag, _, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    tables = len(found.all("table"))
    assert tables == len(found.all("caption")) > 15
    assert all("scope" in attrs for attrs in found.all("th"))
    figures = len(found.all("figure"))
    assert figures == len(found.all("figcaption")) == 8
    inside = [parents for tag, _, parents in found.elements if tag == "table" and "figure" in parents]
    assert len(inside) == figures  # the data of each figure, folded
    assert all("details" in parents for parents in inside)
    pictures = [attrs for attrs in found.all("svg") if "aria-hidden" not in attrs]
    assert len(pictures) == len(found.all("title")) - 1 == len(found.all("desc"))
    assert all(attrs["role"] == "img" for attrs in pictures)
    first_link = found.all("a")[0]
    assert first_link["class"] == "skip"
    assert all("tabindex" in attrs for attrs in found.all("div") if attrs.get("class") == "scroll")


def test_every_figure_ends_with_the_command_that_makes_it(results):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page_text(results), re.S)
    assert len(captions) == 8
    command = escape(shlex.join(results["command"]))
    assert all(one.endswith(f'<span class="made">Made by <code>{command}</code></span>') for one in captions)


def test_what_the_summary_says(results):
    for method, tp in (("fed_medlora", 60), ("fed_medlora_plus", 90)):
        one = next(m for m in results["methods"] if m["name"] == method)
        for evaluation in one["evaluations"]:
            six = {
                "tp": tp,
                "fp": 100 - tp,
                "fn": 100 - tp,
                **dict.fromkeys(("precision", "recall", "f1"), tp / 100),
            }
            more = {"macro_f1": tp / 100, "interval": [tp / 100 - 0.01, tp / 100 + 0.01]}
            evaluation["scores"]["entities"]["strict"] = {**six, **more, "per_type": {"drug": six}}
    text = "".join(read(page_text(results)).texts)
    assert "Entities, strict F1. Best: Fed-MedLoRA+ on 5 of 5 cohorts. Best against zero-shot" in text
    assert "All cohorts are synthetic" in text
    assert "19.6 MB in each round" in text
    assert "methods that tie" not in text


@pytest.mark.parametrize(
    ("at", "said"), [(5, "on 5 of 5 cohorts, Fed-MedLoRA+ on 5"), (2, "5 cohorts, Fed-MedLoRA on 2")]
)
def test_methods_that_tie_are_both_counted_and_it_is_said(results, at, said):
    plain, plus = results["methods"][2:]
    for method in results["methods"][:2]:
        method["evaluations"] = []
    for place, (one, other) in enumerate(zip(plain["evaluations"], plus["evaluations"], strict=True)):
        six = {"tp": 9, "fp": 1, "fn": 1, **dict.fromkeys(("precision", "recall", "f1"), 0.9)}
        numbers = {**six, "macro_f1": 0.9, "interval": [0.8, 1.0], "per_type": {"drug": six}}
        zero = {"tp": 0, "fp": 1, "fn": 1, **dict.fromkeys(("precision", "recall", "f1"), 0.0)}
        other["scores"]["entities"]["strict"] = numbers
        if place < at:
            one["scores"]["entities"]["strict"] = numbers
        else:
            one["scores"]["entities"]["strict"] = {
                **numbers,
                **zero,
                "per_type": {"drug": zero},
                "interval": [0, 0],
            }
    text = "".join(read(page_text(results)).texts)
    where = "all" if at == 5 else at
    assert f"{said} (methods that tie all count, which they do on {where} of them). " in text


def test_why_a_score_has_no_interval_is_said(results):
    said = "A score without an interval rests on fewer than 6 notes with anything to count, which"
    assert said not in "".join(read(page_text(results)).texts)
    winner = results["methods"][3]["evaluations"]
    for evaluation in winner:
        six = {"tp": 9, "fp": 0, "fn": 0, **dict.fromkeys(("precision", "recall", "f1"), 1.0)}
        evaluation["scores"]["entities"]["strict"] = {
            **six, "macro_f1": 1.0, "interval": None, "per_type": {"drug": six},
        }  # fmt: skip
    text = "".join(read(page_text(results)).texts)
    assert text.count(said) == 2  # under the cards, and under the tables
    assert "In brackets: 95% interval." in text  # of modifiers
    assert "On all of them the best one has no interval to tell its lead from chance." in text
    results["study"]["evaluation"] = {"bootstrap": 0}
    text = "".join(read(page_text(results)).texts)
    assert said not in text
    assert text.count("the study asks for none") == 2


def time_table(results):
    """The words of the table of times."""
    found = re.search('<caption><span id="time-data-caption".*?</table>', page_text(results), re.S)
    return " ".join(read(found.group()).texts)


def test_the_coordinators_time_is_told(results):
    """Five rounds: Fed-MedLoRA+ validates for 20 s in each; Fed-MedLoRA needs nothing."""
    plain, plus = results["methods"][2:]
    for one in plain["rounds"]:
        one["validate_seconds"] = None
    for one in plus["rounds"]:
        one["validate_seconds"] = 20.0
    table = re.search(
        '<table[^>]*><caption><span id="time-data-caption".*?</table>', page_text(results), re.S
    )
    text = " ".join(read(table.group()).texts)
    assert re.search(r"Method\s+Training\s+Validation\s+Aggregation\s+Evaluation", text)
    assert re.search(r"Fed-MedLoRA\+\s+[\d a-z]+\s+1 min 40 s\s+0\.6 s", text)
    assert re.search(r"Fed-MedLoRA\s+[\d a-z]+\s+0\.0 s\s+0\.6 s", text)
    del plain["rounds"][2]["validate_seconds"]  # of an older version
    table = re.search(
        '<table[^>]*><caption><span id="time-data-caption".*?</table>', page_text(results), re.S
    )
    assert re.search(r"Fed-MedLoRA\s+[\d a-z]+\s+not measured", " ".join(read(table.group()).texts))


@pytest.mark.parametrize(("reach", "said"), [(0.19, False), (0.2, True), (0.3, True)])
def test_overlapping_intervals_are_said(results, reach, said):
    # F1 of 0.6 against 0.9; the best one's interval begins at 0.9 - 0.1 = 0.8
    for place, method in enumerate(results["methods"]):
        tp = 90 if place == 3 else 60
        for evaluation in method["evaluations"]:
            shares = dict.fromkeys(("precision", "recall", "f1"), tp / 100)
            six = {"tp": tp, "fp": 100 - tp, "fn": 100 - tp, **shares}
            ends = [0.8, 1.0] if place == 3 else [0.5, 0.6 + reach]
            more = {"macro_f1": tp / 100, "interval": ends, "per_type": {"drug": six}}
            evaluation["scores"]["entities"]["strict"] = {**six, **more}
            evaluation["scores"]["modifiers_gold"] = None
    text = "".join(read(page_text(results)).texts)
    assert ("On all of them the 95% interval of another method overlaps" in text) == said


def test_real_cohorts_are_called_real(results):
    for cohort in results["cohorts"]:
        cohort["synthetic"] = cohort["name"] == "saltmarsh"
    text = "".join(read(page_text(results)).texts)
    assert "1 of 5 cohorts are synthetic (written by a program): saltmarsh." in text


def test_limits_are_said(results):
    text = "".join(read(page_text(results)).texts)
    for words in ("Adapters can memorize", "No differential privacy yet", "Not a medical device"):
        assert words in text


def test_what_was_lost_is_said(results):
    text = "".join(read(page_text(results)).texts)
    assert "crossing: 3; discontinuous: 11" in text
    assert "crossing: 1" in text
    assert "nested too deep: 5" in text
    assert "nested too deep" not in "".join(read(page_text({**results, "validation": None})).texts)
    assert "Answers that could not be read: 205" in text  # 5 cohorts, 41 each
    assert "fedmedlora run study.toml --out 'my results'" in text


def test_hostile_names_stay_names(results):
    renamed = {"lakeside": HOSTILE}
    for cohort in results["cohorts"]:
        cohort["name"] = renamed.get(cohort["name"], cohort["name"])
        cohort["not_expressible"] = {HOSTILE: 1}
        cohort["annotates"]["entities"] = [HOSTILE]
    for method in results["methods"]:
        method["label"] = HOSTILE
        method["name"] += HOSTILE
        method["adapter"] = HOSTILE
        for evaluation in method["evaluations"]:
            evaluation["cohort"] = renamed.get(evaluation["cohort"], evaluation["cohort"])
        for one in method["rounds"]:
            one["weights"] = {renamed.get(site, site): weight for site, weight in one["weights"].items()}
            for site in one["sites"]:
                site["site"] = renamed.get(site["site"], site["site"])
    for place in ("environment", "model"):
        results[place] = {k: HOSTILE if isinstance(v, str) else v for k, v in results[place].items()}
    results |= {"name": HOSTILE, "created_utc": HOSTILE, "command": [HOSTILE], "study": {HOSTILE: [HOSTILE]}}
    page = page_text(results)
    assert "script" not in {tag for tag, _, _ in read(page).elements}
    assert not re.search("[\x00-\x09\x0b-\x1f\u200b\u202e\ud800]", page)
    page.encode("utf-8")
    assert (
        "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;[U+0000][U+001B][31m[U+202E][U+D800][U+200B]"
        in page
    )


def test_what_is_cut_at_the_side_has_a_shadow_there(results):
    """Two covers move with what is shown; where they have gone, the shadows under them are seen."""
    page = page_text(results)
    (box,) = re.findall(r"div\.scroll \{ margin[^}]*\}", page)
    assert (box.count(" no-repeat local"), box.count(" no-repeat scroll")) == (2, 2)
    assert page.count("--shade: rgb(") == 2  # in light and in dark
    assert "div.scroll { background: none; }" in page  # on paper nothing is cut


def test_visible():
    assert visible("a\nb") == "a[U+000A]b"
    assert visible("a\n\tb\r", layout=True) == "a\n\tb[U+000D]"
    assert visible("zażółć ‌ بيمارستان \U0001f3e5") == "zażółć ‌ بيمارستان \U0001f3e5"
    assert visible("\ufeff\u2066\u2028\ufffe\U000e0041") == "[U+FEFF][U+2066][U+2028][U+FFFE][U+E0041]"
    assert escape("<&>\"'") == "&lt;&amp;&gt;&quot;&#39;"


def test_nothing_one_and_many(results):
    read(page_text({**results, "cohorts": [], "methods": []}))
    untrained = {**results, "methods": results["methods"][:1]}
    assert "Nothing was trained." in page_text(untrained)
    many = [
        {**results["methods"][1], "name": f"single_site:{n}", "label": f"Site {n} " * 9} for n in range(12)
    ]
    read(page_text({**results, "methods": many}))


def test_what_was_not_measured_is_not_zero(results):
    for method in results["methods"]:
        for one in method["rounds"]:
            one["validation"] = None
            for site in one["sites"]:
                site["validation_loss"] = site["peak_memory_bytes"] = site["train_loss"] = None
        for evaluation in method["evaluations"]:
            evaluation["scores"] = dict.fromkeys(evaluation["scores"])
    text = "".join(read(page_text(results)).texts)
    assert "Not measured." in text
    assert "0.000" not in text


def test_who_was_absent_is_said_and_hostile_reasons_stay_text(results):
    assert "asked and are not in a round" not in page_text(results)
    rounds = next(method["rounds"] for method in results["methods"] if method["rounds"])
    rounds[0]["absent"] = [{"site": "northgate", "reason": "<script>alert(1)</script>"}]
    told = page_text(results)
    assert "asked and are not in a round" in told
    assert "&lt;script&gt;alert(1)" in told
    assert "<script>alert" not in told
