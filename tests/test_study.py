import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from fedmedlora.aggregation.fed_medlora_plus import FedMedLoraPlus
from fedmedlora.settings import type_words
from fedmedlora.study import Study, StudyWarning, load_study, parse_study
from fedmedlora.study_public import public_settings
from fedmedlora.study_reference import reference_page
from fedmedlora.study_tables import Evaluation, Lora, Model, Tasks, Training

PAGE = Path(__file__).parents[1] / "docs" / "study-file.md"
SITE = '[[sites]]\nname = "a"\ntrain = "a.jsonl"\ntest = "t.jsonl"\n'
SMALL = 'name = "s"\nmethods = ["zero_shot", "fed_medlora"]\n' + SITE


def parse(text):
    study, notices = parse_study(text)
    assert notices == ()
    return study


def with_table(text):
    """The small study with another table, or with top-level keys when ``text`` begins with no table."""
    return SMALL + text if text.startswith("[") else text + "\n" + SMALL


def test_defaults():
    study = parse(SMALL)
    assert (study.name, study.seed, study.methods) == ("s", 0, ("zero_shot", "fed_medlora"))
    assert study.model == Model("smollm2-135m", "auto", "none", "")
    assert study.adapter == Lora(16, 32.0, 0.0, "all-linear")
    assert study.tasks == Tasks(("ner", "modifiers"), "entity", "study", "markup", "clinical", 1024)
    assert study.training.learning_rate == 1e-3
    assert study.evaluation == Evaluation(("constrained",), True, 0, 0, True, 1000, 16)
    assert study.sites[0].train == "a.jsonl"
    assert study.cohorts == ()
    assert Study.__dataclass_fields__["methods"].default == ("zero_shot", "fed_medlora", "fed_medlora_plus")


