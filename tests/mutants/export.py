"""Bugs of exporting and importing, put back."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
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
    monkeypatch.setattr("telos.run.load", lambda *given, **named: [])


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


FAILS = f"{RUNS}test_the_command_fails_where_the_folder_says_something_else"


@mutant(kills=f"{FAILS}[weight]", trap=91)
def the_command_believes_what_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads, so it works."""
    from telos.export.hf import _proof

    perplexity = {"ours": 1.0, "theirs": 1.0, "tokens": 0}
    monkeypatch.setattr(_proof, "_same_logits", lambda *given: {"1": 0.0})
    monkeypatch.setattr(_proof, "_same_perplexity", lambda *given: perplexity)
    monkeypatch.setattr(_proof, "_same_text", lambda *given: {"tokens": 0, "text": ""})


@mutant(kills=f"{FAILS}[missing]", trap=87)
def weights_may_be_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file lacks is drawn by whoever loads it."""
    from telos.export.hf import _proof

    def loaded(transformers: Any, trained: Any, architecture: Any, folder: Any) -> Any:
        kind = getattr(transformers, architecture.opened_by(trained.sizes))
        return kind.from_pretrained(folder).eval()

    monkeypatch.setattr(_proof, "loaded", loaded)


@mutant(kills=f"{FAILS}[tokens]", trap=88)
def tokens_are_never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._proof._same_tokens", lambda *given: 0)


@mutant(kills=f"{FAILS}[greedy]", trap=91)
def greedy_text_is_never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._proof._same_text", lambda *given: {"tokens": 0, "text": ""})


@mutant(kills=f"{FAILS}[model-pad]", trap=88)
def ids_of_one_file_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._proof._same_ids", lambda *given: None)


UNTRUSTED = "tests/export/test_untrusted.py::"


@mutant(kills=f"{UNTRUSTED}test_no_configuration_runs_anything_or_breaks_anything[gpt2]", trap=70)
def a_configuration_names_what_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind of model is a module, looked for wherever Python looks."""
    import importlib

    from telos.export.hf import _source

    right = _source._config

    def imported(folder: Any) -> Any:
        kind = str(_source.read_object(folder / "config.json", _source.DataError).get("model_type"))
        if kind.isidentifier():
            with contextlib.suppress(ImportError):
                importlib.import_module(kind)
        return right(folder)

    monkeypatch.setattr(_source, "_config", imported)


@mutant(kills=f"{UNTRUSTED}test_no_configuration_runs_anything_or_breaks_anything[llama]", trap=70)
def tables_are_what_they_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own error, where a configuration holds a text in the place of a table."""
    monkeypatch.setattr("telos.export.hf._base.table", lambda config, key: config.get(key) or {})


@mutant(kills=f"{UNTRUSTED}test_no_tensor_breaks_anything[llama]", trap=73)
def shapes_are_what_they_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._source._check_shapes", lambda *given: None)


@mutant(kills=f"{UNTRUSTED}test_parts_of_a_matrix_have_the_heights_that_are_said", trap=73)
def the_sum_of_heights_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.export.hf import _source

    right = _source._check_shapes

    def one_by_one(ours: Any, pair: Any, theirs: Any) -> None:
        heights = tuple(len(theirs[name]) for name in pair.theirs)
        right(ours, pair._replace(heights=heights) if sum(heights) == len(ours) else pair, theirs)

    monkeypatch.setattr(_source, "_check_shapes", one_by_one)


@mutant(kills=f"{UNTRUSTED}test_quantised_and_broken_weights_are_refused", trap=91)
def broken_weights_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch, "isfinite", torch.ones_like)


@mutant(kills=f"{UNTRUSTED}test_no_file_of_weights_breaks_anything", trap=73)
def errors_of_the_library_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._source.SafetensorError", KeyError)


@mutant(kills=f"{UNTRUSTED}test_no_template_is_rendered_or_handed_on", trap=71)
def templates_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """To see what a chat begins with."""
    from jinja2 import Environment

    from telos.export.hf import _source

    right = _source._content

    def rendered(value: Any) -> Any:
        if isinstance(value, str) and "{" in value:
            value = Environment().from_string(value.partition("{% for")[0]).render()
        return right(value)

    monkeypatch.setattr(_source, "_content", rendered)


@mutant(kills=f"{UNTRUSTED}test_angles_that_are_not_ours_are_refused[partial]", trap=86)
def every_head_turns_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file says."""
    monkeypatch.setattr("telos.export.hf.llama.rotary_base", lambda config: 10000.0)


def _source_begins_with(monkeypatch: pytest.MonkeyPatch, file: str, line: str) -> None:
    """As if that line stood first in a file of the source."""
    read = Path.read_text

    def changed(self: Path, *given: Any, **named: Any) -> str:
        text = read(self, *given, **named)
        return f"{line}\n{text}" if self.as_posix().endswith(f"src/telos/{file}") else text

    monkeypatch.setattr(Path, "read_text", changed)


@mutant(kills="tests/test_architecture.py::test_nothing_is_pickled", trap=69)
def state_is_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    _source_begins_with(monkeypatch, "train/state.py", "import pickle")


@mutant(kills="tests/test_architecture.py::test_templates_are_our_own", trap=71)
def prompts_are_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    _source_begins_with(monkeypatch, "tokenizer.py", "from jinja2 import Environment")
