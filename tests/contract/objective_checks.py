"""What every objective owes the rest of the program. Each check is run against every objective there is."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from telos import models, objectives
from telos.batch import Ask, Example, HeadSpec, Piece, Side, may_see
from telos.config import Settings, member, read, to_toml
from telos.data.packing import collate, pack
from telos.errors import ConfigError
from telos.find import find, names
from telos.models._base import Model
from telos.objectives._base import Objective
from tests.contract import world

__all__ = ["CHECKS"]

WINDOWS = (2, 3, 8, 16, 64)


def examples(objective: Objective, folder: Path, window: int, seed: int = 0) -> Iterator[tuple[int, Example]]:
    """Every example of the small corpus; none where the objective refuses so small a window."""
    tokenizer = world.vocabulary(objective.specials())
    try:
        cut = objective.cut(window)
    except ConfigError:
        assert window < 16, f"{objective.name} refuses a window of {window}"
        return
    read_from = world.corpus(folder / "shards", cut, tokenizer)
    for index in range(len(read_from)):
        yield index, objective.example(read_from, index, np.random.default_rng((seed, index)), tokenizer)


def same(first: Any, second: Any) -> bool:
    """Whether two examples hold the same numbers of the same types."""
    if isinstance(first, np.ndarray):
        return (
            isinstance(second, np.ndarray) and first.dtype == second.dtype and np.array_equal(first, second)
        )
    if hasattr(first, "__dataclass_fields__"):
        return type(first) is type(second) and all(
            same(getattr(first, f), getattr(second, f)) for f in first.__dataclass_fields__
        )
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def same_seed_same_example(objective: Objective, folder: Path) -> None:
    """An example is a function of the sample and the generator it is given, of nothing else."""
    first = list(examples(objective, folder, 32))
    np.random.seed(1)
    torch.manual_seed(1)
    assert first and all(same(a, b) for a, b in zip(first, examples(objective, folder, 32), strict=True))


def examples_fit_their_window(objective: Objective, folder: Path) -> None:
    for window in WINDOWS:
        for _, example in examples(objective, folder, window):
            for side in (example.main, example.source):
                if side is not None:
                    well_formed(side)
                    assert 0 < len(side) <= window


def well_formed(side: Side) -> None:
    vectors = {name: getattr(side, name) for name in ("ids", "positions", "segment", "order", "seen")}
    assert {name: vector.shape for name, vector in vectors.items()} == dict.fromkeys(vectors, (len(side),))
    assert side.ids.dtype == np.int64 and side.seen.dtype == np.bool_
    assert side.segment.min() >= 0 and side.positions.min() >= 0 and side.order.min() >= 0


def asks_are_in_range(objective: Objective, folder: Path) -> None:
    """Places lie in the main side, classes in their head's range; distributions add up to 1."""
    vocabulary = world.vocabulary(objective.specials()).size
    partners = [head for partner in objective.partners().values() for head in partner.heads]
    made = [replace(head, outputs=head.outputs or vocabulary) for head in partners]
    heads = {head.name: head for head in (*objective.heads(vocabulary), *made)}
    for window in WINDOWS:
        for index, example in examples(objective, folder, window):
            assert example.sample == index and example.unit >= 0
            assert example.main.ids.max() < vocabulary
            for ask in example.asks:
                assert ask.weight.shape == ask.target.shape[:1]
                assert ask.at.shape == (ask.weight if ask.of is None else ask.of).shape
                assert ask.weight.dtype == np.float32 and (ask.weight >= 0).all()
                assert len(ask.at) == 0 or 0 <= ask.at.min() <= ask.at.max() < len(example.main)
                check_targets(ask.target, heads[ask.head])


def check_targets(target: np.ndarray, head: HeadSpec) -> None:
    if target.ndim == 2:
        assert target.dtype == np.float32 and target.shape[1] == head.outputs
        np.testing.assert_allclose(target.sum(1), 1, rtol=1e-5)
    elif len(target):
        assert target.dtype == np.int64 and 0 <= target.min() <= target.max() < head.outputs


