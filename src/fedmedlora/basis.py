"""What an update stands on at one machine, by hashes: as a study asks for it, and as it is found there."""

from __future__ import annotations

from fedmedlora.model.load import BaseModel
from fedmedlora.security.admission import Basis
from fedmedlora.study_tables import Tasks
from fedmedlora.tasks.prompts import prompts_hash
from fedmedlora.terms import Terms, frame_hash


def basis_asked(terms: Terms) -> Basis:
    """What ``terms`` ask for."""
    return Basis(terms.base_model, terms.tokenizer, frame_hash(terms.frame), terms.prompts)


def basis_here(base: BaseModel, tasks: Tasks) -> Basis:
    """What is at this machine, out of its own files: ``base``, and the prompts that are installed."""
    encoder = base.encoder
    return Basis(base.hash, encoder.tokenizer_hash(), frame_hash(encoder.frame), prompts_here(tasks))


def prompts_here(tasks: Tasks) -> str:
    """Hash of the words that the prompts of ``tasks`` are made of here."""
    return prompts_hash(tasks.names, prompt_set=tasks.prompts, form=tasks.form)
