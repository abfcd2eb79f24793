"""The methods that a study compares: what each trains, at which sites, and under which rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedmedlora.aggregation.rule import Rule, load_rule
from fedmedlora.encoder_sites import EncoderSites
from fedmedlora.endpoint.reader import EndpointReader
from fedmedlora.endpoint.request import FORM
from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.local import Local
from fedmedlora.measure import OtherReader
from fedmedlora.sites import Errand, SiteInfo, Sites
from fedmedlora.study import Study
from fedmedlora.tasks.few_shot import Shots

LABELS = {
    "zero_shot": "Zero-shot",
    "centralized": "Centralized",
    "fed_medlora": "Fed-MedLoRA",
    "fed_medlora_plus": "Fed-MedLoRA+",
    "fedsa_lora": "FedSA-LoRA",
    "ffa_lora": "FFA-LoRA",
    "fedprox": "FedProx",
    "fedavg_full": "FedAvg, all parameters",
    "norm_clipping": "Norm clipping",
    "krum": "Krum",
    "multi_krum": "Multi-Krum",
    "geometric_median": "Geometric median",
    "trimmed_mean": "Trimmed mean",
    "coordinate_median": "Coordinate-wise median",
}


@dataclass(frozen=True, slots=True)
class Adaptation:
    """A hospital that joins late: ``num_notes`` of ``site``'s notes are trained on, from the adapter of
    the method ``start`` ("zero_shot": from scratch)."""

    site: str
    num_notes: int
    start: str


@dataclass(frozen=True)
class Method:
    """One row of the main table. ``rule`` is None where nothing is trained.

    ``sites``: who trains; of centralized training, everybody as one. ``names``: which of them.
    ``is_federated``: whether sites may be away, and shares of them drawn; one site alone always trains.
    ``num_rounds``: 0: those of the study. ``shots``, ``other_reader``: see ``sites.Errand``. ``encoder``: who
    reads, where the model is a token classifier. ``exchange``: how adapters travel; what is no federation is
    trained as if nothing had to. ``run``: see ``sites.Errand``.
    """

    name: str
    label: str
    rule: Rule | None
    sites: Sites
    names: tuple[str, ...]
    is_federated: bool = False
    adaptation: Adaptation | None = None
    num_rounds: int = 0
    shots: Shots | None = None
    other_reader: OtherReader | None = None
    encoder: EncoderSites | None = None
    exchange: Exchange = field(default_factory=Exchange)
    run: str = ""

    @property
    def folder_name(self) -> str:
        """The name as a folder's: site names are safe, the colon is not everywhere."""
        return self.name.replace(":", "-")

    @property
    def shares_updates(self) -> bool:
        """Whether another method or run may use what its sites train: they keep nothing between rounds."""
        keeps_residuals = not self.exchange.up().is_exact and not self.sites.are_here
        return self.rule is None or not (self.rule.local.keeps or keeps_residuals)

    def errand(self) -> Errand:
        """On whose behalf its sites work."""
        local = Local() if self.rule is None else self.rule.local
        return Errand(self.name, local, self.exchange, self.shots, self.other_reader, self.run)

    def infos(self) -> tuple[SiteInfo, ...]:
        """What is known of the sites that train."""
        return tuple(info for info in self.sites.infos if info.name in self.names)


def methods_of(
    study: Study, sites: Sites, shots: Shots | None = None, encoder: EncoderSites | None = None
) -> tuple[Method, ...]:
    """The study's methods, single-site training once per site.

    ``shots``: what few_shot shows. ``encoder``: the sites of the token classifier. Raises ``ValueError``
    where a chat model cannot be asked: no permission, no key, no library.
    """
    names = tuple(info.name for info in sites.infos)
    alone = load_rule("fed_medlora")
    found: list[Method] = []
    for name in study.methods:
        if name == "zero_shot":
            found.append(Method(name, LABELS[name], None, sites, ()))
        elif name == "few_shot":
            assert shots is not None, "the study has validation notes"
            found.append(Method(name, f"Few-shot, {shots.num}", None, sites, (), shots=shots))
        elif name == "endpoint":
            assert study.endpoint is not None, "refused with the study"
            label = f"Chat model, {study.endpoint.model}"
            other = _asks(study.endpoint)
            found.append(Method(name, label, None, sites, (), other_reader=other))
        elif name.startswith("encoder_"):
            assert encoder is not None, "the study has a token classifier"
            found += _encoder_methods(name, encoder, study.exchange)
        elif name == "single_site":
            found += [Method(f"{name}:{s}", f"{s} alone", alone, sites, (s,)) for s in names]
        elif name == "centralized":
            pooled = sites.pooled()
            found.append(Method(name, LABELS[name], alone, pooled, tuple(i.name for i in pooled.infos)))
        else:
            rule = study.rule(name)
            label = LABELS.get(name, name)
            found.append(Method(name, label, rule, sites, names, is_federated=True, exchange=study.exchange))
    return tuple(found)


def _asks(endpoint: Endpoint) -> OtherReader:
    try:
        EndpointReader(endpoint, lambda num_done, num_total: None)  # refuses now, not after hours of training
    except ValueError as error:
        raise ValueError(f"[endpoint] {error}") from error
    return OtherReader(lambda report: EndpointReader(endpoint, report), FORM, repr(endpoint))


def _encoder_methods(name: str, encoder: EncoderSites, exchange: Exchange) -> list[Method]:
    """The methods of the token classifier: the same three ways of training."""
    alone = load_rule("fed_medlora")  # the mean by data size; what travels is all there is
    names = tuple(info.name for info in encoder.infos)
    if name == "encoder_single_site":
        return [
            Method(f"{name}:{s}", f"Token classifier, {s} alone", alone, encoder, (s,), encoder=encoder)
            for s in names
        ]
    if name == "encoder_centralized":
        pooled = encoder.pooled()
        own = tuple(info.name for info in pooled.infos)
        return [Method(name, "Token classifier, centralized", alone, pooled, own, encoder=encoder)]
    label = "Token classifier, FedAvg"
    federated = Method(
        name, label, alone, encoder, names, is_federated=True, encoder=encoder, exchange=exchange
    )
    return [federated]