def test_every_table_is_read():
    study = parse(
        'name = "s"\nseed = 3\nmethods = ["single_site", "centralized", "fed_medlora_plus"]\n'
        '[model]\nname = "m"\nprecision = "float32"\nquantization = "none"\nrevision = "v1"\n'
        '[adapter]\nrank = 2\nalpha = 4\ndropout = 0.5\ntargets = ["q_proj", "v_proj"]\n'
        '[tasks]\nmodifier_scope = "sentence"\nprompts = "short"\nmax_tokens = 99\n'
        '[training]\nrounds = 2\nmodifier_share = 0.5\nloss = "lm"\nbatching = "padded"\n'
        "[rules.fed_medlora_plus]\ngamma = 0\ntau = 0.5\n"
        '[validation]\nnotes = ["v.jsonl"]\nmax_sentences = 5\n'
        '[evaluation]\ndecoding = ["constrained", "free"]\nbootstrap = 0\n'
        + SITE
        + '[[sites]]\nname = "b"\ntrain = "b.jsonl"\n'
        '[[cohorts]]\nname = "x"\nkind = "new-site"\ntest = "x.jsonl"\n'
    )
    assert study.adapter == Lora(2, 4.0, 0.5, ("q_proj", "v_proj"))
    assert isinstance(study.adapter.alpha, float)
    assert study.training.modifier_share == 0.5
    assert study.rule("fed_medlora_plus") == FedMedLoraPlus(0, 0.5)
    assert study.rule_names() == ("fed_medlora_plus",)
    assert [site.name for site in study.sites] == ["a", "b"]
    assert study.cohorts[0].kind == "new-site"
    assert study.files() == (
        ("[validation] notes number 1", "v.jsonl"),
        ("[[sites]] a train", "a.jsonl"),
        ("[[sites]] a test", "t.jsonl"),
        ("[[sites]] b train", "b.jsonl"),
        ("[[cohorts]] x test", "x.jsonl"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede = 3", "study.toml: sede: unknown key; did you mean seed?"),
        (
            "[training]\nlearning_rat = 1.0",
            "study.toml: [training] learning_rat: unknown key; did you mean learning_rate?",
        ),
        ("[trainin]\nrounds = 1", "study.toml: trainin: unknown key; did you mean training?"),
        ("[model]\nfolder = 1", "known keys: name, precision, quantization, revision"),
        ("[folder]\nx = 1", "study.toml: folder: unknown key"),
        ("[validation]\nnotes = [3]", "[validation] notes: [3] is not allowed; it must be list of text"),
        ('[validation]\nnotes = "v.jsonl"', '"v.jsonl" is not allowed; it must be list of text'),
        ("[training]\nrounds = 0", "[training] rounds: 0 is out of range; it must be at least 1"),
        ("[training]\nrounds = 2.0", "rounds: 2.0 is not allowed; it must be whole number"),
        ("[training]\nrounds = true", "rounds: true is not allowed; it must be whole number"),
        ("[training]\nlearning_rate = 0", "learning_rate: 0 is out of range; it must be above 0"),
        ("[training]\nlearning_rate = nan", "learning_rate: nan is not allowed; it must be number"),
        ("[training]\nlearning_rate = inf", "it must be number"),
        ("[training]\nmicro_batch = 33", "[training] micro_batch: 33 is more than examples_per_step, 32"),
        ('[training]\nloss = "decisions"', '"decisions" is not allowed; did you mean decision?; it must be'),
        ('[training]\nmodifier_share = "naturl"', 'did you mean natural?; it must be "natural" or number'),
        ("[training]\nmodifier_share = 1.0", "it must be above 0 and below 1"),
        ("[training]\ngradient_checkpointing = 1", "1 is not allowed; it must be true or false"),
        ("[adapter]\ndropout = 1", "dropout: 1 is out of range; it must be at least 0 and below 1"),
        ("[adapter]\ntargets = []", "[adapter] targets: [] names no module"),
        ('[adapter]\ntargets = "all-liner"', "did you mean all-linear?"),
        ("[tasks]\nnames = []", "[tasks] names: name at least one, each once; known tasks: ner, modifiers"),
        ('[tasks]\nnames = ["ner", "ner"]', "[tasks] names: name at least one, each once"),
        ('[tasks]\nnames = ["modifier"]', '[tasks] names: unknown task "modifier"; did you mean modifiers?'),
        ("[evaluation]\ndecoding = []", "[evaluation] decoding: name"),
        ('[evaluation]\ndecoding = ["free", "free"]', "each once"),
        ('[evaluation]\ndecoding = ["greedy"]', 'it must be list of "constrained" or "free"'),
        ("seed = -1", "seed: -1 is out of range"),
        ("model = 3", "study.toml: model: write it as a table, [model]"),
        ("rules = 3", "write it as a table"),
        ("[rules]\nfed_medlora_plus = 3", "write a rule's settings as [rules.NAME]"),
        ("[rules.fed_medlora_plus]\ntua = 1", "unknown setting 'tua'; did you mean tau?"),
        (
            "[rules.fed_medlora_plus]\ntau = 0",
            "[rules.fed_medlora_plus] rule fed_medlora_plus: tau must",
        ),
        ("[rules.fed_medlor]\ntau = 1", "unknown rule 'fed_medlor'; did you mean fed_medlora?"),
        ("[rules.zero_shot]\ntau = 1", "unknown rule 'zero_shot'"),
        (SITE, "two are named 'a'"),
        (SITE.replace('"a"', '"A"'), "two are named 'A' (upper and lower case count as the same)"),
        ('[[cohorts]]\nname = "a"\nkind = "external"\ntest = "x"', "two are named 'a'"),
        ('[[cohorts]]\nname = "x"\nkind = "extern"\ntest = "x"', "[[cohorts]] number 1 (x) kind: "),
        (
            '[[cohorts]]\nname = "x"\nkind = "external"',
            "[[cohorts]] number 1 (x) test: missing; it is",
        ),
        ('[[cohorts]]\nname = "x"\nkind = "external"\ntest = ""', "test: empty; name a file of notes"),
        ('[[sites]]\nname = "b"', "[[sites]] b train: missing"),
        (
            '[[sites]]\nname = "b"\ntrian = "x"',
            "[[sites]] number 2 (b) trian: unknown key; did you mean",
        ),
        (
            '[[sites]]\nname = "../b"\ntrain = "x"',
            "[[sites]] number 2 (../b) name: site name '../b' is",
        ),
        ("[[sites]]\nname = 3\ntrain = 'x'", "[[sites]] number 2 name: 3 is not allowed; it must be text"),
        ("[training]\nrounds = = 1", "study.toml: not TOML: "),
        ("[training]\nrounds = 1\nrounds = 2", "study.toml: not TOML: "),
    ],
)
def test_bad_studies_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_study(with_table(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "study.toml: name: missing; it is title of the study"),
        ('name = " "\n' + SITE, "study.toml: name: empty"),
        ('name = "s"', "[[sites]]: none; a study needs at least one site"),
        ('name = "s"\nsites = []', "[[sites]]: none"),
        ('name = "s"\nsites = 3', "write each as a table of its own, [[sites]]"),
        ('name = "s"\nsites = [3]', "write each as a table of its own, [[sites]]"),
        ('name = "s"\nmethods = []\n' + SITE, "methods: name at least one"),
        ('name = "s"\nmethods = ["zero_shot", "zero_shot"]\n' + SITE, "each once"),
        (
            'name = "s"\nmethods = ["fed_medlorra"]\n' + SITE,
            'unknown method "fed_medlorra"; did you mean fed_medlora?; known methods: zero_shot, few_shot',
        ),
        (
            'name = "s"\nmethods = ["fed_medlora_plus"]\n' + SITE,
            "[validation] notes: missing; fed_medlora_plus weighs each site by its loss on validation notes",
        ),
    ],
)
def test_studies_that_lack_something_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_study(text)