def an_exact_objective_asks_every_token_once(objective: Objective, folder: Path) -> None:
    """Where the loss is the exact −log p of the text, each token after the overlap is asked exactly once
    (trap 30)."""
    if (
        objective.scored != "exact"
        or any(h.kind != "tokens" for h in objective.heads(10))
        or "source" in objective.requires()
    ):
        return
    if objective.requires() != {"causal"}:
        return
    tokenizer = world.vocabulary(objective.specials())
    for window in WINDOWS:
        asked = sum(len(ask.at) for _, e in examples(objective, folder, window) for ask in told(e))
        cut = objective.cut(window)
        expected = sum(
            max(0, len(tokenizer.encode(text)) + cut.begin + cut.end - cut.overlap)
            for text in world.DOCUMENTS
        )
        assert asked == expected


class _Changed:
    """A corpus in which one token is another one, wherever it is read: of a text, or of its target."""

    def __init__(self, read: Any, document: int, place: int, token: int, target: bool = False) -> None:
        self.read, self.document, self.place, self.token = read, document, place, token
        self.target = target

    def __len__(self) -> int:
        return len(self.read)

    def __getitem__(self, index: int) -> Piece:
        piece: Piece = self.read[index]
        if self.target and piece.document == self.document:
            target = piece.columns["target"].copy()
            target[self.place] = self.token
            return replace(piece, columns={**piece.columns, "target": target})
        within = self.place - piece.start
        if self.target or piece.document != self.document or not 0 <= within < len(piece):
            return piece
        ids = piece.ids.copy()
        ids[within] = self.token
        return replace(piece, ids=ids)


def no_target_is_seen_by_its_predictor(objective: Objective, folder: Path) -> None:
    """Traps 4 and 15: change a token; where that changes an answer, all that its predictor may see stays the
    same.

    Objectives that mean to show some of their targets (BERT leaves one in ten as it is) say so:
    `reconstructs`.
    """
    if objective.reconstructs:
        return
    tokenizer = world.characters(objective.specials())
    read_from = world.corpus(folder / "shards", objective.cut(24), tokenizer)
    tested = 0
    for index in range(len(read_from)):
        piece = read_from[index]
        before = objective.example(read_from, index, np.random.default_rng(index), tokenizer)
        for within in range(len(piece)):
            if int(piece.ids[within]) in tokenizer.special_ids:
                continue
            other = 10 if piece.ids[within] != 10 else 11
            changed = _Changed(read_from, piece.document, piece.start + within, other)
            after = objective.example(changed, index, np.random.default_rng(index), tokenizer)
            tested += compare(before, after)
        said = piece.columns["target"] if "target" in objective.columns() else []
        for place, token in enumerate(said):
            other = 10 if token != 10 else 11
            changed = _Changed(read_from, piece.document, place, other, target=True)
            after = objective.example(changed, index, np.random.default_rng(index), tokenizer)
            tested += compare(before, after)
    asks_tokens = any(head.kind == "tokens" for head in objective.heads(tokenizer.size))
    assert tested > 50 or not asks_tokens, "too few answers depended on the text to say anything"


def compare(before: Example, after: Example) -> int:
    """How many answers differ; each of them is asked at a place that sees the same in both. What a place is
    asked not to say is no answer: it may well be seen."""
    relation = sights(before)
    differ = 0
    sides = ([ask for ask in example.asks if not ask.negative] for example in (before, after))
    for old, new in zip(*sides, strict=True):
        assert np.array_equal(old.at, new.at), "where is asked must not depend on what the tokens are"
        rows = old.target != new.target
        for place in old.at[rows if rows.ndim == 1 else rows.any(1)]:
            seen = relation[int(place)]
            assert np.array_equal(before.main.ids[seen], after.main.ids[seen]), (
                f"place {place} sees its own answer"
            )
            if before.source is not None and after.source is not None:
                assert np.array_equal(before.source.ids, after.source.ids), "the source shows the answer"
            differ += 1
    return differ


def sights(example: Example) -> np.ndarray:
    rows = collate([[replace(example, asks=())]]).main
    n = len(example.main)
    return may_see(rows, rows)[0, 0, :n, :n].numpy()


def settings_survive_toml(objective: Objective, folder: Path) -> None:
    import tomllib

    class Holder(Settings):
        objective: member(objectives, Objective)  # type: ignore[valid-type]

    holder = Holder(objective=objective)
    assert read(Holder, tomllib.loads(to_toml(holder))) == holder


