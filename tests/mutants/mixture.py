"""Bugs of mixing sources, and of sharing steps between processes."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tests.mutants import mutant

MIXTURE, LOADER = "tests/data/test_mixture.py", "tests/data/test_loader.py"
ELSEWHERE, LANGUAGES = "tests/data/test_elsewhere.py", "tests/data/test_languages.py"
EXACT = f"{MIXTURE}::test_shares_are_exact_in_every_stretch_of_the_run"


def _get(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    try:
        found: Any = getattr(import_module(module), name)
    except ModuleNotFoundError:
        found = getattr(_get(module), name)
    return found  # type: ignore[no-any-return]


@mutant(kills=EXACT, trap=46)
def shares_of_documents(monkeypatch):
    monkeypatch.setattr(
        "telos.data.corpus.Corpus.asked_of", lambda self, pieces: np.ones(len(pieces), np.int64)
    )


@mutant(kills=EXACT, trap=46)
def draws_with_replacement(monkeypatch):
    def anew(self, turn, places):
        chosen = np.random.default_rng([turn, *places[:1].tolist()]).integers(self.pieces, size=len(places))
        return self._numbers(chosen)

    monkeypatch.setattr("telos.data.mixture._Source._order", anew)


@mutant(kills=EXACT, trap=46)
def sources_truncated(monkeypatch):
    order = _get("telos.data.mixture._Source._order")
    monkeypatch.setattr(
        "telos.data.mixture._Source._order", lambda self, turn, places: order(self, turn, places // 2)
    )


@mutant(kills=f"{MIXTURE}::test_each_pass_has_an_order_of_its_own", trap=43)
def every_pass_in_the_same_order(monkeypatch):
    order = _get("telos.data.mixture._Source._order")
    first = lambda self, turn, places: order(self, 0, places)  # noqa: E731
    monkeypatch.setattr("telos.data.mixture._Source._order", first)


@mutant(kills=f"{MIXTURE}::test_sources_have_orders_of_their_own", trap=43)
def sources_in_step(monkeypatch):
    monkeypatch.setattr("telos.data.mixture.mixed", lambda seed, number: seed)


@mutant(kills=f"{MIXTURE}::test_a_piece_that_comes_twice_in_an_epoch_is_drawn_anew", trap=11)
def randomness_of_the_epoch(monkeypatch):
    rng = _get("telos.data.layout.sample_rng")
    monkeypatch.setattr("telos.data.layout.sample_rng", lambda seed, epoch, sample: rng(seed, 0, sample))


@mutant(kills=f"{MIXTURE}::test_held_sources_are_at_their_limit_and_the_others_in_proportion", trap=46)
def water_runs_over(monkeypatch):
    def once(shares, spans, limits):
        return np.minimum(1.0, limits / np.maximum(spans @ shares, 1e-9))

    monkeypatch.setattr("telos.data.mixture._factors", once)


@mutant(kills=f"{MIXTURE}::test_no_piece_is_read_more_often_than_allowed", trap=46)
def limits_unheeded(monkeypatch):
    monkeypatch.setattr("telos.data.mixture.MixSettings.limit", lambda self, name: np.inf)


@mutant(kills=f"{MIXTURE}::test_a_larger_budget_leaves_the_mixture_as_it_began", trap=45)
def laid_out_again(monkeypatch):
    load = _get("telos.train.loop.Trainer._load_state")

    def forgetful(self, saved):
        passes = self.plan.passes
        load(self, saved)
        self.plan = _get("dataclasses.replace")(self.plan, passes=passes)

    monkeypatch.setattr("telos.train.loop.Trainer._load_state", forgetful)


@mutant(kills=f"{LOADER}::test_the_ranks_share_each_step", trap=44)
def every_rank_reads_all(monkeypatch):
    monkeypatch.setattr("telos.data.loader._Part", _whole_part)


@mutant(kills=f"{LOADER}::test_fewer_rows_than_ranks", trap=56)
def ranks_without_rows_have_no_batch(monkeypatch):
    batches = _get("telos.data.loader._batches")

    def fewer(plan, group, part):
        found = batches(plan, group, part)
        return tuple(batch for batch in found if any(batch.samples))

    monkeypatch.setattr("telos.data.loader._batches", fewer)


@mutant(kills=f"{LOADER}::test_rows_that_cannot_be_shared_evenly_are_refused", trap=45)
def uneven_ranks_accepted(monkeypatch):
    monkeypatch.setattr("telos.data.loader._check_part", lambda *part: None)


@mutant(kills=f"{LOADER}::test_a_row_that_stands_in_has_a_source_where_the_others_have", trap=56)
def stands_in_without_a_source(monkeypatch):
    filler = _get("telos.data.loader.filler")
    monkeypatch.setattr("telos.data.loader.filler", lambda example, source=False: filler(example))


@mutant(kills=f"{ELSEWHERE}::test_content_that_is_not_what_was_written_is_refused[tokenizer.json]", trap=47)
def fetched_unseen(monkeypatch):
    def trusting(url, to, digest, access):
        from telos.data.remote import fetch, listing

        to.write_bytes(fetch(listing(url, access)[0], access).read_bytes())

    monkeypatch.setattr("telos.data.elsewhere._bring", trusting)


@mutant(kills=f"{ELSEWHERE}::test_names_that_lead_elsewhere_are_refused[whole.json-evil.exe]", trap=72)
def any_name_is_fetched(monkeypatch):
    import re

    monkeypatch.setattr("telos.data.elsewhere._BESIDE", re.compile(".*"))


@mutant(kills=f"{ELSEWHERE}::test_another_preparation_under_its_name_is_refused", trap=47)
def whatever_has_the_name_is_it(monkeypatch):
    check = lambda self, folder: None  # noqa: E731
    monkeypatch.setattr("telos.data.elsewhere.Elsewhere.check", check)


@mutant(kills=f"{ELSEWHERE}::test_a_folder_is_used_where_it_is", trap=39)
def settings_without_effect(monkeypatch):
    check = lambda self, theirs, where: None  # noqa: E731
    monkeypatch.setattr("telos.data.elsewhere.Elsewhere._check_settings", check)


@mutant(kills=f"{ELSEWHERE}::test_what_broke_off_is_gone_on_from")
def begun_again(monkeypatch):
    bring = _get("telos.data.elsewhere._bring")

    def every(url, folder, digests, access):
        for name, digest in digests.items():
            bring(f"{url}/{name}", folder / name, digest, access)

    monkeypatch.setattr("telos.data.elsewhere._bring_all", every)


@mutant(kills=f"{ELSEWHERE}::test_the_seed_of_stand_ins_is_not_on_the_card", trap=78)
def the_seed_on_the_card(monkeypatch):
    decisive = _get("telos.data.job._decisive")

    def described(data, settings, specials, columns):
        table, vocabulary = decisive(data, settings)
        return {"data": table, "tokenizer": vocabulary, "specials": [*specials], "columns": [*columns]}

    monkeypatch.setattr("telos.data.prepare.described", described)


@mutant(kills=f"{ELSEWHERE}::test_a_run_is_trained_evaluated_and_gone_on_with[False]")
def the_place_is_a_part_of_the_run(monkeypatch):
    kept = tuple(key for key in _get("telos.folder.HARMLESS") if key != "data.prepared")
    monkeypatch.setattr("telos.folder.HARMLESS", kept)


@mutant(kills=f"{LANGUAGES}::test_what_is_kept_is_counted_by_language", trap=50)
def languages_are_forgotten(monkeypatch):
    writes = _get("telos.data.cleaned._Writing._write")

    def forgetful(self, read, document):
        from dataclasses import replace

        writes(self, read, replace(document, language=None))

    monkeypatch.setattr("telos.data.cleaned._Writing._write", forgetful)


@mutant(kills=f"{LANGUAGES}::test_the_filter_has_the_last_word", trap=50)
def what_a_filter_found_is_lost(monkeypatch):
    mark = lambda self, document, text: document  # noqa: E731
    monkeypatch.setattr("telos.data.filters.language.Language.mark", mark)


@mutant(kills=f"{LANGUAGES}::test_text_is_mixed_by_language", trap=56)
def sources_in_place_of_languages(monkeypatch):
    values = _get("telos.data.tokenised._Writing._values")

    def by_source(self, kept, text):
        self._spoken = {}
        return values(self, kept, text)

    monkeypatch.setattr("telos.data.tokenised._Writing._values", by_source)


def _whole_part(rank: int = 0, world: int = 1) -> Any:
    part: Any = _get("collections.namedtuple")("Part", ["rank", "world"])
    return part(0, 1)
