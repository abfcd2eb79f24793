"""What many tests share: tiny random models and a small byte-level BPE tokenizer, all from seeds.

torch and transformers are imported inside the fixtures: a test that asks for none of them does not wait
for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Shared machines stall for longer than hypothesis's deadline of 0.2 s an example allows.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")

pytest_plugins = ("tiny_study", "tiny_encoder", "saved_adapter")  # for their fixtures

# Their tests start programs and wait for them, so files of a few tests take minutes.
SLOW = tuple(f"tests/{folder}/" for folder in ("flower", "provision", "training", "report", "watch"))

WORDS = (
    "Pt denies chest pain and severe nausea . He was started on aspirin 81 mg daily <problem> </problem> "
    "<drug> </drug> <test> </test> no fever , blood pressure was 120 / 80 ; problem drug test"
)
END = "<|end|>"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow first, then files of many tests: xdist hands out whole files in this order, and whoever is
    handed a slow one last works on alone."""
    num_tests = Counter(_file(item) for item in items)
    items.sort(key=lambda item: (not _file(item).startswith(SLOW), -num_tests[_file(item)], _file(item)))


def _file(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


@pytest.fixture(scope="session")
def one_thread():
    """Threads that wait for each other cost tiny models more time than the arithmetic."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer_of() -> Callable[..., object]:
    """``tokenizer_of(lines, vocab_size)`` -> a byte-level BPE tokenizer trained on the lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def make(lines: list[str], vocab_size: int, **special: str | None):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(lines, trainer)
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{"eos_token": END, **special})

    return make


@pytest.fixture(scope="session")
def encoder(tokenizer_of, one_thread):
    from fedmedlora.model.tokens import Encoder

    return Encoder(tokenizer_of([WORDS] * 4, 340))


@pytest.fixture(scope="session")
def build(encoder, one_thread):
    """``build(kind, seed)`` -> a random model with weights large enough for lively output."""
    import torch
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        GPTNeoXConfig,
        GPTNeoXForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    def make(kind: str, seed: int, *, vocab_size: int | None = None, std: float = 0.3):
        sizes = {
            "vocab_size": vocab_size or len(encoder.tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 4096,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if kind == "llama":
                config = LlamaConfig(**sizes, num_key_value_heads=2, tie_word_embeddings=True)
                model = LlamaForCausalLM(config)
            elif kind == "qwen2":
                model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=2))
            elif kind == "gpt2":  # learned positions, and linear layers that are none of torch's
                no_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
                model = GPT2LMHeadModel(GPT2Config(**sizes, n_inner=48, **no_dropout))
            else:
                model = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes))
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim == 2:
                        parameter.normal_(std=std)
        model.generation_config.pad_token_id = encoder.pad_id
        return model.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def save_model(encoder, build):
    """``save_model(folder, kind, seed)`` -> the folder, with a tiny model as transformers saves it."""

    def save(folder: Path, kind: str = "llama", seed: int = 0, *, tokenizer=None, std: float = 0.3) -> Path:
        tokenizer = tokenizer or encoder.tokenizer
        model = build(kind, seed, vocab_size=len(tokenizer), std=std)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, save_model) -> dict[str, Path]:
    """Architecture -> folder of a tiny saved model of it."""
    root = tmp_path_factory.mktemp("models")
    return {kind: save_model(root / kind, kind) for kind in ("llama", "qwen2", "gpt_neox", "gpt2")}


@pytest.fixture
def load(model_folders):
    """``load(kind)`` -> a ``BaseModel`` by the real path, freshly loaded."""
    from fedmedlora.model.load import load_base_model

    return lambda kind="llama": load_base_model(str(model_folders[kind]), precision="float32")


@pytest.fixture(scope="session")
def example():
    """``example(text, marked, instruction)`` -> an NER example; ``marked``: (label, surface) pairs."""
    from fedmedlora.corpora.note import Entity
    from fedmedlora.tasks.example import Example
    from fedmedlora.tasks.form import load_form
    from fedmedlora.tasks.pieces import pieces

    def make(
        text: str,
        marked=(),
        instruction: str = "Mark it.",
        labels=("problem", "drug", "test"),
        number=0,
        form: str = "markup",
    ):
        cut = pieces(text, 0, len(text))
        entities = []
        for i, (label, surface) in enumerate(marked):
            start = text.index(surface)
            entities.append(Entity(f"T{i}", label, ((start, start + len(surface)),)))
        how = load_form(form)
        target, unplaced = how.render(cut, entities, labels)
        assert not unplaced
        return Example(
            f"n/{number}", "n", "ner", instruction, how.written(cut), cut, labels, target, form=form
        )

    return make


