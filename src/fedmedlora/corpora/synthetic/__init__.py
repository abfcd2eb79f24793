"""Five synthetic hospitals that write and annotate differently: three training sites, one external, one new.

Everything is made from the word lists and templates in this folder; no real person's data is in them.
"""

from fedmedlora.corpora.synthetic.hospital import HOSPITALS, Hospital, describe, hospital
from fedmedlora.corpora.synthetic.writer import PARTS, synthesize

__all__ = ["HOSPITALS", "PARTS", "Hospital", "describe", "hospital", "synthesize"]