def it_trains_on_every_model_that_fits(objective: Objective, folder: Path) -> None:
    """Through packing, collation, the model, one division per term and backward: finite, and every weight is
    reached."""
    tokenizer = world.vocabulary(objective.specials())
    for name in names(models):
        kind = find(models, name, Model)
        if not kind.serves(objective.requires()) or objective.partners():
            continue
        made = [example for _, example in examples(objective, folder, 32)]
        rows = pack(made, 32) if "packed" in kind.gives else [[example] for example in made]
        batch = collate(rows, 32)
        network = world.built(world.make_model(name), world.sizes_for(objective, tokenizer, 32))
        answer = objective.step({"main": network}, batch, None, 0)
        denominators = objective.denominators(batch.asked)
        assert set(batch.asked) <= set(answer.sums) and set(batch.asked) <= set(denominators)
        loss = sum(
            objective.coefficient(term) * total / max(denominators.get(term, 1.0), 1.0)
            for term, total in answer.sums.items()
        )
        assert isinstance(loss, torch.Tensor) and bool(torch.isfinite(loss))
        loss.backward()
        asked_heads = {asked.head for asked in batch.asks}
        for weight_name, parameter in network.named_parameters():
            if weight_name.startswith("heads.") and weight_name.split(".")[1] not in asked_heads:
                continue
            assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), weight_name


def it_says_how_it_is_scored_and_decoded(objective: Objective, folder: Path) -> None:
    from telos import generate

    assert objective.scored in ("exact", "bound", "pseudo")
    assert objective.decoded in names(generate)
    assert objective.requires() <= {"causal", "full", "prefix", "general", "source", "types"}
    for head in objective.heads(100):
        assert np.isfinite(objective.coefficient(head.name))


def a_given_text_is_scored_as_it_says(objective: Objective, folder: Path) -> None:
    """`whole` asks each token once; `hide` asks a hidden place, and nothing that its answer sees gives it
    away."""
    tokenizer = world.vocabulary(objective.specials())
    cut = objective.cut(64)
    text = tokenizer.encode(world.DOCUMENTS[0])[:12]
    begun = np.concatenate([[tokenizer.begin] * cut.begin, text]).astype(np.int64)
    whole = objective.whole(Piece(ids=begun, document=0, ask_from=cut.overlap), tokenizer)
    if whole is not None:
        assert np.concatenate([ask.target for ask in told(whole)]).tolist() == begun[cut.overlap :].tolist()
    ended = np.concatenate([begun, [tokenizer.end] * cut.end]).astype(np.int64)
    for place in range(int(cut.begin), len(begun)):
        seen = []
        for token in (ended[place], text[0], text[1]):
            ids = ended.copy()
            ids[place] = token
            at = np.array([place])
            example = objective.hide(Piece(ids=ids, document=0), at, at, tokenizer)
            if example is None:
                return
            (ask,) = told(example)
            assert ask.target.tolist() == [token] and ask.weight.tolist() == [1.0]
            seen.append(visible(example, int(ask.at[0])))
        assert seen[0] == seen[1] == seen[2]


def told(example: Example) -> list[Ask]:
    """What is asked of the vocabulary: what makes the score of a text."""
    return [ask for ask in example.asks if ask.head == "tokens" and not ask.negative and len(ask.at)]


def visible(example: Example, at: int) -> list[list[int]]:
    """The tokens that a place sees, on both sides."""
    batch = collate([[example]])
    sights = may_see(batch.main, batch.main)[0, 0, at]
    source = [] if example.source is None else example.source.ids.tolist()
    return [batch.main.ids[0][sights].tolist(), source]


CHECKS: tuple[Callable[[Objective, Path], None], ...] = (
    same_seed_same_example,
    examples_fit_their_window,
    asks_are_in_range,
    an_exact_objective_asks_every_token_once,
    no_target_is_seen_by_its_predictor,
    settings_survive_toml,
    it_trains_on_every_model_that_fits,
    it_says_how_it_is_scored_and_decoded,
    a_given_text_is_scored_as_it_says,
)
