"""Instructions: the assistant's words are asked, and nothing else is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telos.batch import Piece
from telos.chat import FORMATS, framed
from telos.data.corpus import Corpus
from telos.errors import ConfigError
from telos.objectives.instruct import Instruct
from telos.run import Run, fit, load_recipe, open_run
from telos.turns import Turn
from tests.contract import world
from tests.objectives.world import Pieces
from tests.small import NARROW, SHRUNK, last_weights, write_talks
from tests.test_origin import Heard

TALK = [Turn("user", "the cat"), Turn("assistant", "sat"), Turn("user", "on"), Turn("assistant", "the mat")]


def pieces(turns: list[Turn], objective: Instruct, tokenizer: Any, length: int = 0) -> Pieces:
    found = framed(turns, objective.form, tokenizer)
    ids = np.concatenate([[tokenizer.begin], found.ids])
    column = np.concatenate([[False], found.answers])
    made = Pieces()
    end = length or len(ids)
    made.pieces = [Piece(ids=ids[:end], document=0, ask_from=1, columns={objective.format: column[:end]})]
    return made


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_asked_of_a_conversation(name: str) -> None:
    """Traps 4 and 5: each answer's tokens and its end, each at the place before it."""
    objective = Instruct(format=name)  # type: ignore[arg-type]
    tokenizer = world.vocabulary(objective.specials())
    made = objective.example(pieces(TALK, objective, tokenizer), 0, np.random.default_rng(0), tokenizer)
    (ask,) = made.asks
    end = tokenizer.special(objective.form.closing)
    wanted = [*tokenizer.encode("sat"), end, *tokenizer.encode("the mat"), end]
    assert tokenizer.decode(ask.target) == "satthe mat" and len(ask.target) == len(wanted)
    row = [*made.main.ids.tolist(), -1]
    assert all(row[at + 1] in (target, -1) for at, target in zip(ask.at, ask.target, strict=True))
    assert (made.main.order == np.arange(len(made.main))).all() and (made.main.segment == 0).all()
    before = tokenizer.decode(made.main.ids[: ask.at[0] + 1])
    assert before.lower().endswith(objective.form.head("assistant").lower()), (
        "the first word is asked where the assistant's turn begins"
    )


def test_an_answer_that_does_not_fit_is_asked_as_far_as_it_does() -> None:
    objective = Instruct(format="plain")
    tokenizer = world.vocabulary()
    whole = pieces(TALK, objective, tokenizer)[0]
    short = pieces(TALK, objective, tokenizer, len(whole) - 3)
    made = objective.example(short, 0, np.random.default_rng(0), tokenizer)
    assert len(made.main) == len(whole) - 4
    assert len(made.asks[0].at) == int(whole.columns["plain"].sum()) - 3
    none = pieces(TALK, objective, tokenizer, 4)
    assert len(objective.example(none, 0, np.random.default_rng(0), tokenizer).asks[0].at) == 0


def test_how_a_prompt_and_a_conversation_are_put() -> None:
    objective = Instruct()
    tokenizer = world.vocabulary(objective.specials())
    prompt = objective.prompt(tokenizer.encode("the cat"), tokenizer)
    talk = objective.chat([Turn("user", "the cat")], tokenizer)
    assert (
        tokenizer.decode(prompt.main.ids) == "user\nthe cat\nassistant\n" == tokenizer.decode(talk.main.ids)
    )
    assert prompt.ends == talk.ends == (tokenizer.special("<|im_end|>"),)
    assert talk.main.ids[0] == tokenizer.begin


def test_what_a_report_shows_of_a_conversation() -> None:
    """The question, without what a prompt puts around it anyway."""
    for objective in (Instruct(), Instruct(format="plain")):
        tokenizer = world.vocabulary(objective.specials())
        found = framed([Turn("system", "Be"), *TALK], objective.form, tokenizer)
        assert objective.beginning(found.ids, tokenizer) == "the cat"


# ---- through the whole program

