"""A study, looked at before it runs: parameters, traffic, memory and time, without weights and without a GPU.

The notes are read and made into examples as a run does it, so lengths, numbers of steps and who takes part
are the study's own. Where the model's tokenizer is not on this machine, the demo model's stands in for it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedmedlora.exchange.adapter import Adapter, adapter_bytes
from fedmedlora.in_process import InProcess
from fedmedlora.local_site import local_training
from fedmedlora.methods import Method, methods_of
from fedmedlora.model.attention import attention_as_on
from fedmedlora.model.demo import DEMO_MODEL
from fedmedlora.model.load import load_encoder
from fedmedlora.model.slices import micro_batches, pass_tokens_of
from fedmedlora.model.tokens import Encoder, TokenExample
from fedmedlora.new_site import adaptations
from fedmedlora.own_parts import OwnParts
from fedmedlora.plan.devices import Device
from fedmedlora.plan.memory import on_device, process_bytes, quantized
from fedmedlora.plan.shapes import ShapeModel, find_config, meta_base, num_in, shape_model
from fedmedlora.plan.trace import StepTrace, trace_step, trace_validation
from fedmedlora.plan.traffic import Traffic, traffic
from fedmedlora.planned_cost import planned_cost
from fedmedlora.prepare import prepare, terms_of
from fedmedlora.progress import Silent
from fedmedlora.run import Run
from fedmedlora.run_folder import SignalCache, UpdateCache
from fedmedlora.study import Study
from fedmedlora.study_runs import runs_of
from fedmedlora.tasks.few_shot import Shots
from fedmedlora.training.batches import by_prefix
from fedmedlora.training.site import LocalTraining, steps_of_round


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """One run on one device. ``memory_bytes``: peak of training and validating, largest of the methods.

    ``fits``: whether the device has that. ``advice``: settings with which it would, where it does not.
    ``seconds``: training and reading, an estimate; ``speed``: what it is reckoned with, in words.
    """

    device: str
    precision: str
    memory_bytes: int
    has_bytes: int
    fits: bool
    advice: str
    seconds: float
    speed: str


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What ``plan_study`` found. ``left_out``: methods whose model is another one, not in these numbers.

    ``model_bytes``: a message with all parameters of the model, as full-parameter FedAvg sends it.
    """

    model: str
    source: str
    tokenizer: str
    num_parameters: int
    adapter_parameters: int
    model_bytes: int
    traffic: tuple[Traffic, ...]
    devices: tuple[DevicePlan, ...]
    num_runs: int
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON can write it."""
        return asdict(self)


def plan_study(study: Study, devices: Sequence[Device]) -> StudyPlan:
    """The plan of one run of ``study``: its arm "main" under its first seed.

    Raises ``ValueError`` for what a run would refuse, and for a model whose shape is not known here.
    """
    runs = runs_of(study)
    study = runs[0].study
    found = find_config(study.model_name(), study.model.revision)
    shapes = {
        p: shape_model(found, study.adapter, p) for p in dict.fromkeys(_precision(study, d) for d in devices)
    }
    some = shapes[next(iter(shapes))] if shapes else shape_model(found, study.adapter, "float32")
    encoder, tokenizer = _encoder(study)
    planned = [name for name in study.methods if not name.startswith("encoder_") and name != "endpoint"]
    left_out = tuple(name for name in study.methods if name not in planned)
    work = _Work(replace(study, methods=tuple(planned)), some, encoder) if planned else None
    return StudyPlan(
        model=found.config.model_type if study.model_name() != study.model.name else study.model.name,
        source=found.source,
        tokenizer=tokenizer,
        num_parameters=some.num_parameters,
        adapter_parameters=num_in(some.adapter),
        model_bytes=adapter_bytes(some.whole),
        traffic=() if work is None else work.traffic(),
        devices=() if work is None else tuple(work.on(device, shapes) for device in devices),
        num_runs=len(runs),
        left_out=left_out,
    )


class _Work:
    """What a run would do: its methods, its heaviest step, the cost of everything."""

    def __init__(self, study: Study, shapes: ShapeModel, encoder: Encoder) -> None:
        self._study, self._shapes = study, shapes
        base = meta_base(shapes, encoder)
        self._terms = terms_of(study, base)
        prepared = prepare(study, self._terms, encoder)
        nothing = Adapter({"nothing": np.zeros(1, np.float32)})  # no weights, so nothing to start from
        with tempfile.TemporaryDirectory() as folder:
            sites = InProcess(
                base, shapes.model, prepared.schema, self._terms, prepared.sites, nothing,
                OwnParts(Path(folder)),
            )  # fmt: skip
            run = Run(
                study, self._terms, prepared, sites, base, shapes.model, nothing, Path(folder), Silent(),
                updates=UpdateCache(Path(folder)), evaluations=None, signals=SignalCache(Path(folder)),
            )  # fmt: skip
            shots = Shots(study.few_shot.num_examples, self._terms.draw_seed(), prepared.shot_notes)
            methods = methods_of(study, sites, shots)
            self.methods: tuple[Method, ...] = (*methods, *adaptations(run, methods))
            self._cost = planned_cost(run, self.methods)
        self._sites = prepared.sites
        self._validation = prepared.validation
        self._traces: dict[tuple[str, bool, bool, str, bool], StepTrace] = {}
        self._validations: dict[tuple[str, bool], int] = {}
        self._heaviest, self._middle = self._steps()

    def traffic(self) -> tuple[Traffic, ...]:
        """Of the methods that send something."""
        loss = local_training(self._terms).loss
        tokens = {site.name: site.num_target_tokens(loss) for site in self._sites}
        found = [traffic(self._study, method, self._shapes, tokens) for method in self.methods]
        return tuple(one for one in found if one is not None)

    def on(self, device: Device, shapes: dict[str, ShapeModel]) -> DevicePlan:
        """Memory and time on ``device``."""
        precision = _precision(self._study, device)
        model = shapes[precision]
        with_nf4 = self._study.model.quantization == "nf4" and not device.is_cpu
        checkpointing = self._study.training.gradient_checkpointing
        peak = self._peak(device, model, with_nf4, checkpointing)
        advice = ""
        if peak > device.memory_bytes:
            advice = self._advice(device, model, with_nf4, checkpointing)
        return DevicePlan(
            device=device.title,
            precision="nf4" if with_nf4 else precision,
            memory_bytes=peak,
            has_bytes=device.memory_bytes,
            fits=peak <= device.memory_bytes,
            advice=advice,
            seconds=self._seconds(device, model),
            speed=device.speed,
        )

    def _peak(self, device: Device, model: ShapeModel, with_nf4: bool, checkpointing: bool) -> int:
        kinds = {m.rule.local.trains for m in self.methods if m.rule is not None}
        if not kinds:  # nothing is trained: the weights, and what reading takes beside them
            kinds = {"both"}
        peaks = []
        for trains in kinds:
            trace = self._trace(
                model, self._heaviest[device.is_cpu], checkpointing, trains, is_cpu=device.is_cpu
            )
            validating = self._validating(model, is_cpu=device.is_cpu)
            trace = replace(trace, validation_bytes=validating)
            if with_nf4:
                trace = quantized(trace, model.model)
            peaks.append(on_device(trace, is_cpu=device.is_cpu, process=process_bytes()))
        return max(peaks)

    def _validating(self, model: ShapeModel, *, is_cpu: bool) -> int:
        """Bytes beyond the model of finding losses: of the sites' adapters, or of means to choose from."""
        at_once = max(map(self._num_validated, self.methods), default=0)
        if not at_once:
            return 0
        key = (model.precision, is_cpu)
        if key not in self._validations:
            how = replace(local_training(self._terms), pass_tokens=_pass_tokens(is_cpu=is_cpu))
            passes = _passes(self._validated(), how)
            step = max(passes, key=lambda batch: _tokens_in_pass(batch, own=0))
            base = meta_base(model)
            with attention_as_on(base.model, is_cpu=is_cpu, precision=model.precision):
                self._validations[key] = trace_validation(base, model.model, at_once, step, how)
        return self._validations[key]

    def _num_validated(self, method: Method) -> int:
        """How many adapters ``method`` finds the losses of at once."""
        needs = None if method.rule is None else method.rule.needs
        if needs is None or not needs.losses or self._study.validation.signal == "f1":
            return 0  # for F1 they are read one by one
        own = 1 if self._study.validates_by_sites() else 0  # which a site does not score
        return max(len(method.names) - own, 0 if needs.search is None else len(needs.search.taus) + 1)

    def _validated(self) -> tuple[TokenExample, ...]:
        if self._study.validates_by_sites():
            return tuple(example for site in self._sites for example in site.held_out)
        return self._validation

    def _advice(self, device: Device, model: ShapeModel, with_nf4: bool, checkpointing: bool) -> str:
        options = [] if checkpointing else [(with_nf4, True, "gradient_checkpointing = true")]
        if not device.is_cpu and not with_nf4:
            options.append((True, checkpointing, 'quantization = "nf4"'))
            if not checkpointing:
                options.append((True, True, 'quantization = "nf4" and gradient_checkpointing = true'))
        for nf4, saving, words in options:
            if self._peak(device, model, nf4, saving) <= device.memory_bytes:
                return words
        return "a smaller micro_batch, shorter max_tokens, or a smaller model"

    def _seconds(self, device: Device, model: ShapeModel) -> float:
        step = self._middle
        checkpointing = self._study.training.gradient_checkpointing
        trace = self._trace(model, step, checkpointing, "both", is_cpu=device.is_cpu)
        tokens = sum(len(e) for e in step) + sum(map(len, {e.prefix for e in step}))
        return self._cost * trace.flop / (3.0 * tokens) / device.flop_s

    def _trace(
        self, model: ShapeModel, step: list[TokenExample], checkpointing: bool, trains: str, *, is_cpu: bool
    ) -> StepTrace:
        key = (model.precision, step is self._middle, checkpointing, trains, is_cpu)
        if key not in self._traces:
            how = replace(
                local_training(self._terms),
                gradient_checkpointing=checkpointing,
                pass_tokens=_pass_tokens(is_cpu=is_cpu),
            )
            base = meta_base(model)
            with attention_as_on(base.model, is_cpu=is_cpu, precision=model.precision):
                self._traces[key] = trace_step(base, model.model, step, how, trains)
        return self._traces[key]

    def _steps(self) -> tuple[dict[bool, list[TokenExample]], list[TokenExample]]:
        """Of all sites and rounds the step with the most tokens in one forward pass, by whether it is cut for
        a CPU, and the middle one."""
        how = local_training(self._terms)
        steps = [
            step
            for site in self._sites
            for round_num in range(1, how.num_rounds + 1)
            for step in steps_of_round(
                site.examples, how, round_num=round_num, seed=self._terms.seed, site=site.name
            )
        ]
        if any(m.rule is not None and m.rule.needs.mixing for m in self.methods):
            steps.append([*self._validation])  # whose gradient is found as in training, all at once
        heaviest = {}
        for is_cpu in (False, True):
            sizes = [_most_tokens(step, how, is_cpu=is_cpu) for step in steps]
            heaviest[is_cpu] = steps[sizes.index(max(sizes))]
        steps.sort(key=lambda step: _most_tokens(step, how, is_cpu=False))
        return heaviest, steps[len(steps) // 2]


def _most_tokens(step: Sequence[TokenExample], how: LocalTraining, *, is_cpu: bool) -> int:
    """Tokens of the largest forward pass, and of the instruction that is kept meanwhile."""
    own = 1 if how.batching == "padded" else 0
    passes = _passes(step, replace(how, pass_tokens=_pass_tokens(is_cpu=is_cpu)))
    return max(_tokens_in_pass(batch, own=own) for batch in passes)


def _passes(step: Sequence[TokenExample], how: LocalTraining) -> list[Sequence[TokenExample]]:
    return [
        batch
        for group in by_prefix(step).values()
        for batch in micro_batches(group, how.micro_batch, pass_tokens=how.pass_tokens)
    ]


def _tokens_in_pass(batch: Sequence[TokenExample], *, own: int) -> int:
    """``own``: 1 where every row has the instruction before it."""
    prefix = len(batch[0].prefix)
    return len(batch) * (own * prefix + max(map(len, batch))) + prefix


def _pass_tokens(*, is_cpu: bool) -> int:
    return pass_tokens_of(torch.device("cpu" if is_cpu else "cuda"))


def _precision(study: Study, device: Device) -> str:
    if study.model.precision != "auto":
        return study.model.precision
    return "float32" if device.is_cpu else "bfloat16"


def _encoder(study: Study) -> tuple[Encoder, str]:
    try:
        return load_encoder(study.model_name(), local=True), "its own"
    except ValueError:
        return load_encoder(DEMO_MODEL), f"not here; counted with that of {DEMO_MODEL}"
