"""The tables of a study file, one frozen dataclass each. The fields say what each key means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fedmedlora.exchange.update import check_site_name
from fedmedlora.settings import SEEDS, Range, nearest, setting
from fedmedlora.tasks.instruction import NAME as INSTRUCTION
from fedmedlora.tasks.instruction import is_instruction
from fedmedlora.tasks.task import known_tasks

DEMO_MODEL = "smollm2-135m"

_COUNT = Range(low=0)
_POSITIVE = Range(low=1)


@dataclass(frozen=True, slots=True)
class Model:
    """``[model]``: the frozen base model, and how this machine trains over it."""

    name: str = setting(
        'folder or hub name of a causal language model that transformers loads, or "smollm2-135m"', DEMO_MODEL
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "number format of the frozen weights; auto is bfloat16 on a GPU and float32 on a CPU, where "
        "bfloat16 is faster if the processor has AVX512-BF16 or AMX",
        "auto",
    )
    quantization: Literal["none", "nf4"] = setting("nf4: 4-bit base weights (needs CUDA)", "none")
    revision: str = setting("hub revision (branch, tag or commit); empty: the default branch", "")
    optimizer: Literal["adamw", "paged_adamw", "paged_adamw_8bit"] = setting(
        "where AdamW's state lies: with the weights, or in pages that a GPU's driver moves out when it needs "
        "the room (needs CUDA), of 32 or 8 bits",
        "adamw",
    )
    devices: Literal["auto"] | int = setting(
        "processes that take each optimizer step together, one to a GPU, each with a model of its own; auto: "
        "one for every GPU (docs/gpus.md)",
        1,
        within=_POSITIVE,
    )


@dataclass(frozen=True, slots=True)
class Lora:
    """``[adapter]``: the low-rank adapter that is trained and travels."""

    rank: int = setting("rank r of both factors", 16, within=_POSITIVE)
    alpha: float = setting("scale; the product counts alpha / rank", 32.0, within=Range(low=0, open_low=True))
    dropout: float = setting(
        "share of the adapter's inputs dropped in training", 0.0, within=Range(low=0, high=1, open_high=True)
    )
    targets: Literal["all-linear"] | tuple[str, ...] = setting(
        "which linear layers carry an adapter: all but the output layer, or the named modules", "all-linear"
    )

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError('targets: [] names no module; use "all-linear" or module names')


@dataclass(frozen=True, slots=True)
class Tasks:
    """``[tasks]``: what the one adapter learns."""

    names: tuple[str, ...] = setting(
        "tasks that are trained and evaluated: ner finds entities, modifiers what is said about them; or "
        "instruction alone: files hold prompts and responses (docs/instruction-data.md)",
        ("ner", "modifiers"),
    )
    modifier_scope: Literal["entity", "sentence"] = setting(
        "ask for the modifiers of one entity at a time (gives links), or of a whole sentence at once",
        "entity",
    )
    prompts: Literal["study", "short"] = setting(
        "study: about 250 and 700 tokens with every type defined; short: about 100", "study"
    )
    form: Literal["markup", "compact", "json", "tags"] = setting(
        "how answers are written: markup, the sentence with tags in it; compact, the same with a letter "
        "for a tag; json, a list of what was found in it; tags, a word for each piece of the sentence, all "
        "decided in one pass (no nested mentions)",
        "markup",
    )
    schema: str = setting(
        'what may be found: "clinical", or a schema of your own, a TOML file (docs/own-schema.md)', "clinical"
    )
    max_tokens: int = setting(
        "longest example, prompt included, in tokens; longer ones are counted and left out",
        1024,
        within=_POSITIVE,
    )

    def __post_init__(self) -> None:
        known = (*known_tasks(), INSTRUCTION)
        for name in self.names:
            if name not in known:
                raise ValueError(
                    f'names: unknown task "{name[:80]}"{nearest(name, known)}; '
                    f"known tasks: {', '.join(known)}"
                )
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"names: name at least one, each once; known tasks: {', '.join(known)}")
        if INSTRUCTION in self.names and not is_instruction(self.names):
            raise ValueError(
                f'names: "{INSTRUCTION}" goes with no other task, for its files hold prompts and not notes; '
                "train the two in two studies"
            )


@dataclass(frozen=True, slots=True)
class Training:
    """``[training]``: rounds, and one site's work in a round."""

    rounds: int = setting("federated rounds", 5, within=_POSITIVE)
    passes_per_round: int = setting("passes over a site's examples in each round", 1, within=_POSITIVE)
    steps_per_round: int = setting(
        "optimizer steps of each site in each round (centralized training: those of all sites together); "
        "0: as many as passes_per_round needs",
        0,
        within=_COUNT,
    )
    examples_per_step: int = setting("examples per optimizer step", 32, within=_POSITIVE)
    micro_batch: int = setting(
        "examples that are in memory at once; changes speed, not results", 4, within=_POSITIVE
    )
    learning_rate: float = setting("highest AdamW learning rate", 1e-3, within=Range(low=0, open_low=True))
    schedule: Literal["cosine", "constant"] = setting(
        "learning rate after the warm-up, over all rounds: down to a tenth along a cosine, or as it is",
        "cosine",
    )
    warmup_steps: int = setting(
        "optimizer steps over which the learning rate rises from 0, once, in the first round(s)",
        10,
        within=_COUNT,
    )
    weight_decay: float = setting("AdamW weight decay", 0.0, within=_COUNT)
    max_grad_norm: float = setting(
        "gradients longer than this are shortened to it", 1.0, within=Range(low=0, open_low=True)
    )
    loss: Literal["lm+decision", "lm", "decision"] = setting(
        "language-model loss on the completion, decision loss over what the form of answers leaves open, "
        "or their sum; an adapter trained on decisions alone is read by fedmedlora's decoder only",
        "lm+decision",
    )
    decision_weight: float = setting("weight of the decision loss in the sum", 1.0, within=_COUNT)
    batching: Literal["shared-prefix", "padded"] = setting(
        "compute the instruction that examples share once per step, or for every example", "shared-prefix"
    )
    gradient_checkpointing: bool = setting("recompute activations to save memory", False)
    participation: float = setting(
        "share of the sites that are drawn to train in each round, rounded up",
        1.0,
        within=Range(low=0, high=1, open_low=True),
    )
    max_train_examples: int = setting(
        "examples per site, out of sentences drawn at random by the seed; 0: all", 0, within=_COUNT
    )
    modifier_share: Literal["natural"] | float = setting(
        "share of examples that ask about given entities (modifiers) among those trained on; natural: as "
        "they come",
        "natural",
        within=Range(low=0, high=1, open_low=True, open_high=True),
    )

    def __post_init__(self) -> None:
        if self.micro_batch > self.examples_per_step:
            raise ValueError(
                f"micro_batch: {self.micro_batch} is more than examples_per_step, {self.examples_per_step}"
            )


