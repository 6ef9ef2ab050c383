"""Train language models from text, and choose the training objective.

    import telos

    recipe = telos.load_recipe("demo", ["train.budget.minutes=1"])
    run = telos.fit(recipe)  # prepares, trains, evaluates; again: goes on where it stopped
    print(run.evaluate()["bits_per_byte"])
    print(run.generate(["def "])[0].text)

Nothing heavy is imported until one of these names is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from telos.errors import TelosError
    from telos.generate._forms import check_form
    from telos.recipe import Recipe
    from telos.run import Run, fit, load_recipe, open_run, prepare

__all__ = [
    "Recipe",
    "Run",
    "TelosError",
    "__version__",
    "check_form",
    "fit",
    "load_recipe",
    "open_run",
    "prepare",
]

__version__ = "0.1.0"

_HOMES = {"TelosError": "telos.errors", "Recipe": "telos.recipe", "check_form": "telos.generate._forms"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "telos.run")), name)
    raise AttributeError(f"module 'telos' has no attribute {name!r}; there are: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