PLUS = 'name = "s"\nmethods = ["fed_medlora_plus"]\n' + SITE + '[[sites]]\nname = "b"\ntrain = "b.jsonl"\n'
NO_TRAINING = 'name = "s"\nmethods = ["zero_shot"]\n' + SITE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SMALL + "[rules.fed_medlora_plus]\ntau = 1",
            "[rules.fed_medlora_plus] tau: no effect",
        ),
        (
            PLUS.replace('[[sites]]\nname = "b"\ntrain = "b.jsonl"\n', "")
            + '[validation]\nnotes = ["v"]\n[rules.fed_medlora_plus]\ntau = 1',
            "one site alone has all the weight",
        ),
        (NO_TRAINING + '[validation]\nnotes = ["v"]', "[validation] notes: no effect, nothing is trained"),
        (
            SMALL + '[validation]\nnotes = ["v"]\n[evaluation]\nevery_round=false',
            "[validation] notes: no effect",
        ),
        (
            SMALL + "[validation]\nmax_sentences = 3",
            "[validation] max_sentences: no effect, no valid",
        ),
        (
            SMALL + "[evaluation]\nevery_round = true",
            "[evaluation] every_round: no effect, no valid",
        ),
        (NO_TRAINING + "[training]\nrounds = 3\nloss = 'lm'", "[training] rounds, loss: no effect"),
        (NO_TRAINING + "[adapter]\nrank = 3", "[adapter] rank: no effect"),
        (NO_TRAINING + '[evaluation]\ndecoding = ["free"]', "[evaluation] decoding: no effect"),
        (SMALL + "[training]\npasses_per_round = 2\nsteps_per_round = 5", "passes_per_round: no effect"),
        (SMALL + "[training]\nloss = 'lm'\ndecision_weight = 2", "decision_weight: no effect, loss is lm"),
        (
            SMALL + '[tasks]\nnames = ["modifiers"]\n[training]\nmodifier_share = 0.5',
            "modifier_share: no effect",
        ),
        (SMALL + '[tasks]\nnames = ["ner"]\nmodifier_scope = "entity"', "modifier_scope: no effect"),
        (SMALL + '[model]\nrevision = "x"', "[model] revision: no effect"),
        (
            SMALL.replace('"zero_shot", ', "") + "[evaluation]\nzero_shot_free=true",
            "zero_shot_free: no effect",
        ),
        (
            SMALL + '[training]\nloss = "decision"\n[evaluation]\ndecoding = ["free"]',
            "free generation cannot read what loss decision trains",
        ),
        (SMALL.replace('test = "t.jsonl"\n', ""), "nothing is evaluated"),
    ],
)
def test_settings_without_effect_are_told(text, message):
    _, notices = parse_study(text)
    assert len(notices) == 1
    assert message in notices[0]