@dataclass(frozen=True, slots=True)
class Validation:
    """``[validation]``: the coordinator's own notes; no training or test note may be among them."""

    by: Literal["coordinator", "sites"] = setting(
        "who measures the loss that fed_medlora_plus weighs a site by: the coordinator on its own notes, or "
        "all other sites on a part of theirs that they hold out",
        "coordinator",
    )
    notes: tuple[str, ...] = setting("files of notes; required by fed_medlora_plus if by coordinator", ())
    signal: Literal["loss", "task_loss", "f1"] = setting(
        "what fed_medlora_plus weighs an adapter by: its mean loss; the mean over tasks of each task's loss; "
        "1 - F1 (mean of strict entities and modifiers; needs by coordinator)",
        "loss",
    )
    max_sentences: int = setting(
        "sentences used, as many of each file, drawn at random by the seed; 0: all", 200, within=_COUNT
    )
    held_out_sentences: int = setting(
        "by sites: sentences of its training notes that each site keeps for this, in whole notes drawn at "
        "random by the seed",
        60,
        within=_POSITIVE,
    )

    def __post_init__(self) -> None:
        if self.by == "sites" and self.signal != "loss":
            raise ValueError(
                f'signal: "{self.signal}" is measured on the coordinator\'s own notes, and sites send losses '
                'alone; set by = "coordinator" or signal = "loss"'
            )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``[evaluation]``: what is measured at the end, and along the way."""

    decoding: tuple[Literal["constrained", "free"], ...] = setting(
        "how trained adapters are read: constrained (an answer can only be of the form), free (generate)",
        ("constrained",),
    )
    zero_shot_free: bool = setting("read the untrained model freely as well as constrained", True)
    max_sentences: int = setting(
        "test sentences per cohort, in notes drawn at random by the seed; 0: all", 0, within=_COUNT
    )
    passage_sentences: int = setting(
        "of a longer test note only so many sentences in a row, drawn at random by the seed, so that the "
        "test sentences come from more notes; 0: whole notes",
        0,
        within=_COUNT,
    )
    every_round: bool = setting(
        "measure loss and NER F1 on the validation notes after every round (by sites: the loss alone)", True
    )
    bootstrap: int = setting(
        "resamples of notes behind the 95 % intervals; 0: no intervals", 1000, within=_COUNT
    )
    batch_size: int = setting("sentences decoded at once", 16, within=_POSITIVE)
    max_answer_tokens: int = setting("longest answer to a prompt of instruction data", 256, within=_POSITIVE)

    def __post_init__(self) -> None:
        if not self.decoding or len(set(self.decoding)) != len(self.decoding):
            raise ValueError('decoding: name "constrained", "free" or both, each once')


@dataclass(frozen=True, slots=True)
class Site:
    """``[[sites]]``: one hospital that trains."""

    name: str = setting("the site's name: letters, digits, - _ . (it names files)")
    train: str = setting(
        "file of training notes; required, unless the site is at another machine, whose site.toml names it",
        "",
    )
    test: str = setting("file of test notes; empty: the site is not evaluated on", "")
    absent_rounds: tuple[int, ...] = setting("rounds that the site misses", (), within=_POSITIVE)
    max_notes: int = setting("training notes used, drawn at random by the seed; 0: all", 0, within=_COUNT)
    label_noise: float = setting(
        "share of its training annotations that are corrupted, as a careless annotator would "
        "(docs/federations.md)",
        0.0,
        within=Range(low=0, high=1),
    )
    entities: Literal["all"] | tuple[str, ...] = setting(
        "entity types that its training notes annotate: all that they do, or these alone", "all"
    )
    modifiers: Literal["all"] | tuple[str, ...] = setting(
        "modifiers that its training notes annotate: all that they do, or these alone", "all"
    )

    def __post_init__(self) -> None:
        _check_name(self.name)

    @property
    def is_shaped(self) -> bool:
        """Whether its notes are changed before they are trained on: the site is a simulated one."""
        changed = (self.max_notes, self.label_noise, self.entities, self.modifiers)
        return changed != (0, 0.0, "all", "all")


@dataclass(frozen=True, slots=True)
class Federation:
    """``[federation]``: sites simulated out of the notes of all [[sites]] together."""

    num_sites: int = setting(
        "number of simulated sites that the training notes are dealt to; 0: the sites are those named",
        0,
        within=_COUNT,
    )
    deal: Literal["document", "cohort", "label_skew", "size_skew"] = setting(
        "how notes are dealt: at random; each site out of one file; by their commonest entity type, "
        "unevenly; at random in uneven numbers (docs/federations.md)",
        "document",
    )
    concentration: float = setting(
        "of the Dirichlet distribution behind label_skew and size_skew: small is uneven",
        0.5,
        within=Range(low=0, high=1e6, open_low=True),
    )


@dataclass(frozen=True, slots=True)
class FewShot:
    """``[few_shot]``: prompts with solved examples, out of the validation notes."""

    num_examples: int = setting("solved examples in a prompt", 4, within=_POSITIVE)


@dataclass(frozen=True, slots=True)
class Encoder:
    """``[encoder]``: the BERT-type token classifier of the methods encoder_single_site, encoder_centralized,
    encoder_fedavg; it takes part in the rounds of [training]."""

    name: str = setting(
        'folder or hub name of an encoder that transformers loads, or "minilm" (22 million parameters)',
        "minilm",
    )
    steps_per_round: int = setting(
        "optimizer steps of each site in each round (centralized: those of all sites together); 0: as "
        "many as passes_per_round needs",
        0,
        within=_COUNT,
    )
    passes_per_round: int = setting("passes over a site's examples in each round", 1, within=_POSITIVE)
    examples_per_step: int = setting("examples per optimizer step", 16, within=_POSITIVE)
    learning_rate: float = setting("highest AdamW learning rate", 1e-4, within=Range(low=0, open_low=True))
    warmup_steps: int = setting("optimizer steps over which it rises from 0, once", 10, within=_COUNT)
    batch_size: int = setting("sentences read at once", 32, within=_POSITIVE)


@dataclass(frozen=True, slots=True)
class Adaptation:
    """``[adaptation]``: how a new site ([[cohorts]] with kind new-site and train) trains on few notes."""

    num_notes: tuple[int, ...] = setting(
        "how many of its notes the new site trains on, one adaptation each",
        (0, 1, 5, 10, 20, 50),
        within=_COUNT,
    )
    starts: tuple[str, ...] = setting(
        "methods whose adapter it starts from, zero_shot meaning from scratch; empty: zero_shot and every "
        "rule of the study but fedavg_full",
        (),
    )
    passes: int = setting("passes over the notes", 3, within=_POSITIVE)
    least_steps: int = setting("optimizer steps at least, however few the notes", 10, within=_COUNT)
    learning_rate: float = setting("highest AdamW learning rate", 5e-4, within=Range(low=0, open_low=True))


@dataclass(frozen=True, slots=True)
class Cohort:
    """``[[cohorts]]``: test notes of a hospital that does not train."""

    name: str = setting("the cohort's name: letters, digits, - _ . (it names files)")
    kind: Literal["external", "new-site"] = setting(
        "external: another source of notes; new-site: a newly annotated, low-resource hospital"
    )
    test: str = setting("file of test notes")
    train: str = setting("new-site: file of notes that it adapts on, see [adaptation]", "")

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.train and self.kind != "new-site":
            raise ValueError(f'train: a cohort of kind "{self.kind}" trains on nothing; only "new-site" does')
        if not self.test:
            raise ValueError("test: empty; name a file of notes")


@dataclass(frozen=True, slots=True)
class Arm:
    """``[[arms]]``: the same study with something changed, run beside it under every seed, or under some."""

    name: str = setting("the arm's name: letters, digits, - _ . (it names folders)")
    change: dict[str, Any] = setting(  # noqa: RUF009 - it has no default
        "the changes, as tables of this file: change.training.participation = 0.5; a site or a cohort by its "
        "name: change.sites.NAME.label_noise = 0.4",
    )
    title: str = setting("what is different, in a few words; empty: the name", "")
    group: str = setting("heading of the report that arms which belong together stand under", "")
    x: Literal[""] | float = setting(
        "where the arm stands on the axis of its group's figure; empty: on none", ""
    )
    x_label: str = setting("what the axis says", "")
    seeds: tuple[int, ...] = setting(
        "those of the study's seeds that the arm is run under, where all would take too long; empty: all",
        (),
        within=SEEDS,
    )

    def __post_init__(self) -> None:
        _check_name(self.name)


def _check_name(name: str) -> None:
    try:
        check_site_name(name)
    except ValueError as error:
        raise ValueError(f"name: {error}") from error
