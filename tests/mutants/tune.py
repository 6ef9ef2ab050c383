"""Bugs of fine-tuning, put back."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from tests.mutants import mutant

ADAPTERS = "tests/models/test_adapters.py::"
TUNE = "tests/train/test_tune.py::"
PEFT = "tests/export/test_peft.py::"
TURNS = "tests/test_turns.py::"
INSTRUCT = "tests/objectives/test_instruct.py::"


# ---- adapters


@mutant(kills=f"{ADAPTERS}test_every_objective_with_new_adapters_begins_to_the_bit_as_without[causal]")
def up_is_random_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _adapters

    right = _adapters.Adapted.__init__

    def init(self: Any, *given: Any) -> None:
        right(self, *given)
        nn.init.normal_(self.up, 0, 0.02)

    monkeypatch.setattr(_adapters.Adapted, "__init__", init)


@mutant(kills=f"{ADAPTERS}test_every_objective_with_new_adapters_begins_to_the_bit_as_without[causal]")
def both_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then neither ever has a gradient."""
    from telos.models import _adapters

    monkeypatch.setattr(_adapters, "drawn", lambda initial, shape, seed, name: torch.zeros(shape))


@mutant(kills=f"{ADAPTERS}test_merged_they_say_what_they_said_apart[decoder]")
def merged_without_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _adapters

    right = _adapters.Adapted.plain

    def plain(self: Any, *, merged: bool) -> Any:
        self.alpha = float(self.rank)
        return right(self, merged=merged)

    monkeypatch.setattr(_adapters.Adapted, "plain", plain)


@mutant(kills=f"{ADAPTERS}test_dropout_is_of_what_goes_into_the_adapter_alone_and_of_training_alone")
def dropout_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 22."""
    from telos.models import _adapters, _dropout

    monkeypatch.setattr(_adapters, "dropout", lambda x, share, training: _dropout.dropout(x, share, True))


@mutant(kills=f"{ADAPTERS}test_heads_and_routers_have_none")
def routers_have_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    """That nothing ever calls."""
    from telos.models import _experts

    monkeypatch.setattr(_experts, "Router", nn.Linear)


@mutant(kills=f"{TUNE}test_only_adapters_move_and_only_they_are_held")
def the_base_learns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.train.tune._freeze", lambda network, only: None)


@mutant(kills=f"{TUNE}test_with_adapters_a_new_head_learns_too")
def new_heads_stay_random(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import tune

    right = tune._freeze

    def freeze(network: Any, only: str) -> None:
        right(network, only)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not name.startswith("heads."))

    monkeypatch.setattr(tune, "_freeze", freeze)


@mutant(kills=f"{TUNE}test_a_run_of_adapters_from_end_to_end")
def a_run_is_opened_without_its_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import opened
    from telos.models._adapters import bared

    monkeypatch.setattr(opened, "merged", bared)


@mutant(kills=f"{TUNE}test_of_a_frozen_table_no_gradient_is_ever_made")
def gradients_of_frozen_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import losses

    right = losses._Gradient.__init__

    def init(self: Any, hidden: Any, weight: Any, bias: Any, wanted: Any) -> None:
        right(self, hidden, weight, bias, [True, True, True])

    monkeypatch.setattr(losses._Gradient, "__init__", init)


# ---- shares of the rate


@mutant(kills=f"{TUNE}test_layers_learn_at_the_rates_of_the_table[decoder]")
def the_first_layer_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    right = Network.layers_above

    def upside_down(self: Any) -> dict[str, int]:
        found = right(self)
        most = max(found.values())
        return {name: most - above for name, above in found.items()}

    monkeypatch.setattr(Network, "layers_above", upside_down)


@mutant(kills=f"{TUNE}test_the_rate_of_every_group_follows_the_schedule[adamw]")
def the_schedule_overwrites_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import loop

    right = loop.Trainer._set_rate

    def one_rate(self: Any) -> float:
        rate = right(self)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    monkeypatch.setattr(loop.Trainer, "_set_rate", one_rate)


# ---- the format of peft


@mutant(kills=f"{PEFT}test_peft_says_the_same[llama]", trap=91)
def rows_of_queries_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export import peft

    right = peft._tensors

    def wrong(parts: Any) -> dict[str, Any]:
        found = right(parts)
        keys = [name for name in found if name.endswith("k_proj.lora_B.weight")]
        return {**found, **{key: found[key.replace("k_proj", "v_proj")].clone() for key in keys}}

    monkeypatch.setattr(peft, "_tensors", wrong)


@mutant(
    kills=f"{PEFT}test_an_adapter_that_says_something_else_is_not_written[missing]",
    trap=64,
)
def what_peft_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.peft._all_taken", lambda model, folder: None)


@mutant(kills=f"{PEFT}test_a_base_that_is_no_longer_theirs_comes_with_it", trap=91)
def any_base_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.peft.holds", lambda source, written: True)


@mutant(kills=f"{PEFT}test_peft_says_the_same[gpt2]")
def transposed_matrices_are_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export import peft

    right = peft._config

    def config(*given: Any) -> dict[str, Any]:
        return {**right(*given), "fan_in_fan_out": False}

    monkeypatch.setattr(peft, "_config", config)


# ---- conversations


@mutant(kills=f"{TURNS}test_the_tokens_of_a_small_conversation", trap=5)
def the_end_of_an_answer_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that never stops."""
    from telos import chat, data, objectives  # noqa: F401
    from telos.data import tokenised

    right = chat.framed

    def framed(turns: Any, form: Any, tokenizer: Any) -> Any:
        found = right(turns, form, tokenizer)
        return found._replace(answers=found.answers & (found.ids != tokenizer.special(form.closing)))

    for module in (chat, tokenised):
        monkeypatch.setattr(module, "framed", framed)


