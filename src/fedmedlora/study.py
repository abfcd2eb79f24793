"""A study file: who trains on what, how, and what is measured. TOML in, a frozen ``Study`` out.

``docs/study-file.md`` lists every key; it is generated from the fields
below and in ``study_tables.py`` (``study_reference.py``).
Every path in a study file is relative to the folder that the file lies in.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from fedmedlora.aggregation.rule import Rule, known_rules, load_rule
from fedmedlora.corpora.schema import Schema, find_schema, schema_names
from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.settings import SEEDS, Range, nearest, read_table, setting
from fedmedlora.study_forms import answers_read_by, check_form, loss_of
from fedmedlora.study_names import refuse_doubles
from fedmedlora.study_notices import without_effect
from fedmedlora.study_rounds import Rounds
from fedmedlora.study_rules import check_needs, check_settings
from fedmedlora.study_tables import (
    Adaptation,
    Arm,
    Cohort,
    Encoder,
    Evaluation,
    Federation,
    FewShot,
    Lora,
    Model,
    Site,
    Tasks,
    Training,
    Validation,
)
from fedmedlora.study_training import Trains, what_trains
from fedmedlora.tasks.form import read_by
from fedmedlora.tasks.instruction import is_instruction
from fedmedlora.tasks.task import askers, finders

OTHER_METHODS = (  # the rules are methods too, by file name
    "zero_shot",
    "few_shot",
    "single_site",
    "centralized",
    "endpoint",
    "encoder_single_site",
    "encoder_centralized",
    "encoder_fedavg",
)


class StudyWarning(UserWarning):
    """A setting of a study file has no effect."""


@dataclass(frozen=True, slots=True)
class Study:
    """A whole study file.

    ``folder``, where relative paths begin, and ``sites_are_here``, whether the sites' notes are on this
    machine or named by each site's own ``site.toml``, are no settings of the file.
    """

    name: str = setting("title of the study")
    seed: int = setting("seed of everything random", 0, within=SEEDS)
    sample_seed: int = setting(
        "seed of what is drawn for tests and validation, so that several seeds are read on the same notes; "
        "-1: seed",
        -1,
        within=Range(low=-1, high=2**31 - 1),
    )
    seeds: tuple[int, ...] = setting(
        "seeds of several runs, over which means and intervals are taken; empty: one run with seed",
        (),
        within=SEEDS,
    )
    methods: tuple[str, ...] = setting(
        "what is run, in this order: zero_shot, few_shot, single_site, centralized, rules by name, and the "
        "other comparisons (docs/comparisons.md)",
        ("zero_shot", "fed_medlora", "fed_medlora_plus"),
    )
    model: Model = field(default_factory=Model)
    adapter: Lora = field(default_factory=Lora)
    tasks: Tasks = field(default_factory=Tasks)
    training: Training = field(default_factory=Training)
    exchange: Exchange = field(default_factory=Exchange)
    rounds: Rounds = field(default_factory=Rounds)
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)  # rule name -> its settings
    validation: Validation = field(default_factory=Validation)
    evaluation: Evaluation = field(default_factory=Evaluation)
    federation: Federation = field(default_factory=Federation)
    few_shot: FewShot = field(default_factory=FewShot)
    encoder: Encoder = field(default_factory=Encoder)
    endpoint: Endpoint | None = None
    adaptation: Adaptation = field(default_factory=Adaptation)
    sites: tuple[Site, ...] = ()
    cohorts: tuple[Cohort, ...] = ()
    arms: tuple[Arm, ...] = ()
    folder: Path = field(default=Path(), compare=False)
    sites_are_here: bool = field(default=True, compare=False)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("name: empty; a study has a title")
        self._check_methods()
        if not self.sites:
            raise ValueError("[[sites]]: none; a study needs at least one site with training notes")
        sources = [site.name for site in self.sites] + [cohort.name for cohort in self.cohorts]
        refuse_doubles(self.seeds, [arm.name for arm in self.arms], sources)
        self._check_sites()
        self._check_comparisons()
        check_form(self.tasks, self.training, self.evaluation, self.methods)
        check_settings(self.rules)
        there = self._num_there()
        most_asked = math.ceil(self.training.participation * max(there) - 1e-9)
        for rule in self.rule_names():
            check_needs(
                rule,
                self.rule(rule).needs,
                self.validation,
                is_instruction=is_instruction(self.tasks.names),
                num_there=(min(there), max(there)),
                most_asked=most_asked,
            )

    def _num_there(self) -> list[int]:
        """Sites that are there, round by round. Those that notes are dealt to are never away."""
        away = [site.absent_rounds for site in self.sites]
        if self.federation.num_sites:
            return [self.federation.num_sites] * self.training.rounds
        return [sum(r + 1 not in rounds for rounds in away) for r in range(self.training.rounds)]

    def draw_seed(self) -> int:
        """The seed of what is drawn for tests and validation, the same for all seeds of a study."""
        return self.seed if self.sample_seed < 0 else self.sample_seed

    def known_starts(self) -> tuple[str, ...]:
        """What a new site can start from: zero_shot, from scratch, and rules whose adapter is here."""
        local = {name: self.rule(name).local for name in self.rule_names()}
        stays = {name for name, how in local.items() if how.keeps and not self.sites_are_here}
        here = [n for n, how in local.items() if how.trains != "model" and n not in stays]
        return ("zero_shot", *here)

    def rule_names(self) -> tuple[str, ...]:
        """The methods that are aggregation rules, in order."""
        return tuple(method for method in self.methods if method not in OTHER_METHODS)

    def is_federated(self) -> bool:
        """Whether some method's adapters travel between sites and coordinator."""
        return bool(self.rule_names()) or "encoder_fedavg" in self.methods

    def trains(self) -> Trains:
        """What is trained, and where."""
        here = self.sites_are_here
        return what_trains(self.methods, self.cohorts, self.adaptation, sites_are_here=here)

    def rule(self, name: str) -> Rule:
        """The rule ``name`` with this study's settings."""
        return load_rule(name, self.rules.get(name))

    def to_dict(self) -> dict[str, Any]:
        """All settings as the TOML would hold them, defaults filled in; JSON can write it."""
        found = asdict(self)
        del found["folder"], found["sites_are_here"]
        if self.endpoint is None:
            del found["endpoint"]
        for name in dict.fromkeys((*self.rule_names(), *self.rules)):
            found["rules"][name] = asdict(cast(Any, self.rule(name)))
        plain: dict[str, Any] = json.loads(json.dumps(found))
        return plain

    def resolve(self, path: str) -> Path:
        """A path of the study file as one that can be opened."""
        return self.folder / path

    def loss(self) -> str:
        """``training.loss`` as far as the form of answers has it."""
        return loss_of(self.tasks, self.training.loss)

    def validates_by_sites(self) -> bool:
        """Whether some method weighs sites by losses, and the sites are who measures them."""
        weighs = any(self.rule(name).needs.losses for name in self.rule_names())
        return weighs and self.validation.by == "sites"

    def reads_under_grammar(self) -> bool:
        """Whether some answer of the study is generated under a grammar."""
        if is_instruction(self.tasks.names) or read_by(self.tasks.form) != "generating":
            return False
        is_watched = self.trains().model and self.evaluation.every_round and bool(self.validation.notes)
        is_prompted = bool({"zero_shot", "few_shot"} & set(self.methods))
        return is_watched or is_prompted or "constrained" in self.evaluation.decoding

    def schema(self) -> Schema:
        """The schema that ``tasks.schema`` names, read from its file. Raises ``ValueError``."""
        return find_schema(self.tasks.schema, self.folder)

    def encoder_name(self) -> str:
        """``encoder.name`` as a loader takes it, like ``model_name``."""
        folder = self.resolve(self.encoder.name)
        return str(folder.resolve()) if folder.is_dir() else self.encoder.name

    def model_name(self) -> str:
        """``model.name`` as a loader takes it: the folder's path where there is one, else as written."""
        folder = self.resolve(self.model.name)
        return str(folder.resolve()) if folder.is_dir() else self.model.name

    def files(self) -> tuple[tuple[str, str], ...]:
        """(place in the study file, path as written) of every file that it names; no place twice."""
        found = [
            (f"[validation] notes number {number}", path)
            for number, path in enumerate(self.validation.notes, start=1)
        ]
        for site in self.sites if self.sites_are_here else ():
            found.append((f"[[sites]] {site.name} train", site.train))
            if site.test:
                found.append((f"[[sites]] {site.name} test", site.test))
        found += [(f"[[cohorts]] {cohort.name} test", cohort.test) for cohort in self.cohorts]
        found += [
            (f"[[cohorts]] {cohort.name} train", cohort.train) for cohort in self.cohorts if cohort.train
        ]
        if self.tasks.schema not in schema_names():
            found.append(("[tasks] schema", self.tasks.schema))
        return tuple(found)

    def study_hash(self) -> str:
        """sha256 of ``to_dict``: equal settings, equal hash, wherever the file lies and however it reads."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def _check_sites(self) -> None:
        if self.is_federated() and 0 in (there := self._num_there()):
            empty = there.index(0) + 1
            raise ValueError(f"[[sites]] absent_rounds: every site is away in round {empty}; let one stay")
        if self.sites_are_here:
            for site in self.sites:
                if not site.train:
                    raise ValueError(
                        f"[[sites]] {site.name} train: missing; name its file of training notes "
                        "(only sites at other machines, --carrier flower, need none here)"
                    )
            return
        shaped = [site.name for site in self.sites if site.is_shaped]
        if shaped:
            raise ValueError(
                f"[[sites]] {shaped[0]}: max_notes, label_noise, entities and modifiers simulate a site; a "
                "site at another machine says itself what it trains on"
            )
        encoders = [name for name in self.methods if name.startswith("encoder_")]
        if encoders:
            raise ValueError(
                f"methods: {encoders[0]} trains another model, which sites at other machines do not hold; "
                "take it out"
            )
        if "few_shot" in self.methods:
            raise ValueError(
                "methods: few_shot would send validation notes to the sites, word for word; take it out"
            )
        if "endpoint" in self.methods:
            raise ValueError(
                "methods: endpoint would have sites at other machines send their notes away; take it out"
            )
        if "centralized" in self.methods:
            raise ValueError(
                "methods: centralized trains on everybody's notes in one place, and with --carrier flower "
                "they stay where they are; take it out of methods"
            )

    def _check_comparisons(self) -> None:
        if is_instruction(self.tasks.names):
            for name in self.methods:
                if name in ("few_shot", "endpoint") or name.startswith("encoder_"):
                    raise ValueError(f"methods: {name} extracts from notes; instruction data has none")
        if "few_shot" in self.methods and not self.validation.notes:
            raise ValueError(
                "methods: few_shot shows solved examples out of the validation notes; name some in "
                "[validation] notes, or take few_shot out of methods"
            )
        if "endpoint" in self.methods:
            self._check_endpoint()
        known = self.known_starts()
        for start in self.adaptation.starts:
            if start not in known:
                raise ValueError(
                    f'[adaptation] starts: "{start[:80]}" gives no adapter in this study; it can start from '
                    f"{', '.join(known)}"
                )
        if self.federation.num_sites and not self.sites_are_here:
            raise ValueError("[federation] num_sites: notes at other machines cannot be dealt; take it out")

    def _check_endpoint(self) -> None:
        if self.endpoint is None:
            raise ValueError(
                "methods: endpoint asks a chat model, and no table [endpoint] says which (docs/endpoint.md)"
            )
        try:
            self.endpoint.refuse_without_permission()
        except ValueError as error:
            raise ValueError(f"[endpoint] {error}") from error

    def _check_methods(self) -> None:
        known = (*OTHER_METHODS, *known_rules())
        for method in self.methods:
            if method not in known:
                raise ValueError(
                    f'methods: unknown method "{method[:80]}"{nearest(method, known)}; '
                    f"known methods: {', '.join(known)}"
                )
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise ValueError(f"methods: name at least one, each once; known methods: {', '.join(known)}")


def load_study(path: str | Path, *, sites_are_here: bool = True) -> Study:
    """The study in the file ``path``; warns (``StudyWarning``) of settings that have no effect.

    Raises ValueError for anything that ``parse_study`` refuses, for a named file that is not there, and for
    a schema that cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); give the path of a study file"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    study, notices = parse_study(text, source=path.name, folder=path.parent, sites_are_here=sites_are_here)
    try:
        study.schema()
    except ValueError as error:
        raise ValueError(f"{path.name}: [tasks] schema: {error}") from error
    for place, name in study.files():
        if not study.resolve(name).exists():
            raise ValueError(
                f"{path.name}: {place}: {name} is not there; paths are relative to the study file's folder"
            )
    for notice in notices:
        warnings.warn(f"{path.name}: {notice}", StudyWarning, stacklevel=2)
    return study


def parse_study(
    text: str, *, source: str = "study.toml", folder: Path = Path(), sites_are_here: bool = True
) -> tuple[Study, tuple[str, ...]]:
    """(study, notices about settings without effect) of TOML ``text``; reads no file.

    ``source`` begins every error. Raises ValueError for what is not TOML, for an unknown key or method
    (naming the nearest known one), for a wrong type or range, for no sites, for two of one name, and for
    a rule that needs validation notes where none are named.
    """
    try:
        table = tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not TOML: {error}") from error
    around = {"folder": folder, "sites_are_here": sites_are_here}
    study = read_table(Study, table, f"{source}:", around)
    is_weighed = any(study.rule(name).needs.validation for name in study.rule_names())
    notices = without_effect(
        table,
        study.to_dict(),
        trains=study.trains(),
        needs_validation=is_weighed,
        finds_entities=bool(finders(study.tasks.names)),
        asks_about_entities=bool(askers(study.tasks.names)),
        sites_are_here=sites_are_here,
        answers_read_by=answers_read_by(study.tasks),
        exchanges=study.is_federated(),
        is_instruction=is_instruction(study.tasks.names),
    )
    return study, notices
