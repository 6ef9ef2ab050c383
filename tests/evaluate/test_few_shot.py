"""Few-shot classification: what is shown, what is chosen between; names of labels are the contract."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from telos.config import read
from telos.errors import ConfigError, DataError
from telos.evaluate.few_shot import FewShot, FewShotSettings, Item, Task, judge_few_shot, read_task
from telos.evaluate.texts import Judge, Text, TextScores
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.objectives.masked import Masked
from tests.evaluate.world import MODELS, network_of, pair_tokenizer

WORDS = {
    "cat": "animal",
    "dog": "animal",
    "red": "colour",
    "blue": "colour",
    "eel": "animal",
    "grey": "colour",
}
TASK = Task(tuple(Item(text, label) for text, label in WORDS.items()), ("animal", "colour"))


def judge(objective: Objective | None = None, window: int = 256) -> Judge:
    description, tokenizer = MODELS["rotary"], pair_tokenizer()
    network = network_of(description, tokenizer, window)
    return Judge(network, objective or Causal(), tokenizer, window=window, gives=description.gives)


class Oracle(Judge):
    """Scores a text by a rule on what it says, and keeps what it was asked."""

    def __init__(self, rule: Callable[[str, str], float], window: int = 256) -> None:
        made = judge(window=window)
        super().__init__(made.network, made.objective, made.tokenizer, window=window)
        self.rule = rule
        self.asked: list[tuple[str, str]] = []

    def score(self, texts: Sequence[Text]) -> TextScores:
        decode = self.tokenizer.decode
        said = [(decode(text.ids[: text.start]), decode(text.ids[text.start :])) for text in texts]
        self.asked += said
        return TextScores(kind="exact", nats=tuple(self.rule(*one) for one in said), tokens=(1,) * len(texts))


def knows(before: str, answer: str) -> float:
    """Right wherever the last example's text is known."""
    text = before.rstrip().removesuffix("Label:").rstrip().splitlines()[-1]
    return 0.0 if WORDS[text] == answer.strip() else 1.0


def test_the_prompt_shows_k_other_examples_and_asks_for_the_label() -> None:
    oracle = Oracle(knows)
    found = judge_few_shot(oracle, TASK, FewShotSettings(shots=(0, 2)))
    assert found.accuracy[0].value == found.accuracy[2].value == 1.0
    assert found.shown == {0: 0.0, 2: 2.0}
    assert (found.chance, found.majority, found.items) == (0.5, 0.5, 6)
    plain, shown = oracle.asked[:12], oracle.asked[12:]
    assert "".join(plain[0]) == "cat\nLabel: animal" and "".join(plain[1]) == "cat\nLabel: colour"
    for (before, answer), text in zip(shown[::2], WORDS, strict=True):
        *examples, last = (before + answer).split("\n\n")
        assert len(examples) == 2 and last.startswith(f"{text}\n")
        for example in examples:
            word, label = example.split("\nLabel: ")
            assert word != text and WORDS[word] == label


def test_examples_are_a_function_of_the_seed_and_nested() -> None:
    asked = {}
    for shots, seed in ((1, 0), (3, 0), (3, 1)):
        oracle = Oracle(knows)
        judge_few_shot(oracle, TASK, FewShotSettings(shots=(shots,), seed=seed))
        asked[shots, seed] = [before for before, _ in oracle.asked]
    assert asked[3, 0] != asked[3, 1]
    for one, three in zip(asked[1, 0], asked[3, 0], strict=True):
        assert three.startswith(one.split("\n\n")[0])


def test_names_of_labels_are_the_contract(tmp_path: Path) -> None:
    """Trap 36: the order of lines and labels in the file makes no difference; labels are never numbers."""
    rows = [{"text": text, "label": label} for text, label in WORDS.items()]
    found = []
    for order in (rows, rows[::-1]):
        path = tmp_path / "task.jsonl"
        path.write_text("\n".join(map(json.dumps, order)))
        task = read_task(path)
        assert task.labels == ("animal", "colour")
        found.append(judge_few_shot(Oracle(knows), task, FewShotSettings(shots=(0,))).table())
    assert found[0] == found[1] and found[0]["shots"]["0"]["value"] == 1.0


def test_a_model_worse_than_chance_is_told_what_exchange_it_would_be() -> None:
    """Trap 36: an exchange of labels shows as accuracy below chance, and is named."""
    task = Task(tuple(Item(f"{n}", "yes" if n % 2 else "no") for n in range(40)), ("no", "yes"))

    def exchanged(before: str, answer: str) -> float:
        right = "yes" if int(before.rstrip().removesuffix("Label:").split()[-1]) % 2 else "no"
        return float(answer.strip() == right)

    found = judge_few_shot(Oracle(exchanged), task, FewShotSettings(shots=(1,)))
    assert found.accuracy[1].value == 0.0
    assert "Read 'no' as 'yes', 'yes' as 'no', 100.0% would be" in found.notes[0]
    assert judge_few_shot(Oracle(lambda *_: 0.0), task, FewShotSettings(shots=(1,))).notes == ()


def test_examples_that_do_not_fit_the_window_are_left_out_and_that_is_said() -> None:
    made = judge(window=48)
    found = judge_few_shot(made, TASK, FewShotSettings(shots=(0, 5)))
    assert 0 < found.shown[5] < 5
    oracle = Oracle(knows, window=48)
    judge_few_shot(oracle, TASK, FewShotSettings(shots=(5,)))
    assert max(len(made.tokenizer.encode(a + b)) for a, b in oracle.asked) <= 48


@pytest.mark.parametrize("objective", [Causal(), Masked()])
def test_any_model_that_scores_texts_can_be_asked(objective: Objective) -> None:
    """The figure of one answer is what it costs after its prompt, and no more."""
    made = judge(objective)
    found = judge_few_shot(made, TASK, FewShotSettings(shots=(1,), limit=3))
    assert isinstance(found, FewShot) and found.items == 3 and found.kind == made.kind
    json.dumps(found.table(), allow_nan=False)


def test_pairs_are_chosen_among_four_targets(tmp_path: Path) -> None:
    rows = [{"text": f"word {n}", "target": f"词{n}"} for n in range(9)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = read_task(tmp_path / "pairs.jsonl")
    oracle = Oracle(lambda before, answer: float(f"词{before.split()[1]}" != answer.strip()))
    found = judge_few_shot(oracle, task, FewShotSettings(shots=(0,)))
    assert found.chance == 0.25 and found.accuracy[0].value == 1.0 and found.labels == ()
    assert len({answer for _, answer in oracle.asked[:4]}) == 4


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "a", "label": "x"}], "1 different answers"),
        ([{"text": "a", "label": "x"}, {"text": "b", "target": "y"}], "some lines have a label and some"),
        ([{"text": "a", "label": 1}], "no text under 'label'"),
        ([{"label": "x"}], "no text under 'text'"),
    ],
)
def test_what_is_no_task_is_refused(tmp_path: Path, lines: list[dict[str, str]], message: str) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(DataError, match=message):
        read_task(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": []}, "shots must be"),
        ({"shots": [-1]}, "shots must be"),
        ({"form": "{label}{text}"}, "form"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(FewShotSettings, settings)