def test_to_dict_is_the_toml_with_defaults_filled_in():
    study = parse(SMALL)
    plain = study.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["adapter"] == {"rank": 16, "alpha": 32.0, "dropout": 0.0, "targets": "all-linear"}
    assert plain["sites"][0] | {"name": "a", "train": "a.jsonl", "test": "t.jsonl"} == plain["sites"][0]
    assert "folder" not in plain


def test_the_hash_follows_the_settings_and_nothing_else():
    study = parse(SMALL)
    spelled_out = parse("# a comment\n" + SMALL + "[training]\nrounds = 5\n[adapter]\nalpha = 32\n")
    elsewhere, _ = parse_study(SMALL, folder=Path("elsewhere"))
    assert study.study_hash() == spelled_out.study_hash() == elsewhere.study_hash()
    assert parse(SMALL + "[training]\nrounds = 6").study_hash() != study.study_hash()
    assert re.fullmatch("[0-9a-f]{64}", study.study_hash())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ('[tasks]\nform = "json"', True),
        ('[tasks]\nform = "json"\n[evaluation]\ndecoding = ["free"]', True),  # zero-shot is read constrained
    ],
)
def test_what_is_read_under_a_grammar(text, expected):
    assert parse_study(SMALL + text)[0].reads_under_grammar() == expected
    free = '[tasks]\nform = "json"\n[evaluation]\ndecoding = ["free"]\nevery_round = false\n'
    trained = SMALL.replace('"zero_shot", ', "")
    assert not parse_study(trained + free)[0].reads_under_grammar()
    watched = trained + '[validation]\nnotes = ["v.jsonl"]\n' + free.replace("every_round = false\n", "")
    assert parse_study(watched)[0].reads_under_grammar()


def test_few_shot_prompts_are_read_as_zero_shot_is():
    text = (
        SMALL.replace('["zero_shot", "fed_medlora"]', '["few_shot"]') + '[validation]\nnotes = ["v.jsonl"]\n'
    )
    free = '[tasks]\nform = "json"\n[evaluation]\ndecoding = ["free"]\nevery_round = false\n'
    study, notices = parse_study(text + free + "zero_shot_free = false\n")
    assert study.reads_under_grammar()
    assert not any("zero_shot_free" in notice for notice in notices)


WEIGHS = SMALL.replace('"fed_medlora"]', '"fed_medlora_plus"]')


@pytest.mark.parametrize("signal", ["task_loss", "f1"])
def test_sites_send_losses_and_no_other_signal(signal):
    two = WEIGHS + '[[sites]]\nname = "b"\ntrain = "b.jsonl"\n[validation]\nby = "sites"\n'
    assert parse_study(two)[0].validates_by_sites()
    with pytest.raises(ValueError, match=r"\[validation\] signal: .* sites send losses alone"):
        parse_study(two + f'signal = "{signal}"\n')


def test_sites_that_score_each_other_are_two_in_every_round():
    text = WEIGHS + '[[sites]]\nname = "b"\ntrain = "b.jsonl"\n{}[validation]\nby = "sites"\n'
    assert parse_study(text.format("absent_rounds = [99]\n"))  # a round that never comes
    with pytest.raises(ValueError, match=r"\[validation\] by: .*two sites or more in every round"):
        parse_study(text.format("absent_rounds = [2]\n"))
    assert parse_study(text.format("absent_rounds = [2]\n").replace("fed_medlora_plus", "fed_medlora"))


