"""Bugs of scoring given texts, of minimal pairs, few-shot answers, probes and comparisons, put back."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from tests.mutants import mutant

TEXTS = "tests/evaluate/test_texts.py"
PAIRS = "tests/evaluate/test_pairs.py"
FEW_SHOT = "tests/evaluate/test_few_shot.py"
PROBE = "tests/evaluate/test_probe.py"
COMPARE = "tests/test_compare.py"


@mutant(kills=f"{TEXTS}::test_exact_is_a_loop_over_tokens_for_every_batch_size[rotary]", trap=30)
def padded_asks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import texts

    collate = texts.collate

    def careless(*given: Any) -> Any:
        batch = collate(*given)
        asks = (dataclasses.replace(ask, weight=torch.ones_like(ask.weight)) for ask in batch.asks)
        return dataclasses.replace(batch, asks=tuple(asks))

    monkeypatch.setattr(texts, "collate", careless)


@mutant(kills=f"{PAIRS}::test_a_pair_comes_out_the_same_in_any_company[objective0-rotary]", trap=31)
def scores_go_to_whoever_stands_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate.texts import Judge

    batches = Judge._batches

    def mixed(self: Any, questions: Any) -> Any:
        owners = sorted(question.owner for question in questions)
        for group in batches(self, questions):
            yield [question._replace(owner=owners.pop()) for question in group]

    monkeypatch.setattr(Judge, "_batches", mixed)


@mutant(kills=f"{COMPARE}::test_figures_of_different_kinds_never_share_a_row", trap=34)
def kinds_in_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.compare_page.KINDS", dict.fromkeys(("exact", "bound", "pseudo"), "exact"))


@mutant(kills=f"{TEXTS}::test_exactly_one_begin_token_goes_in_and_none_is_asked", trap=35)
def two_begin_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import texts

    pieces = texts._pieces

    def doubled(text: Any, cut: Any, tokenizer: Any) -> Any:
        ids = np.concatenate([[tokenizer.begin], text.ids])
        starts = (np.concatenate([[True], part]) for part in (text.word_start, text.sentence_start))
        return pieces(texts.Text(ids, *starts, start=text.start + 1), cut, tokenizer)

    monkeypatch.setattr(texts, "_pieces", doubled)


@mutant(
    kills=f"{TEXTS}::test_a_continuation_costs_what_the_whole_costs_more[The cat- sat on]",
    trap=35,
)
def context_and_continuation_tokenised_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import texts

    def apart(text: str, tokenizer: Any, after: str = "") -> Any:
        parts = [tokenizer.encode_words(part) for part in (after, text.strip())]
        joined = (np.concatenate(column) for column in zip(*parts, strict=True))
        return texts.Text(*joined, start=len(parts[0].ids))

    monkeypatch.setattr(texts, "text_of", apart)


@mutant(kills=f"{TEXTS}::test_the_rest_of_a_word_is_hidden_with_its_token")
def the_rest_of_a_word_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate.texts import Judge

    def plain(self: Any, piece: Any, scored: Any) -> Any:
        return ((np.array([place]), np.array([place]), 1.0) for place in scored.tolist())

    monkeypatch.setattr(Judge, "_singly", plain)


@mutant(kills=f"{TEXTS}::test_a_bound_is_the_mean_over_all_sets_of_hidden_places")
def a_bound_without_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate.texts import Judge

    random = Judge._random

    def unweighted(self: Any, owner: int, piece: Any, scored: Any) -> Any:
        draws = self.settings.draws
        return ((hidden, asked, 1 / draws) for hidden, asked, _ in random(self, owner, piece, scored))

    monkeypatch.setattr(Judge, "_random", unweighted)


@mutant(kills=f"{FEW_SHOT}::test_names_of_labels_are_the_contract", trap=36)
def labels_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers are scored by name, and the chosen number is looked up in the order of the file."""
    from telos.evaluate import few_shot

    read, chosen = few_shot.read_task, few_shot._chosen
    order: list[str] = []

    def remembered(path: Any) -> Any:
        task = read(path)
        order[:] = dict.fromkeys(item.answer for item in task.items)
        return task

    def numbered(nats: Any, choices: Any) -> Any:
        return [
            order[list(names).index(name)] for name, names in zip(chosen(nats, choices), choices, strict=True)
        ]

    monkeypatch.setattr(few_shot, "read_task", remembered)
    monkeypatch.setattr(few_shot, "_chosen", numbered)


@mutant(kills=f"{FEW_SHOT}::test_a_model_worse_than_chance_is_told_what_exchange_it_would_be", trap=36)
def below_chance_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.evaluate.few_shot.exchanged", lambda *_: None)


@mutant(kills=f"{PROBE}::test_features_are_the_mean_over_the_text_alone[objective0-rotary]", trap=30)
def padding_in_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "telos.evaluate.probe._means", lambda states, rows: states.double().mean(1).cpu().numpy()
    )


@mutant(kills=f"{COMPARE}::test_every_cell_has_the_same_text_vocabulary_and_tokens")
def a_vocabulary_for_each_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.compare import Comparison

    recipes = Comparison.recipes

    def own(self: Any, tokenizer: Any = None, budgets: Any = None) -> Any:
        found = recipes(self, None, budgets)
        wide = {"size": 310}
        return {
            key: recipe.model_copy(
                update={"tokenizer": recipe.tokenizer.model_copy(update=wide if key[0] == "bert" else {})}
            )
            for key, recipe in found.items()
        }

    monkeypatch.setattr(Comparison, "recipes", own)


@mutant(kills=f"{COMPARE}::test_only_differences_beyond_the_seeds_spread_are_named")
def every_difference_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.compare_page.Difference.exceeds", property(lambda self: self.gap.value != 0))


@mutant(kills=f"{COMPARE}::test_names_are_text_wherever_they_stand")
def names_as_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    import jinja2

    environment = jinja2.Environment
    monkeypatch.setattr(jinja2, "Environment", lambda **given: environment(**{**given, "autoescape": False}))


@mutant(kills=f"{COMPARE}::test_what_is_done_is_not_done_again")
def measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.compare._finished", lambda *_: None)