SMALL = (*SHRUNK, *NARROW["decoder"], "train.window=96", "tokenizer.size=300", "name=talk")


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_talks(tmp_path_factory.mktemp("talks") / "talks.jsonl")


@pytest.fixture(scope="module")
def finished(talks: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    given = ["objective=instruct", "data.text_key=messages", *SMALL]
    return fit(load_recipe(talks, given), tmp_path_factory.mktemp("runs"), device="cpu")


def corpus(run: Run) -> Corpus:
    return Corpus(run.shards("train"), run.recipe.objective.cut(96), run.tokenizer)


def test_messages_are_prepared_as_conversations(finished: Run) -> None:
    read = corpus(finished)
    tokenizer = finished.tokenizer
    assert len(read) > 30, "a conversation is one row"
    for piece in (read[i] for i in range(len(read))):
        asked = tokenizer.decode(piece.ids[piece.columns["chatml"]])
        assert asked.startswith("It is ") and asked.endswith("Yes 是.") and "Sure" not in asked
        assert not piece.columns["chatml"][0], "the begin token that the corpus puts on is nobody's answer"
    assert finished.figures()["evaluation"]["test"]["kind"] == "pseudo"


def test_a_conversation_is_never_cut_into_parts(talks: Path, tmp_path: Path) -> None:
    """Where documents are few, texts are held out in parts: half a conversation has lost who speaks."""
    path = tmp_path / "few.jsonl"
    long = "so " * 400
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"{n}"},
                {"role": "assistant", "content": f"{n} {long}\n\n{long}"},
            ]
        }
        for n in range(9)
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    run = fit(
        load_recipe(path, ["objective=instruct", "data.text_key=messages", *SMALL]), tmp_path, device="cpu"
    )
    counts = [len(run.shards(split).lengths) for split in ("train", "validation", "test")]
    assert sum(counts) == 9


@pytest.mark.parametrize("form", FORMATS)
def test_instructions_with_an_input_and_an_output(form: str, talks: Path, tmp_path: Path) -> None:
    keys = ["data.text_key=instruction+input", "data.target_key=output"]
    given = [f"objective={{name='instruct', format='{form}'}}", *keys, *SMALL]
    run = fit(load_recipe(talks, given), tmp_path, device="cpu")
    read, tokenizer = corpus(run), run.tokenizer
    for piece in (read[i] for i in range(len(read))):
        answer = tokenizer.decode(piece.ids[piece.columns[form]])
        question = tokenizer.decode(piece.ids[~piece.columns[form]])
        n = int(answer) // 2
        assert f"Add {n} and {n}." in question and (f"\n\nsay {n}" in question) is (n % 2 == 1)


def test_its_vocabulary_knows_no_marks(finished: Run) -> None:
    from telos.turns import MARKS

    assert not any(
        mark in (finished.folder / "tokenizer.json").read_text(encoding="utf-8") for mark in MARKS.values()
    )


def test_a_template_comes_with_the_run_and_with_its_export(finished: Run, tmp_path: Path) -> None:
    """As transformers fills it in: to the token what was trained on, and special tokens are tokens."""
    from tests.export import theirs

    template = (finished.folder / "chat_template.jinja").read_text(encoding="utf-8")
    figures = finished.export("hf", tmp_path / "hf")
    assert figures["chats"] > 0
    assert (tmp_path / "hf" / "chat_template.jinja").read_text(encoding="utf-8") == template
    tokenizer = theirs.transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    talk = [{"role": "user", "content": "What is 2 and 2?"}, {"role": "assistant", "content": "It is 4."}]
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    wanted = finished.recipe.objective.chat([Turn(m["role"], m["content"]) for m in talk], finished.tokenizer)
    assert wanted is not None and ids == wanted.main.ids.tolist()


def test_text_without_speakers_is_an_answer(tmp_path: Path) -> None:
    """Plain text beside conversations: all of it is asked, and its end."""
    found = framed([Turn("", "the mat")], FORMATS["plain"], world.vocabulary())
    assert found.answers.all() and world.vocabulary().decode(found.ids) == "the mat"


