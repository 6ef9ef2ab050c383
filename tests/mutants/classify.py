"""Bugs of classification, put back."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.mutants import mutant

OBJECTIVE = "tests/objectives/test_classify.py::"
FIGURES = "tests/evaluate/test_classification.py::"
TASK = "tests/tasks/test_classification.py::"
COMMAND = "tests/tasks/test_classify_command.py::"


@mutant(kills=f"{OBJECTIVE}test_the_order_of_lines_changes_no_target", trap=36)
def numbers_of_the_shards_are_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class of that number by name, whatever the shards call it."""
    from telos.data.corpus import Corpus

    def by_number(self: Corpus, number: int) -> str:
        return sorted(self.shards.header.labels)[number] if number >= 0 else ""

    monkeypatch.setattr(Corpus, "_class", by_number)


@mutant(kills=f"{OBJECTIVE}test_classes_are_numbered_by_name_whatever_the_order_they_are_met_in", trap=36)
def classes_are_numbered_as_they_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.objectives.classify.sorted", lambda names: list(names), raising=False)


@mutant(kills=f"{OBJECTIVE}test_classes_that_cannot_be_learned_are_named", trap=36)
def strange_classes_are_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.objectives.classify._check_known", lambda labels, classes: None)


@mutant(kills=f"{OBJECTIVE}test_classes_are_smoothed_in_training[True]")
def smoothing_is_the_vocabularys_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is taken and does nothing."""
    from telos.models._heads import ClassHead

    right: Any = ClassHead.__init__
    monkeypatch.setattr(
        ClassHead, "__init__", lambda *given, **named: right(*given, **{**named, "smoothing": 0.0})
    )


@mutant(kills=f"{OBJECTIVE}test_the_runs_recipe_names_the_classes_and_it_goes_on")
def the_recipe_forgets_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.run.informed_before", lambda folder, recipe: recipe)


@mutant(kills=f"{OBJECTIVE}test_it_starts_from_a_run_of_another_objective", trap=36)
def a_head_of_other_classes_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.origin._alike", lambda head, other: head.name == other.name)


@mutant(kills=f"{OBJECTIVE}test_from_left_to_right_it_is_asked_about_where_all_has_been_seen")
def a_causal_model_is_asked_before_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.classify import Classify

    asked = Classify._ask

    def early(self: Classify, row: Any, name: str) -> Any:
        return replace(asked(self, row, name), at=np.array([0]))

    monkeypatch.setattr(Classify, "_ask", early)


@mutant(kills=f"{OBJECTIVE}test_the_loss_is_a_weighted_mean", trap=1)
def weights_are_divided_by_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.classify import Classify

    monkeypatch.setattr(Classify, "denominators", lambda self, asked: dict.fromkeys(asked, 3.0))


@mutant(kills=f"{OBJECTIVE}test_balanced_weights_by_hand")
def frequent_classes_weigh_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import classify

    balanced = classify._balanced
    monkeypatch.setattr(
        classify, "_balanced", lambda *given: {name: 1 / weight for name, weight in balanced(*given).items()}
    )


@mutant(kills=f"{OBJECTIVE}test_the_mean_by_hand_however_rows_are_packed")
def the_first_place_stands_for_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import batch

    def first(hidden: Any, asked: Any, part: slice = slice(None)) -> Any:
        return hidden.index_select(0, asked.at)[: len(asked.target)][part]

    monkeypatch.setattr(batch, "gathered", first)


@mutant(kills=f"{OBJECTIVE}test_what_is_said_of_a_text_does_not_hang_on_others[decoder-mean]", trap=23)
def questions_run_into_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The places of all texts of a batch belong to the first question of each example."""
    from telos.data import packing

    owners = packing._owners

    def first(asks: Any, questions: int) -> Any:
        found = owners(asks, questions)
        return None if found is None else np.where(found < questions, 0, found)

    monkeypatch.setattr(packing, "_owners", first)


@mutant(kills=f"{FIGURES}test_bins_are_of_equal_width_and_hold_their_upper_end")
def bins_hold_their_lower_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import classification

    def floored(confidence: Any) -> Any:
        return np.clip((confidence * 15).astype(np.int64), 0, 14)

    monkeypatch.setattr(classification, "_bin", floored)


@mutant(kills=f"{FIGURES}test_accuracy_f1_and_confusion_by_hand")
def said_and_right_change_places(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import classification

    plain = classification._of_class
    monkeypatch.setattr(
        classification,
        "_of_class",
        lambda confusion, number: plain(confusion, number)._replace(
            precision=plain(confusion, number).recall, f1=0
        ),
    )


@mutant(kills=f"{FIGURES}test_exchanged_labels_are_named", trap=36)
def below_chance_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.evaluate.classification.exchanged", lambda *given: None)


@mutant(kills=f"{FIGURES}test_the_temperature_is_found_by_which_answers_were_made_too_sure[2.5]")
def the_temperature_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import classification

    plain = classification.temperature_of
    monkeypatch.setattr(classification, "temperature_of", lambda logits, truth: 1 / plain(logits, truth))


@mutant(kills=f"{TASK}test_probabilities_have_the_temperature_that_the_run_noted")
def the_temperature_is_noted_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.tasks import classification

    plain = classification.probabilities
    monkeypatch.setattr(classification, "probabilities", lambda logits, temperature: plain(logits))


@mutant(kills=f"{TASK}test_below_the_threshold_there_is_no_answer")
def it_never_abstains(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.tasks import classification

    plain = classification._judged
    monkeypatch.setattr(
        classification, "_judged", lambda labels, shares, threshold: plain(labels, shares, 0.0)
    )


@mutant(kills=f"{TASK}test_texts_are_cleaned_as_those_it_was_trained_on")
def texts_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.tasks.classification.cleaner", lambda settings: str)


@mutant(kills=f"{TASK}test_words_are_compared_after_the_text_as_one", trap=35)
def the_word_is_tokenised_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import few_shot
    from telos.evaluate.texts import Text

    plain = few_shot.text_of

    def apart(text: str, tokenizer: Any, after: str = "") -> Text:
        first, second = plain(after, tokenizer), plain(text.strip(), tokenizer)
        joined = (np.concatenate(both) for both in zip(first[:3], second[:3], strict=True))
        return Text(*joined, start=len(first.ids))

    monkeypatch.setattr(few_shot, "text_of", apart)


@mutant(kills=f"{COMMAND}test_rows_come_back_whole_with_what_was_found", trap=49)
def cells_are_joined_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        def __init__(self, out: Any, lineterminator: str) -> None:
            self.out = out

        def writerow(self, row: list[str]) -> None:
            self.out.write(",".join(row) + "\n")

    monkeypatch.setattr("telos.tasks._files.csv.writer", Plain)
