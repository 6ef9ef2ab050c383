"""Bugs of mixing sources, and of sharing steps between processes."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tests.mutants import mutant

MIXTURE, LOADER = "tests/data/test_mixture.py", "tests/data/test_loader.py"
REMOTE = "tests/data/test_remote_shards.py"
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


@mutant(
    kills="tests/data/test_remote_shards.py::test_content_that_is_not_what_the_header_says_is_refused",
    trap=47,
)
def fetched_unseen(monkeypatch):
    bring = _get("telos.data.remote_shards._bring")

    def trusting(url, to, about, access):
        from telos.data.remote import fetch, listing

        if about["bytes"]:
            to.write_bytes(fetch(listing(url, access)[0], access).read_bytes())
        else:
            bring(url, to, about, access)

    monkeypatch.setattr("telos.data.remote_shards._bring", trusting)


def _whole_part(rank: int = 0, world: int = 1) -> Any:
    part: Any = _get("collections.namedtuple")("Part", ["rank", "world"])
    return part(0, 1)
