"""The recipes that come with Telos: files of `recipes/`, found by their names."""

from pathlib import Path

from telos.errors import ConfigError
from telos.find import suggestion

__all__ = ["described", "path_of"]


def described() -> dict[str, str]:
    """Each recipe's name and the comment that its file begins with: what it is, in two lines."""
    return {path.stem: _comment(path) for path in sorted(_folder().glob("*.toml"))}


def path_of(name: str, inside: str = "") -> Path:
    """The file of the recipe `name`; in the folder `inside` of the recipes, of a comparison.

    Raises:
        ConfigError: none is called so; names the nearest and lists all.
    """
    folder = _folder() / inside
    known = [path.stem for path in sorted(folder.glob("*.toml"))]
    if name not in known:
        hint = suggestion(name, known, cutoff=0.7)
        kind = "comparison" if inside else "recipe"
        raise ConfigError(
            f"{name!r} is no file or folder, nor a {kind} that comes with Telos.{hint} "
            f"{kind.capitalize()}s: {', '.join(known)}."
        )
    return folder / f"{name}.toml"


def _folder() -> Path:
    """Inside of the package once it is installed, beside `src` in the repository."""
    here = Path(__file__).parent
    inside = here / "recipes"
    return inside if inside.is_dir() else here.parents[1] / "recipes"


def _comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [
        line.removeprefix("#").strip()
        for line in lines[: next(i for i, x in enumerate([*lines, ""]) if not x.startswith("#"))]
    ]
    return "\n".join(comment)
