"""Bugs of exporting and importing, put back."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.mutants import mutant

HF = "tests/export/test_hf.py::"
RUNS = "tests/export/test_runs.py::"


@mutant(kills=f"{HF}test_our_forward_says_what_theirs_says[llama]", trap=86)
def rotary_rows_are_interleaved(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import _source
    from telos.export.hf._base import Pair, to_ours

    def woven(pair: Pair, theirs: Mapping[str, Any]) -> Any:
        found = to_ours(pair, theirs)
        if not pair.ours.endswith("attend.inward.weight"):
            return found
        return found.view(-1, 2, 4, found.shape[1]).transpose(1, 2).reshape(found.shape)

    monkeypatch.setattr(_source, "to_ours", woven)


@mutant(kills=f"{HF}test_our_forward_says_what_theirs_says[gpt2]")
def nothing_is_transposed(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import _source
    from telos.export.hf._base import Pair, to_ours

    def flat(pair: Pair, theirs: Mapping[str, Any]) -> Any:
        found = to_ours(pair, theirs)
        return found.t() if pair.turned and found.shape[0] == found.shape[1] else found

    monkeypatch.setattr(_source, "to_ours", flat)


@mutant(kills=f"{HF}test_our_forward_says_what_theirs_says[t5-v1.0]", trap=38)
def the_head_of_t5_is_never_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.models._heads.Scaled.forward", lambda self, x: x)


@mutant(kills=f"{HF}test_our_forward_says_what_theirs_says[modernbert]")
def local_blocks_see_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import modernbert

    monkeypatch.setattr(modernbert, "_near", lambda config, depth: {"reach": 0})


@mutant(kills=f"{HF}test_weights_that_are_missing_or_contradict_are_refused", trap=87)
def another_head_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._source._check_tied", lambda architecture, config, theirs: None)


@mutant(kills=f"{HF}test_what_is_written_says_the_same_and_comes_back[llama-untied]", trap=87)
def an_untied_head_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import _write
    from telos.export.hf._base import Pair, to_theirs

    def headless(pairs: Iterable[Pair], ours: Mapping[str, Any]) -> Any:
        written = to_theirs(pairs, ours)
        return {name: tensor for name, tensor in written.items() if name != "lm_head.weight"}

    monkeypatch.setattr(_write, "to_theirs", headless)


@mutant(kills=f"{HF}test_an_export_that_says_something_else_fails_and_leaves_nothing[norm.weight]", trap=91)
def logits_are_never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import _proof

    monkeypatch.setattr(_proof, "_same_logits", lambda *given: {})
    monkeypatch.setattr(_proof, "PERPLEXITY", 1e9)
    monkeypatch.setattr(_proof, "_same_text", lambda *given: {"tokens": 0, "text": ""})


@mutant(kills=f"{HF}test_pickled_weights_are_refused", trap=69)
def pickled_weights_are_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._source._weight_files", lambda folder: [])


@mutant(kills=f"{HF}test_a_configuration_that_means_something_else_is_refused[activation]", trap=70)
def no_key_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._base.Architecture.check", lambda self, config: None)


@mutant(kills=f"{HF}test_both_heads_of_bert_say_the_same", trap=36)
def the_classes_of_the_second_head_are_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import _write
    from telos.export.hf._base import Pair, to_theirs

    def exchanged(pairs: Iterable[Pair], ours: Mapping[str, Any]) -> Any:
        written = to_theirs(pairs, ours)
        last = "cls.seq_relationship"
        return {name: t.flip(0) if name.startswith(last) else t for name, t in written.items()}

    monkeypatch.setattr(_write, "to_theirs", exchanged)


@mutant(kills="tests/export/test_tokenizers.py::test_special_tokens_play_their_parts[gpt2]", trap=88)
def special_tokens_of_a_file_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._source._special_tokens", lambda folder, config, architecture: {})


@mutant(kills=f"{RUNS}test_a_run_starts_from_a_folder_and_goes_on")
def first_weights_are_drawn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.run.load", lambda *given: [])


@mutant(kills=f"{RUNS}test_a_run_starts_from_a_folder_and_goes_on", trap=47)
def the_source_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._source._digest", lambda paths: "same")


def _astray(monkeypatch: pytest.MonkeyPatch, part: str, change: Any) -> None:
    """A tensor of theirs is written as another."""
    from telos.export.hf import _write
    from telos.export.hf._base import Pair, to_theirs

    def changed(pairs: Iterable[Pair], ours: Mapping[str, Any]) -> Any:
        written = to_theirs(pairs, ours)
        return {name: change(tensor) if part in name else tensor for name, tensor in written.items()}

    monkeypatch.setattr(_write, "to_theirs", changed)


DIGITS = f"{HF}test_what_is_written_says_the_same_to_the_last_digits"


@mutant(kills=f"{DIGITS}[electra]", trap=91)
def a_weight_of_the_discriminator_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    _astray(monkeypatch, "dense_prediction", lambda tensor: tensor.half().float())


@mutant(kills=f"{DIGITS}[electra-generator]", trap=87)
def the_generator_has_no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    _astray(monkeypatch, "generator_lm_head.bias", lambda tensor: tensor * 0)


@mutant(kills=f"{HF}test_our_forward_says_what_theirs_says[electra]")
def the_discriminator_has_the_pooler_of_bert(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.encoder import Encoder

    right = Encoder.transform
    monkeypatch.setattr(
        Encoder,
        "transform",
        lambda self, spec: right(self, replace(spec, kind="classes") if spec.kind == "marks" else spec),
    )


@mutant(kills=f"{HF}test_our_forward_says_what_theirs_says[electra-generator]")
def embeddings_are_widened_before_their_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn import functional

    from telos.models.encoder import EncoderNetwork

    def embed(self: Any, main: Any) -> Any:
        x = self.embedding(main.ids) + self.types.weight[0] + self.places(main.positions)
        return functional.layer_norm(self.widen(x), (self.model.width,))

    monkeypatch.setattr(EncoderNetwork, "embed", embed)


@mutant(kills=f"{HF}test_of_two_heads_electra_keeps_the_one_that_it_has")
def both_heads_of_electra_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf.electra import Electra

    monkeypatch.setattr(Electra, "kept", lambda self, sizes: ("tokens", "replaced"))


@mutant(kills=f"{RUNS}test_electra_goes_out_as_two_models_and_either_comes_back")
def the_partner_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.opened import Run

    right = Run._network_of
    monkeypatch.setattr(Run, "_network_of", lambda self, partner: right(self, ""))


@mutant(kills="tests/models/test_encoder.py::test_its_logits_are_those_of_the_formula[bert]")
def a_mark_is_said_of_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logit of the first class, where it is that of the second."""
    from telos.models._heads import MarkHead

    table: Any = MarkHead.table
    monkeypatch.setattr(MarkHead, "table", property(lambda self: table.fget(self).flip(0)))


@mutant(
    kills="tests/evaluate/test_texts.py::test_exact_is_a_loop_over_tokens_for_every_batch_size[rotary]",
    trap=35,
)
def the_first_token_of_a_sentence_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where nothing stands before a sentence: the harness puts the begin token there."""
    from telos.evaluate import texts

    right = texts.text_of
    monkeypatch.setattr(texts, "text_of", lambda text, tokenizer: right(text, tokenizer)._replace(start=1))


@mutant(kills="tests/test_json_files.py::test_an_object_is_read_and_all_else_refused_by_name")
def deep_nesting_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own error, where a file of a stranger is nested too deeply."""
    from telos import json_files

    monkeypatch.setattr(json_files, "RecursionError", KeyError, raising=False)