def test_messages_under_another_objective_are_plain_paragraphs(talks: Path, tmp_path: Path) -> None:
    run = fit(load_recipe(talks, ["data.text_key=messages", *SMALL]), tmp_path, device="cpu")
    shards = run.shards("train")
    assert run.tokenizer.decode(shards.document(0)).startswith("Be brief.\n\nWhat is ")


@pytest.fixture(scope="module")
def without(talks: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A model that does not know ChatML's two tokens, with a head of its own."""
    plain = ["objective={name='instruct', format='plain'}", "data.text_key=messages", *SMALL, "name=plain"]
    return fit(
        load_recipe(talks, [*plain, "model.tied=false"]), tmp_path_factory.mktemp("runs"), device="cpu"
    )


def begun(source: Run, talks: Path, root: Path, *changes: str) -> tuple[Run, list[str]]:
    """A run of conversations that begins from another, and what it says of tokens on the way."""
    small = [change for change in SMALL if not change.startswith(("model.", "tokenizer."))]
    given = [*small, "objective=instruct", "data.text_key=messages", f"model.from={source.folder}", *changes]
    heard = Heard()
    run = fit(load_recipe(talks, given), root, device="cpu", display=heard)
    return run, [line for line in heard.said if "Warning" in line]


def test_adapters_learn_the_tokens_that_a_model_began_without(
    without: Run, talks: Path, tmp_path: Path
) -> None:
    """Their rows, in the embedding and in the head, and no other row; opened and exported they are there, and
    a run that knows them learns none."""
    learn = ["tune.only=lora", "tune.lora.rank=2", "train.optimizer.rate=0.02", "train.budget.steps=6"]
    run, warned = begun(without, talks, tmp_path, *learn, "name=on")
    saved, before = last_weights(run), without.network.state_dict()
    known = without.tokenizer.size
    assert not warned and run.tokenizer.size == known + 2
    for name in ("embedding", "heads.tokens"):
        assert saved[f"{name}.rows"].shape == (2, 16)
        assert torch.equal(saved[f"{name}.weight"][:known], before[f"{name}.weight"])
        moved = (saved[f"{name}.rows"] - saved[f"{name}.weight"][known:]).abs()
        assert float(moved.max()) > 0.01
        opened = open_run(run.folder, "cpu").network.state_dict()
        assert f"{name}.rows" not in opened
        assert torch.equal(opened[f"{name}.weight"][:known], before[f"{name}.weight"])
    numbers = sum(t.numel() for n, t in saved.items() if n.endswith((".up", ".down", ".rows")))
    assert run.figures()["machine"]["trained"] == numbers
    for form in ("peft", "hf"):
        assert run.export(form, tmp_path / form)["chats"] > 0
    more, _ = begun(without, talks, tmp_path, *learn, "train.budget.steps=8", "name=on")
    assert more.outcome is not None and more.outcome.step == 8
    third, _ = begun(run, talks, tmp_path, *learn, "name=third")
    assert not [name for name in last_weights(third) if name.endswith(".rows")]


def test_tokens_that_heads_cannot_learn_are_warned_of(
    without: Run, finished: Run, talks: Path, tmp_path: Path
) -> None:
    """ChatML's two, where the model began without them."""
    _, warned = begun(without, talks, tmp_path, "tune.only=heads", "name=heads")
    assert len(warned) == 1 and "does not know <|im_start|>, <|im_end|>" in warned[0]
    _, warned = begun(finished, talks, tmp_path, "tune.only=lora", "name=known")
    assert not warned


def test_two_frames_around_the_same_text_are_refused(talks: Path, tmp_path: Path) -> None:
    mixed = "objective={name='mixture', of=['instruct', {name='instruct', format='plain'}]}"
    with pytest.raises(ConfigError, match=r"'chatml' puts conversations in a frame.*wants plain of"):
        fit(load_recipe(talks, [mixed, "data.text_key=messages", *SMALL]), tmp_path, device="cpu")