@mutant(kills=f"{INSTRUCT}test_what_is_asked_of_a_conversation[chatml]", trap=4)
def the_first_word_of_an_answer_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask is shifted and the tokens are not."""
    from telos.objectives import instruct

    right = instruct.Instruct.example

    def example(self: Any, read: Any, index: int, rng: Any, tokenizer: Any) -> Any:
        from dataclasses import replace

        made = right(self, read, index, rng, tokenizer)
        (ask,) = made.asks
        kept = [n for n, at in enumerate(ask.at) if n and ask.at[n - 1] == at - 1]
        return replace(
            made, asks=(replace(ask, at=ask.at[kept], target=ask.target[kept], weight=ask.weight[kept]),)
        )

    monkeypatch.setattr(instruct.Instruct, "example", example)


@mutant(kills=f"{INSTRUCT}test_messages_are_prepared_as_conversations", trap=4)
def the_user_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import chat
    from telos.data import tokenised

    right = chat.framed

    def framed(turns: Any, form: Any, tokenizer: Any) -> Any:
        found = right(turns, form, tokenizer)
        return found._replace(answers=found.answers | True)

    monkeypatch.setattr(tokenised, "framed", framed)


@mutant(kills=f"{INSTRUCT}test_messages_are_prepared_as_conversations", trap=35)
def the_begin_token_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import corpus

    right = corpus.Corpus._column

    def column(self: Any, name: str, document: int, begin: int, end: int) -> Any:
        found = right(self, name, document, begin, end)
        if name == "chatml":
            found = found.copy()
            found[0] = True
        return found

    monkeypatch.setattr(corpus.Corpus, "_column", column)


@mutant(kills=f"{TURNS}test_a_mark_that_somebody_writes_is_none", trap=52)
def anybody_can_be_the_assistant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.turns.neutral", lambda text: text)


@mutant(kills=f"{INSTRUCT}test_a_conversation_is_never_cut_into_parts")
def conversations_are_cut_into_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.data.documents.has_turns", lambda text: False)


@mutant(kills=f"{INSTRUCT}test_a_template_comes_with_the_run_and_with_its_export", trap=35)
def a_template_begins_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import instruct

    right = instruct.template
    monkeypatch.setattr(instruct, "template", lambda form, tokenizer: "<|begin|>" + right(form, tokenizer))


@mutant(kills=f"{INSTRUCT}test_a_template_comes_with_the_run_and_with_its_export", trap=88)
def special_tokens_of_a_template_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import _write

    right = _write._write_json

    def written(path: Any, table: Mapping[str, Any]) -> None:
        split = {"split_special_tokens": True} if path.name == "tokenizer_config.json" else {}
        right(path, {**table, **split})

    monkeypatch.setattr(_write, "_write_json", written)


NEW_ROWS = f"{TUNE}test_new_rows_learn_as_they_would_in_a_table_that_learns"


@mutant(kills=f"{NEW_ROWS}[decoder-True]")
def new_rows_are_read_and_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head's table is the old one."""
    from telos.models._heads import TokenHead

    def old(self: Any) -> Any:
        return self._tied[0].weight if self.weight is None else self.weight

    monkeypatch.setattr(TokenHead, "table", property(old))


@mutant(kills=f"{NEW_ROWS}[decoder-False]")
def new_rows_are_said_and_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.models._adapters._with_rows", lambda table, given, known: known)


@mutant(kills=f"{NEW_ROWS}[decoder-True]")
def new_rows_are_lost_when_a_run_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _adapters

    def lost(network: Any) -> Any:
        for module in network.modules():
            if module._parameters.get("rows") is not None:
                module.rows = None
        return network

    monkeypatch.setattr(_adapters, "_settled", lost)


@mutant(kills=f"{INSTRUCT}test_adapters_learn_the_tokens_that_a_model_began_without")
def no_token_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.run._new_tokens", lambda recipe, tokenizer: 0)


@mutant(kills=f"{PEFT}test_rows_of_tokens_that_are_never_read_do_not_learn")
def every_new_row_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a gradient of the whole table, for nothing."""
    from telos import run

    monkeypatch.setattr(run, "max", lambda ids: 1 << 30, raising=False)
