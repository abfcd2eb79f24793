import itertools
import re
from html import unescape

import pytest
from browser import BROWSER, DARK, look_at
from html_reader import HOSTILE, read

from fedmedlora.report.study_page import study_page_text, write_study_report

SECTIONS = [
    "summary",
    "scores",
    "external",
    "new-site",
    "group-a-noisy-site",
    "group-number-of-sites",
    "group-participation",
    "weights",
    "cost",
    "types",
    "calibration",
    "differences",
    "reading",
    "usage",
    "record",
    "limits",
]


def sections(page):
    return re.findall(r'<section id="([^"]*)"', page)


def text_of(page):
    return unescape(re.sub(r"<[^>]*>", "", page.partition("</head>")[2]))


@pytest.fixture(scope="module")
def page(made_study):
    return study_page_text(made_study)


def test_written_whole_and_the_same_each_time(made_study, page, tmp_path):
    path = write_study_report(made_study, tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_bytes() == page.encode()
    assert write_study_report(made_study, tmp_path).read_bytes() == page.encode()
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]


def test_nothing_is_written_of_wrong_results(made_study, tmp_path):
    with pytest.raises(ValueError, match=r"^version"):
        write_study_report({**made_study, "version": 9}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_loads_nothing_and_runs_nothing(page):
    found = read(page)
    assert not {tag for tag, _, _ in found.elements} & {"script", "img", "iframe", "object", "form", "base"}
    for _, attrs, _ in found.elements:
        assert not any(key.startswith("on") or key in ("src", "style", "srcset") for key in attrs)
        assert attrs.get("href", "#").startswith(("#", "data:,"))
    assert "url(" not in page
    assert "http" not in page.replace("http-equiv", "")
    policy = next(meta for meta in found.all("meta") if meta.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")


def test_the_order_of_the_sections(page):
    assert sections(page) == SECTIONS
    links = [attrs["href"] for attrs in read(page).all("a")]
    assert links == ["#content", *(f"#{ident}" for ident in SECTIONS)]


def test_semantics(page):
    found = read(page)
    ids = [attrs["id"] for _, attrs, _ in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs, _ in found.elements:
        for target in attrs.get("aria-labelledby", "").split():
            assert target in ids
    levels = [int(tag[1]) for tag, _, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(found.all("table")) == len(found.all("caption")) > 40
    assert all("scope" in attrs for attrs in found.all("th"))
    figures = len(found.all("figure"))
    assert figures == len(found.all("figcaption")) > 15
    inside = [parents for tag, _, parents in found.elements if tag == "table" and "figure" in parents]
    assert len(inside) == figures  # the data of each figure, folded
    assert all("details" in parents for parents in inside)
    pictures = [attrs for attrs in found.all("svg") if "aria-hidden" not in attrs]
    assert len(pictures) == len(found.all("title")) - 1 == len(found.all("desc"))
    assert all(attrs["role"] == "img" for attrs in pictures)
    boxes = [attrs for attrs in found.all("div") if "scroll" in attrs.get("class", "").split()]
    assert all(attrs["tabindex"] == "0" and attrs["role"] == "region" for attrs in boxes)


def test_every_caption_ends_with_the_command_that_makes_it(page):
    tables = re.findall(r'<table[^>]*><caption><span id="([^"]*)">(.*?)</caption>', page)
    named = [text for ident, text in tables if not ident.endswith("-data-caption")]
    ending = re.compile(
        r"Made by <code>fedmedlora run hospitals\.toml --arms [\w,-]+ --out RUN</code></span>$"
    )
    assert len(named) > 25
    for text in (*re.findall(r"<figcaption>(.*?)</figcaption>", page), *named):
        assert ending.search(unescape(text)), text[-200:]
    assert "--arms main,noise-20,noise-40 --out" in page


def test_no_head_of_a_table_is_empty(page):
    assert page.count("<thead>") > 25
    assert not re.search(r"<th[ >][^>]*></th>", page)


def test_without_a_study_file_in_the_command(study):
    study["command"] = ["fedmedlora", "run"]
    assert "fedmedlora run study.toml --arms main --out RUN" in study_page_text(study)


@pytest.mark.parametrize(
    ("section", "empty"),
    [
        ("scores", lambda study: study.update(scores=[], means=[], comparisons=[])),
        ("calibration", lambda study: study.update(calibration=[])),
        ("differences", lambda study: study.update(comparisons=[])),
        ("types", lambda study: [one.update(per_type={}) for one in study["scores"]]),
        ("usage", lambda study: [m.update(usage=None) for r in study["runs"] for m in r["methods"]]),
        ("new-site", lambda study: [m.update(adaptation=None) for r in study["runs"] for m in r["methods"]]),
        ("weights", lambda study: [m.update(rounds=[]) for r in study["runs"] for m in r["methods"]]),
        ("group-a-noisy-site", lambda study: [a.update(group="") for a in study["arms"]]),
    ],
)
def test_a_section_without_data_is_left_out(study, section, empty):
    empty(study)
    found = sections(study_page_text(study))
    assert section not in found
    assert found[0] == "summary"
    assert found[-1] == "limits"


def test_nothing_was_run(study):
    for key in ("runs", "scores", "means", "comparisons", "calibration"):
        study[key] = []
    page = study_page_text({**study, "arms": study["arms"][:1]})
    assert sections(page) == ["summary", "record", "limits"]
    assert "No score was measured." in text_of(page)


def set_means(study, f1s, over="site", significant=False):
    """Strict F1 of entities in the main arm, 0.02 to both sides; one test, of the first two methods."""
    for mean in study["means"]:
        if (mean["arm"], mean["kind"], mean["criterion"]) == ("main", "entities", "strict"):
            f1 = f1s.get(mean["method"], 0.05) if mean["over"] == over else 0.0
            mean.update(f1=f1, f1_by_seed=[f1, f1], interval=[max(0.0, f1 - 0.02), f1 + 0.02])
    a, b = list(f1s)[:2]
    difference = f1s[b] - f1s[a]
    study["comparisons"] = [
        {
            **{"arm": "main", "decoding": "constrained", "kind": "entities", "criterion": "strict"},
            **{"over": over, "a": b, "b": a, "difference": difference},
            **{"interval": [difference - 0.01, difference + 0.01], "p": 0.01, "p_holm": 0.02},
            "significant": significant,
        }
    ]


def test_what_the_summary_says(study):
    set_means(study, {"fed_medlora_plus": 0.75, "centralized": 0.5, "zero_shot": 0.1}, significant=True)
    text = text_of(study_page_text(study))
    what = "15 methods on 6 cohorts (3 training sites, 2 external, 1 new site), 2 seeds (0, 1), 12 runs."
    assert what in text
    best = "Entities, strict F1, training sites. Best: Fed-MedLoRA+ 0.750 (0.73–0.77), mean of 3 cohorts."
    assert best in text
    # the test names the two the other way round: 0.75 - 0.5, from 0.24 to 0.26
    told = "Fed-MedLoRA+ against Centralized: +0.250 (+0.24 to +0.26), significant (Holm p = 0.020)."
    assert told in text
    assert "Fed-MedLoRA+ was not tested against Single site: lakeside, Zero-shot." in text
    assert "Entities, strict F1, external cohorts. No method found anything right." in text
    assert "All cohorts are synthetic" in text
    assert "2 seeds are few" in text


def test_a_difference_that_may_be_chance_is_called_so(study):
    set_means(study, {"fed_medlora": 0.5, "centralized": 0.51})
    text = text_of(study_page_text(study))
    assert "Best: Centralized 0.510 (0.49–0.53), mean of 3 cohorts; best of the federated methods:" in text
    assert "Fed-MedLoRA against Centralized: −0.010 (−0.02 to 0.00), not significant, it may be" in text


def test_the_test_on_the_only_new_site_is_that_of_their_mean(study):
    set_means(study, {"fed_medlora": 0.75, "centralized": 0.5}, over="new-site", significant=True)
    study["comparisons"][0]["over"] = "cohort:saltmarsh"
    told = "Fed-MedLoRA against Centralized: +0.250 (+0.24 to +0.26), significant (Holm p = 0.020)."
    assert told in text_of(study_page_text(study))


def test_one_seed_is_said(study):
    study["seeds"] = study["seeds"][:1]
    study["runs"] = [run for run in study["runs"] if run["seed"] == 0]
    for one in (*study["scores"], *study["means"]):
        one.update(f1_by_seed=one["f1_by_seed"][:1], f1=one["f1_by_seed"][0])
    assert "There is one seed: intervals hold the chance of which notes" in text_of(study_page_text(study))


def test_significant_differences_are_marked_by_a_word(study):
    first, second = study["comparisons"][:2]
    first.update(p=0.0001, p_holm=0.0004, significant=True)
    second.update(p=None, p_holm=None, significant=False)
    study["comparisons"] = [first, second]
    page = study_page_text(study)
    table = re.search(r"Entities, means over cohorts: differences in F1.*?</table>", page, re.DOTALL).group()
    rows = re.findall(r"<tr>.*?</tr>", table)
    assert "<strong>significant</strong>" in rows[1]
    assert "&lt; 0.001" in rows[1]
    assert rows[2].count("not tested") == 3


def test_the_page_says_what_p_and_the_interval_are(page):
    """p is of a permutation test over notes: it draws no seeds, and the interval does."""
    told = re.search(r'<section id="differences".*?</p>', page, re.DOTALL).group()
    assert "p: two-sided, by a paired permutation test over notes." in told
    assert "95% interval by bootstrap over seeds and notes" in told
    assert "below 0.05" in told
    assert "tested over notes, for these trained models; other seeds give others" in text_of(page)


def test_what_was_not_measured_is_not_zero(study):
    study["scores"] = [s for s in study["scores"] if (s["method"], s["cohort"]) != ("few_shot", "lakeside")]
    page = study_page_text(study)
    row = re.search(r"<tr><th[^>]*>(?:(?!</tr>).)*Few-shot.*?</tr>", page).group()
    assert row.count("not measured") == 2
    assert "0.000" not in row


def test_methods_have_signs_of_their_own(page):
    table = re.search(r"<table.*?</table>", page, re.DOTALL).group()
    signs = re.findall(r'<span class="method">(<svg.*?</svg>)', table)
    assert len(signs) == len(set(signs)) == 15


def rename(held, names):
    """Every text of ``held`` that is one of ``names``, changed; keys of tables too."""
    if isinstance(held, dict):
        return {names.get(key, key): rename(value, names) for key, value in held.items()}
    if isinstance(held, list):
        return [rename(item, names) for item in held]
    return names.get(held, held) if isinstance(held, str) else held


def test_hostile_names_stay_names(study):
    cohorts = ("lakeside", "stonebridge", "saltmarsh")
    names = {name: HOSTILE + name for name in (*cohorts, "problem", "negation", "noise-20", "Fed-MedLoRA+")}
    names |= {"A noisy site": HOSTILE, "share of labels corrupted": HOSTILE, "EUR": HOSTILE}
    names |= dict.fromkeys(("20 % of lakeside's labels corrupted", "The study as it stands"), HOSTILE)
    names["cohort:stonebridge"] = f"cohort:{HOSTILE}stonebridge"
    study = rename(study, names)
    study |= {"name": HOSTILE, "created_utc": HOSTILE, "command": [HOSTILE, f"{HOSTILE}.toml"]}
    for run in study["runs"]:
        run["folder"] = HOSTILE
    page = study_page_text(study)
    assert "script" not in {tag for tag, _, _ in read(page).elements}
    assert not re.search("[\x00-\x09\x0b-\x1f\u200b\u202e\ud800]", page)
    page.encode("utf-8")
    assert "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;[U+0000]" in page


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_it_fits_the_window(page, tmp_path, width):
    if BROWSER is None:
        pytest.skip("no chromium on this machine: the page is not looked at in a browser")
    seen = look_at(page, tmp_path, width, DARK if width == 800 else ())
    assert seen["overflow"] == "0"
    is_dark = seen["ground"] == "rgb(17, 20, 24)"  # --ground of the dark scheme, #111418
    assert is_dark == (width == 800)
    assert is_dark == (seen["ink"] == "rgb(232, 234, 237)")