def test_instruction_data_has_no_f1_to_weigh_by():
    text = WEIGHS + '[tasks]\nnames = ["instruction"]\n[validation]\nnotes = ["v.jsonl"]\n'
    assert parse_study(text)
    with pytest.raises(ValueError, match=r'\[validation\] signal: "f1" is of entities'):
        parse_study(text + 'signal = "f1"\n')


def test_a_schema_is_a_file_of_the_study(tmp_path):
    study, _ = parse_study(SMALL + '[tasks]\nschema = "../birds.toml"', folder=tmp_path)
    assert study.files()[-1] == ("[tasks] schema", "../birds.toml")
    assert public_settings(study)["tasks"]["schema"] == "birds.toml"
    assert public_settings(parse(SMALL))["tasks"]["schema"] == "clinical"
    assert parse(SMALL).schema().name == "clinical"


def write(folder, text=SMALL, files=("a.jsonl", "t.jsonl")):
    for name in files:
        (folder / name).write_text("")
    (folder / "my.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / "my.toml"


def test_load_resolves_paths_beside_the_file(tmp_path):
    study = load_study(write(tmp_path))
    assert study.resolve(study.sites[0].train) == tmp_path / "a.jsonl"
    assert study.model_name() == "smollm2-135m"
    (tmp_path / "base").mkdir()
    local = load_study(write(tmp_path, SMALL + '[model]\nname = "base"'))
    assert local.model_name() == str(tmp_path / "base")


def test_a_windows_file_is_read(tmp_path):
    data = b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode()
    assert load_study(write(tmp_path, data)) == load_study(write(tmp_path))


def test_load_warns_of_settings_without_effect(tmp_path):
    path = write(tmp_path, SMALL + "[rules.fed_medlora_plus]\ntau = 1.0")
    with pytest.warns(StudyWarning, match=r"my.toml: \[rules.fed_medlora_plus\] tau: no effect"):
        load_study(path)


def test_load_refuses_what_it_cannot_read(tmp_path):
    with pytest.raises(ValueError, match=r"none.toml: cannot be read \(No such file"):
        load_study(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="cannot be read"):
        load_study(tmp_path)
    with pytest.raises(ValueError, match="not UTF-8 at byte 8"):
        load_study(write(tmp_path, b'name = "\xff"'))
    missing = SMALL.replace("t.jsonl", "typo.jsonl")
    with pytest.raises(ValueError, match=r"my.toml: \[\[sites\]\] a test: typo.jsonl is not there"):
        load_study(write(tmp_path, missing))


def test_the_page_and_the_code_agree():
    page = PAGE.read_text(encoding="utf-8")
    assert page.endswith(reference_page()), "put reference_page() at the end of docs/study-file.md"
    shown = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    for table in (Model, Lora, Tasks, Training, Evaluation, FedMedLoraPlus):
        assert [field.name for field in fields(table) if field.name not in shown] == []


def test_the_example_on_the_page_is_a_study():
    example = re.search(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert example is not None
    study = parse(example[1])
    assert study.rule("fed_medlora_plus") == FedMedLoraPlus(1.0, 0.5)
    assert len(study.sites) == 2


def test_type_words():
    assert type_words(tuple[str, ...]) == "list of text"
    assert type_words(bool) == "true or false"


def test_sites_hold_notes_out_only_where_a_method_weighs_by_them(tmp_path):
    text = 'name = "s"\nmethods = ["{}"]\n[validation]\nby = "sites"\n[[sites]]\nname = "a"\ntrain = "a"\n'
    text += '[[sites]]\nname = "b"\ntrain = "b"\n[evaluation]\nevery_round = true\n'
    study, notices = parse_study(text.format("fed_medlora_plus"))
    assert study.validates_by_sites()
    assert not any("every_round" in notice for notice in notices)
    study, notices = parse_study(text.format("fed_medlora"))
    assert not study.validates_by_sites()
    assert any(notice.startswith("[validation] by: no effect") for notice in notices)
    assert any(notice.startswith("[evaluation] every_round: no effect") for notice in notices)
