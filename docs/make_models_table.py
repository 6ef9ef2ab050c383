"""Writes the table of which objective goes with which model into models.md, in English and Chinese.

    python docs/make_models_table.py

What an objective requires and what a model gives say it, as they do where a recipe is read.
tests/test_docs.py checks that the pages are as this would write them.
"""

from pathlib import Path

from telos import models, objectives
from telos.find import find, names
from telos.models._base import Model
from telos.objectives._base import Objective

DOCS = Path(__file__).parent
BEGIN, END = "<!-- begin: written by make_models_table.py -->\n", "<!-- end -->\n"
HEAD = {"en": "objective", "zh": "训练目标"}
MEMBERS = {"en": "as its members", "zh": "同它的成员"}
VARIANTS = {"form": ("source", "prefix"), "read": ("full", "causal")}
"""Settings that decide what an objective requires, with all that they can be."""


def table(language: str) -> str:
    """Objectives by models: ✓, with what has to be set for it, or a dash."""
    known = names(models)
    kinds = [find(models, name, Model) for name in known]
    lines = [f"| {HEAD[language]} | " + " | ".join(f"`{name}`" for name in known) + " |"]
    lines.append("|---" * (len(kinds) + 1) + "|")
    for name in names(objectives):
        kind = find(objectives, name, Objective)
        if any(field.is_required() for field in kind.model_fields.values()):
            lines.append(f"| `{name}` | " + " | ".join([MEMBERS[language]] * len(kinds)) + " |")
            continue
        for title, objective in variants(name, kind):
            lines.append(f"| {title} | " + " | ".join(_cell(objective, model) for model in kinds) + " |")
    return "\n".join(lines) + "\n"


def variants(name: str, kind: type[Objective]) -> list[tuple[str, Objective]]:
    """An objective as it is by default, or in each of its forms."""
    for key, values in VARIANTS.items():
        if key in kind.model_fields:
            return [(f'`{name}`, `{key} = "{value}"`', kind.model_validate({key: value})) for value in values]
    return [(f"`{name}`", kind())]


def _cell(objective: Objective, kind: type[Model]) -> str:
    required = objective.requires()
    if not kind.serves(required):
        return "–"
    cures = [cure for capability, cure in kind().lacks().items() if capability in required]
    return " ".join(["✓", *(f"`{cure}`" for cure in cures)])


def path_of(language: str) -> Path:
    return DOCS / "models.md" if language == "en" else DOCS / language / "models.md"


def page(language: str) -> str:
    """The page as it should be."""
    above, _, rest = path_of(language).read_text(encoding="utf-8").partition(BEGIN)
    return above + BEGIN + "\n" + table(language) + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    for language in HEAD:
        path_of(language).write_text(page(language), encoding="utf-8", newline="\n")
