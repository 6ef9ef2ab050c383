"""Bugs of classes that go to Hugging Face and come back, put back."""

from typing import Any

import pytest

from tests.mutants import mutant
from tests.mutants.export import _astray

CLASSES = "tests/export/test_classes.py::"
WRITTEN = f"{CLASSES}test_what_is_written_says_the_same_and_comes_back"
OTHERWISE = f"{CLASSES}test_what_is_asked_otherwise_is_refused_by_reason"
JUDGED = f"{CLASSES}test_a_folder_that_judges_otherwise_is_not_written"


@mutant(kills=f"{WRITTEN}[llama]", trap=36)
def rows_of_classes_are_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    _astray(monkeypatch, "score", lambda tensor: tensor.flip(0))


@mutant(kills=f"{WRITTEN}[gpt2]")
def a_decoder_adds_to_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias, for which theirs has no place."""
    from telos.models import decoder

    right = decoder.build_heads
    monkeypatch.setattr(
        decoder, "build_heads", lambda *g, **named: right(*g, **{**named, "class_bias": True})
    )


@mutant(kills=f"{WRITTEN}[modernbert-mean]")
def theirs_is_asked_at_its_first_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As is the default, whatever ours is."""
    from telos.export.hf import _classes

    right = _classes.described

    def at_first(architecture: Any, trained: Any) -> Any:
        return {
            key: said for key, said in right(architecture, trained).items() if key != "classifier_pooling"
        }

    monkeypatch.setattr(_classes, "described", at_first)


@mutant(kills=f"{WRITTEN}[llama]", trap=88)
def nothing_ends_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a decoder that goes on with it."""
    from telos.tokenizer import Tokenizer

    right = Tokenizer.for_others
    monkeypatch.setattr(Tokenizer, "for_others", lambda self, before, after: right(self, before, []))


@mutant(kills=f"{OTHERWISE}[modernbert-mean]")
def one_mean_is_as_good_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import _classes

    right = _classes._place
    monkeypatch.setattr(_classes, "_place", lambda row: {"text": "all"}.get(right(row), right(row)))


@mutant(kills=f"{JUDGED}[frame]", trap=88)
def texts_are_never_judged_as_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of tokens are compared, which the folder's tokenizer never sees."""
    monkeypatch.setattr("telos.export.hf._proof.same_classes", lambda *given: {"classes": {"names": []}})


@mutant(kills=f"{CLASSES}test_our_head_says_what_theirs_says[bert]", trap=36)
def classes_of_a_folder_are_numbered_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import _classes

    right = _classes._names
    monkeypatch.setattr(_classes, "_names", lambda config: tuple(sorted(right(config))))


@mutant(kills=f"{CLASSES}test_names_of_a_recipe_that_are_others_begin_anew", trap=36)
def as_many_classes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives._base import Learned

    monkeypatch.setattr(Learned, "fits", lambda self, names: len(names) == self.rows)


@mutant(kills=f"{CLASSES}test_what_stands_around_a_text_there_is_said_where_it_is_not_as_here", trap=88)
def all_tokenizers_put_the_same_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._classes.framed_otherwise", lambda *given: [])


@mutant(kills=f"{CLASSES}test_a_head_that_does_not_choose_begins_anew[several]")
def every_head_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._classes._OTHER_TASKS", ())


@mutant(kills=f"{CLASSES}test_a_classifier_goes_out_and_another_run_begins_where_it_ended[decoder]", trap=36)
def a_recipe_does_not_know_the_classes_of_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.recipe._knowing", lambda given, head: given)
