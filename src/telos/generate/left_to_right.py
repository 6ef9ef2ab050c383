"""Text from a model, one token after the other: temperature, top-k, nucleus and min-p sampling, or greedy.

How a text is put to the model is its objective's to say: after a begin token, or as the source that is read
before anything is said (`Objective.prompt`); a gap, with what comes after it standing before it
(`Objective.gap`).
"""

from typing import final

from telos.generate._past import Past
from telos.generate._rows import take

__all__ = ["LeftToRight"]


@final
class LeftToRight(Past):
    """One token for each row in each run of the model."""

    def advance(self) -> None:
        going = [place for place, row in enumerate(self.rows) if not row.finished]
        said = self.logits(going)
        take([self.rows[place] for place in going], said, self.shut(going, said.shape[1]))