@pytest.fixture(scope="session")
def step_examples(step_examples_of):
    """Token examples of one optimizer step: two instructions, several lengths, one without any tag."""
    return step_examples_of("markup")


@pytest.fixture(scope="session")
def step_examples_of(encoder, example):
    """``step_examples_of(form)`` -> ``step_examples`` in that form."""
    from dataclasses import replace

    from fedmedlora.tasks.form import load_form
    from fedmedlora.tasks.markup import place

    def in_form(case, form: str):
        from fedmedlora.corpora.note import Entity

        found = place(case.pieces, case.target)[0]
        gold = [Entity(str(i), m.label, ((m.start, m.end),)) for i, m in enumerate(found)]
        target, _ = load_form(form).render(case.pieces, gold, case.labels)
        return replace(case, target=target, input=load_form(form).written(case.pieces), form=form)

    short, long = "Mark it.", "Another instruction, somewhat longer than the first: <drug> and <test>."
    made = [
        example("Pt denies chest pain and severe nausea.", [("problem", "chest pain")], short),
        example("no fever", [], short),
        example("He was started on aspirin 81 mg daily.", [("drug", "aspirin 81 mg")], long),
        example("fever", [("problem", "fever")], short),
        example("blood pressure was 120 / 80; no pain", [("test", "blood pressure")], long),
        example("chest pain, severe nausea", [("problem", "chest pain"), ("problem", "severe nausea")], long),
        example("aspirin", [("drug", "aspirin")], short),
    ]
    return lambda form: tuple(encoder.encode(in_form(case, form)) for case in made)


# --- a whole study on a tiny model, for the command line ------------------------------------------------

MARK = "Okapi zeppelin quartzite."  # stands in every note of the study; no message may ever hold it


@pytest.fixture(scope="session")
def marked() -> str:
    return MARK


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory, model_folders) -> Path:
    """A folder with ``study.toml``, ``model/`` and the notes of two synthetic sites, a mark in each note."""
    import shutil
    from dataclasses import replace

    from fedmedlora.corpora.jsonl import write_notes
    from fedmedlora.corpora.synthetic import HOSPITALS, synthesize

    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(model_folders["llama"], folder / "model")
    sites = []
    for hospital in HOSPITALS[:2]:
        for part, num in (("train", 3), ("test", 2)):
            notes = [replace(n, text=f"{n.text}\n{MARK}\n") for n in synthesize(hospital, num, 1, part)]
            header = {"name": hospital, "schema": "clinical", "synthetic": True}
            write_notes(folder / f"{hospital}-{part}.jsonl", notes, header=header)
        files = "".join(f'{part} = "{hospital}-{part}.jsonl"\n' for part in ("train", "test"))
        sites.append(f'[[sites]]\nname = "{hospital}"\n{files}')
    (folder / "study.toml").write_text(
        'name = "Tiny"\nseed = 3\nmethods = ["zero_shot", "fed_medlora"]\n'
        '[model]\nname = "model"\n[adapter]\nrank = 4\nalpha = 8.0\n[tasks]\nprompts = "short"\n'
        "max_tokens = 4000\n"
        "[training]\nrounds = 2\nsteps_per_round = 1\nexamples_per_step = 4\nmax_train_examples = 20\n"
        "learning_rate = 1e-2\nwarmup_steps = 0\n"
        "[evaluation]\nmax_sentences = 3\nbootstrap = 20\nzero_shot_free = false\n" + "".join(sites),
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_study) -> Path:
    """The folder of a finished run of ``tiny_study``, by the command line, in this process."""
    from fedmedlora.cli import main

    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["run", str(tiny_study / "study.toml"), "--out", str(folder)]) == 0
    return folder
