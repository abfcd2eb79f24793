"""The parts of the report, in their order; a part that has nothing to show is left out."""

from __future__ import annotations

from fedmedlora.report.study.arms import arm_parts
from fedmedlora.report.study.calibration import calibration_part
from fedmedlora.report.study.cost import cost_part
from fedmedlora.report.study.differences import differences_part
from fedmedlora.report.study.external import external_part
from fedmedlora.report.study.new_site import new_site_part
from fedmedlora.report.study.per_type import types_part
from fedmedlora.report.study.pieces import Part
from fedmedlora.report.study.reading import reading_part, usage_part
from fedmedlora.report.study.record import record_part
from fedmedlora.report.study.score_tables import scores_part
from fedmedlora.report.study.summary import summary_part
from fedmedlora.report.study.view import StudyView
from fedmedlora.report.study.weights import weights_part


def parts_of(view: StudyView) -> tuple[Part, ...]:
    """Every part of the report, the limits left out."""
    found = (
        summary_part(view),
        scores_part(view),
        external_part(view),
        new_site_part(view),
        *arm_parts(view),
        weights_part(view),
        cost_part(view),
        types_part(view),
        calibration_part(view),
        differences_part(view),
        reading_part(view),
        usage_part(view),
        record_part(view),
    )
    return tuple(part for part in found if part is not None)
