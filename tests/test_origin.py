"""A run starts from another run: description, vocabulary and weights are that one's, and what it lacks starts
anew."""

from pathlib import Path
from typing import Any

import pytest
import torch

from telos.config import to_toml
from telos.errors import CheckpointError, ConfigError
from telos.origin import describe
from telos.run import Run, fit, load_recipe, open_run
from telos.train.display import Display
from tests.small import NARROW, SHRUNK, last_weights, write_texts

SLOW = "train.optimizer.rate=1e-9"


class Heard(Display):
    """What a run says on the way."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def show(self, **_: Any) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("text") / "texts")


@pytest.fixture(scope="module")
def finished(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With learned positions, and averaged weights, which are those that count."""
    changes = [f"data.path={texts}", *SHRUNK, *NARROW["decoder"], "tokenizer.size=300", "name=first"]
    changes += ["model.positions=learned", "train.schedule.average=0.5", "train.optimizer.rate=0.01"]
    return fit(load_recipe("gpt-small", changes), tmp_path_factory.mktemp("runs"), device="cpu")


def begun(texts: Path, source: Run, root: Path, *changes: str) -> tuple[Run, list[str]]:
    given = [f"model.from={source.folder}", *SHRUNK, SLOW, "name=second", *changes]
    heard = Heard()
    return fit(load_recipe(texts, given), root, device="cpu", display=heard), heard.said


def test_weights_vocabulary_and_description_are_that_of_the_run(
    finished: Run, texts: Path, tmp_path: Path
) -> None:
    run, said = begun(texts, finished, tmp_path)
    assert run.recipe.model.width == 16 and run.tokenizer.hash == finished.tokenizer.hash
    before, after = finished.network.state_dict(), last_weights(run)
    assert any(not torch.equal(before[name], last) for name, last in last_weights(finished).items())
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)
    assert f"Starting from {finished.folder}" in said and not any("anew" in each for each in said)


def test_its_own_recipe_says_it_all_and_it_goes_on(finished: Run, texts: Path, tmp_path: Path) -> None:
    run, _ = begun(texts, finished, tmp_path)
    assert "content" in to_toml(run.recipe)
    more, _ = begun(texts, finished, tmp_path, "train.budget.steps=4")
    assert more.outcome is not None and more.outcome.step == 4
    third, _ = begun(texts, more, tmp_path, "name=third")  # from a run that began from another
    assert third.recipe.model.origin.source == str(more.folder)


def test_another_checkpoint_is_another_beginning(finished: Run, texts: Path, tmp_path: Path) -> None:
    """Trap 47: a run goes on only from what it began with."""
    begun(texts, finished, tmp_path)
    found = describe(str(finished.folder)).content
    manifest = finished.saved.path / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text + "\n")
    try:
        assert describe(str(finished.folder)).content != found
        with pytest.raises(ConfigError, match=r"model\.from\.content"):
            begun(texts, finished, tmp_path)
    finally:
        manifest.write_text(text)


def test_heads_that_the_run_lacks_start_anew_and_the_vocabulary_grows(
    finished: Run, texts: Path, tmp_path: Path
) -> None:
    _, said = begun(texts, finished, tmp_path, "objective={name='multi_token', tokens=2}", "name=ahead")
    anew = [each for each in said if "starts anew" in each]
    assert anew and all("heads.tokens." not in each for each in anew)
    grown, said = begun(texts, finished, tmp_path, "objective={name='span', form='prefix', marks=4}")
    assert any("the embedding grew from" in each for each in said)
    own, theirs = last_weights(grown)["embedding.weight"], finished.network.embedding.weight
    torch.testing.assert_close(own[: len(theirs)], theirs, rtol=0, atol=1e-6)
    assert len(own) == len(theirs) + 4


def test_a_shorter_window_takes_the_first_places(finished: Run, texts: Path, tmp_path: Path) -> None:
    run, _ = begun(texts, finished, tmp_path, "train.window=8")
    own, theirs = last_weights(run)["places.weight"], finished.network.state_dict()["places.weight"]
    torch.testing.assert_close(own, theirs[:8], rtol=0, atol=1e-6)


def other_tokenizer(finished: Run, folder: Path) -> str:
    """The vocabulary of a run whose numbers were exchanged."""
    text = (finished.folder / "tokenizer.json").read_text(encoding="utf-8")
    path = folder / "tokenizer.json"
    path.write_text(
        text.replace('"a":', '"\x00":', 1).replace('"t":', '"a":', 1).replace('"\x00":', '"t":', 1)
    )
    return str(path)


def test_what_does_not_go_with_the_run_is_refused(finished: Run, texts: Path, tmp_path: Path) -> None:
    refused: tuple[tuple[list[str], str], ...] = (
        (["train.window=32"], "has 16 places. Set train.window to at most 16"),
        (["model.width=32"], "the settings of the model say"),
        (["model.depth=2"], "has no blocks.1"),
        (["model.name=gru"], "what is there is a decoder, not a gru"),
        (["tokenizer.size=500"], "the vocabulary comes with the model"),
        ([f"tokenizer.path={other_tokenizer(finished, tmp_path)}"], "would mean other tokens"),
    )
    for changes, why in refused:
        with pytest.raises(ConfigError, match=why):
            begun(texts, finished, tmp_path / "runs", *changes)


def test_a_run_that_was_never_trained_is_refused(finished: Run, texts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "recipe.toml").write_text(to_toml(finished.recipe), encoding="utf-8")
    with pytest.raises(CheckpointError, match="no whole checkpoint to start from"):
        describe(str(folder))


def test_what_a_partner_gave_is_a_part_of_the_weights(texts: Path, tmp_path: Path) -> None:
    """A discriminator that shares its generator's embedding starts another run with both."""
    given: list[Any] = [f"data.path={texts}", *SHRUNK, *NARROW["encoder"], "tokenizer={kind='bpe', size=300}"]
    given += [
        "model.embedding={width=16, types=2}",
        "objective={name='replaced', shared=true}",
        "name=shared",
    ]
    first = fit(load_recipe("electra-small", given), tmp_path, device="cpu")
    run, said = begun(texts, first, tmp_path, "objective=masked")
    opened = open_run(first.folder, "cpu").network.embedding.weight
    torch.testing.assert_close(last_weights(run)["embedding.weight"], opened, rtol=0, atol=1e-6)
    assert any(each.strip().startswith("heads.tokens") for each in said)
    assert any("the head replaced" in each for each in said)
