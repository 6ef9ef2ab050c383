"""Generation: what is drawn, from what it is drawn, and how it comes out as text."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from telos.batch import Asked, Cut, Example, Rows, Side
from telos.config import override, read
from telos.errors import ConfigError
from telos.generate._base import generate, generated
from telos.generate._rows import held_back
from telos.generate._settings import GenerateSettings
from telos.models._base import Initial, Model, Network
from telos.models.encoder_decoder import EncoderDecoder
from telos.models.recurrent_encoder_decoder import RecurrentEncoderDecoder
from telos.objectives._base import Objective, Prompt, after_begin
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from tests.evaluate.world import MODELS, byte_tokenizer, network_of, pair_tokenizer
from tests.generate.oracle import next_logits

_PAIRS = train_tokenizer(TokenizerSettings(size=300), iter(["aab", "ab\n晓🙂", "aba晓晓", "abab"] * 9))
GREEDY = GenerateSettings(temperature=0, length=12)
PROMPTS = ["The cat", "", "春眠不觉晓", "def f(x):\n    return", "a"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return pair_tokenizer()


class Scripted(Network):
    """Says the same tokens whatever it is given: it counts places, and its head knows the script by heart."""

    def __init__(self, size: int, script: list[int]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, 1)
        self.heads = nn.ModuleDict({"tokens": _Recite(size, script)})

    def encode(
        self, main: Rows, source: Rows | None = None, state: Any = None, continues: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        before = torch.zeros(main.shape[0]) if state is None else state
        place = before.unsqueeze(1) + (main.segment >= 0).cumsum(1) - (1 if state is None else 0)
        return place.unsqueeze(-1).float(), before + (main.segment >= 0).sum(1) - (1 if state is None else 0)

    def initial(self, name: str) -> Initial:
        return Initial("constant", 0.0)


class _Recite(nn.Module):
    def __init__(self, size: int, script: list[int]) -> None:
        super().__init__()
        self.size, self.script = size, script

    def forward(self, hidden: Tensor, asked: Asked) -> dict[str, Tensor]:
        raise AssertionError("generation asks for logits alone")

    def logits(self, hidden: Tensor) -> Tensor:
        said = torch.zeros(len(hidden), self.size)
        for row, place in enumerate(hidden[:, 0].int().tolist()):
            said[row, self.script[min(place, len(self.script) - 1)]] = 50.0
        return said


def recited(tokenizer: Tokenizer, script: list[int], **settings: Any) -> tuple[Any, list[str]]:
    """The sample of a network that recites, and the pieces that were streamed."""
    pieces: list[str] = []
    network = Scripted(tokenizer.size, script)
    chosen = GenerateSettings(**({"temperature": 0.0, "length": len(script)} | settings))
    (sample,) = generate(network, tokenizer, [""], chosen, stream=lambda index, text: pieces.append(text))
    return sample, pieces


# ---- the network behind the tokens


@pytest.mark.parametrize("name", sorted(MODELS))
def test_cached_state_gives_what_a_full_forward_pass_gives(tokenizer: Tokenizer, name: str) -> None:
    """Trap 23: prompts of unequal length in one batch, cached, equal each alone without a cache."""
    network = network_of(MODELS[name], tokenizer, 48)
    for prompt, sample in zip(PROMPTS, generate(network, tokenizer, PROMPTS, GREEDY, window=48), strict=True):
        ids = [tokenizer.begin, *tokenizer.encode(prompt).tolist()]
        logprob = 0.0
        for drawn in sample.ids:
            said = next_logits(network, ids)
            logprob += float(said.log_softmax(-1)[drawn])
            said[sorted(tokenizer.special_ids - {tokenizer.end})] = -math.inf
            assert drawn == int(said.argmax())
            ids.append(drawn)
        assert sample.logprob == pytest.approx(logprob, abs=1e-4)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_sample_is_the_same_in_any_company(tokenizer: Tokenizer, name: str) -> None:
    """Trap 23: a row neither sees nor waits for the others, and has a random generator of its own."""
    network = network_of(MODELS[name], tokenizer, 24)
    settings = GenerateSettings(length=30)
    together = generate(network, tokenizer, PROMPTS, settings, seed=3, window=24)
    for prompt, sample in zip(PROMPTS, together, strict=True):
        (alone,) = generate(network, tokenizer, [prompt], settings, seed=3, window=24)
        assert (alone.ids, alone.text, alone.finished) == (sample.ids, sample.text, sample.finished)
        assert alone.logprob == pytest.approx(sample.logprob, abs=1e-3)


class Counted(Scripted):
    """Notes how many rows each run has."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.rows: list[int] = []

    def encode(self, main: Rows, *rest: Any) -> tuple[Tensor, Any]:  # type: ignore[override]
        self.rows.append(main.shape[0])
        return super().encode(main, *rest)


def test_rows_that_are_finished_make_room(tokenizer: Tokenizer) -> None:
    """Once they are half of all; the texts are those of each prompt alone."""
    ids = tokenizer.encode("a b c d e f g h i j").tolist()
    network = Counted(tokenizer.size, [*ids[:8], tokenizer.end])
    prompts = ["a" * number for number in range(8)]  # the longer, the sooner its script is at its end
    samples = generate(network, tokenizer, prompts, GREEDY)
    rows, network.rows = network.rows, []
    assert rows[0] == 8 and rows[-1] == 1 and rows == sorted(rows, reverse=True)
    alone = [generate(network, tokenizer, [prompt], GREEDY)[0] for prompt in prompts]
    assert [sample.ids for sample in samples] == [sample.ids for sample in alone]


@pytest.mark.parametrize("window", [1, 3, 8])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_beyond_the_window_it_goes_on_from_the_last_half(
    tokenizer: Tokenizer, name: str, window: int
) -> None:
    """Trap 23: positions stay below the window; the context is its last half and what came after. Some rows
    slide while others do not."""
    network = network_of(MODELS[name], tokenizer, window)
    prompts = ["The cat sat on the mat. The dog did not.", "a", "ab", "The cat"]
    settings = GenerateSettings(temperature=0, length=20)
    for prompt, sample in zip(
        prompts, generate(network, tokenizer, prompts, settings, window=window), strict=True
    ):
        ids = [tokenizer.begin, *tokenizer.encode(prompt).tolist()]
        start = 0
        for drawn in sample.ids:
            if len(ids) - start > window:
                start = len(ids) - max(1, window // 2)
            said = next_logits(network, ids[start:])
            said[sorted(tokenizer.special_ids - {tokenizer.end})] = -math.inf
            assert drawn == int(said.argmax())
            ids.append(drawn)


@pytest.mark.parametrize("name", ["rotary", "lstm"])
def test_rows_that_slide_are_read_again_and_no_others(
    tokenizer: Tokenizer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a window for each half window that is written; whoever is beside them reads every token once."""
    window, counted = 8, list[int]()
    network = network_of(MODELS[name], tokenizer, window)
    encode = network.encode

    def counting(main: Rows, *rest: Any) -> tuple[Tensor, Any]:
        counted.append(int((main.segment >= 0).sum()))
        return encode(main, *rest)

    monkeypatch.setattr(network, "encode", counting)
    settings = GenerateSettings(temperature=0, length=40)
    samples = generate(network, tokenizer, PROMPTS, settings, window=window)
    given = [1 + len(tokenizer.encode(prompt)) for prompt in PROMPTS]
    rows = zip(given, (len(sample.ids) for sample in samples), strict=True)
    assert sum(counted) == sum(tokens_read(*row, window) for row in rows)


def tokens_read(given: int, drawn: int, window: int) -> int:
    """Of a row, its context before each token that is drawn, less what is known of it already."""
    start, read, total = 0, 0, 0
    for length in range(given, given + drawn):
        if length - start > window:
            start = read = length - window // 2
        total += length - read
        read = length
    return total


# ---- with a source, and other ways to put a prompt


READERS: dict[str, Model] = {
    "v1.0": EncoderDecoder(width=32, depth=2, heads=4, feed="relu", tied=True),
    "v1.1": EncoderDecoder(width=24, depth={"encoder": 1, "decoder": 2}, heads={"count": 3, "width": 10}),
    "lstm": RecurrentEncoderDecoder(embedding=24, width=32, depth={"encoder": 2, "decoder": 1}, cell="lstm"),
    "gru": RecurrentEncoderDecoder(embedding=24, width=32, depth=2, attention="additive", tied=True),
}


class Reads(Objective):
    """What is left of an objective when nothing is trained: how it puts a prompt."""

    stops: tuple[int, ...] = ()
    last: bool = False
    """The prompt's last token is said already."""

    def cut(self, window: int) -> Cut:
        raise AssertionError("generation cuts nothing")

    def example(self, *given: Any) -> Example:
        raise AssertionError("generation makes no example")

    def requires(self) -> frozenset[str]:
        return frozenset({"causal", "source"})

    def prompt(self, ids: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt:
        put = super().prompt(ids, tokenizer)
        main = Side.of(np.append(put.main.ids, ids[-1:]), causal=True) if self.last else put.main
        return replace(put, main=main, source=put.source if len(ids) else None, ends=self.stops)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", READERS)
def test_a_prompt_is_the_source_of_a_model_that_has_one(tokenizer: Tokenizer, name: str, last: bool) -> None:
    """Trap 23: sources of unequal length, and none, read once and kept, equal each alone without a cache; the
    text is what is said, without the prompt."""
    network = network_of(READERS[name], tokenizer, 48)
    objective = Reads(last=last)
    samples = generate(network, tokenizer, PROMPTS, GREEDY, objective=objective, window=48)
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        encoded = tokenizer.encode(prompt).tolist()
        source, ids = [*encoded, tokenizer.end] if encoded else [], [tokenizer.begin]
        ids += encoded[-1:] if last else []
        for drawn in sample.ids:
            said = next_logits(network, ids, source)
            said[sorted(tokenizer.special_ids - {tokenizer.end})] = -math.inf
            assert drawn == int(said.argmax())
            ids.append(drawn)
        assert sample.prompt == prompt
        assert sample.text == tokenizer.decode(list(sample.ids)) or last
    assert len({round(sample.logprob, 5) for sample in samples}) == len(PROMPTS)


@pytest.mark.parametrize("name", READERS)
def test_a_source_is_the_same_in_any_company(tokenizer: Tokenizer, name: str) -> None:
    """Trap 23: neither padding nor the sources beside it tell on a sample."""
    network = network_of(READERS[name], tokenizer, 24)
    settings = GenerateSettings(length=12)
    together = generate(network, tokenizer, PROMPTS, settings, objective=Reads(), seed=3, window=24)
    for prompt, sample in zip(PROMPTS, together, strict=True):
        (alone,) = generate(network, tokenizer, [prompt], settings, objective=Reads(), seed=3, window=24)
        assert (alone.ids, alone.text, alone.finished) == (sample.ids, sample.text, sample.finished)


@pytest.mark.parametrize("name", ["v1.1", "lstm"])
def test_beyond_the_window_the_source_is_still_there(tokenizer: Tokenizer, name: str) -> None:
    """The main side goes on from its last half window; of a source that is too long the end is read."""
    window = 8
    network = network_of(READERS[name], tokenizer, window)
    prompts = ["The cat sat on the mat. The dog did not.", "ab"]
    settings = GenerateSettings(temperature=0, length=20)
    samples = generate(network, tokenizer, prompts, settings, objective=Reads(), window=window)
    for prompt, sample in zip(prompts, samples, strict=True):
        source = [*tokenizer.encode(prompt).tolist(), tokenizer.end][-window:]
        ids, start, logprob = [tokenizer.begin], 0, 0.0
        for drawn in sample.ids:
            if len(ids) - start > window:
                start = len(ids) - window // 2
            said = next_logits(network, ids[start:], source)
            logprob += float(said.log_softmax(0)[drawn])
            said[sorted(tokenizer.special_ids - {tokenizer.end})] = -math.inf
            assert drawn == int(said.argmax())
            ids.append(drawn)
        assert sample.logprob == pytest.approx(logprob, abs=1e-4)
    assert max(len(sample.ids) for sample in samples) > window


def test_an_objective_may_name_tokens_that_end_a_sample(tokenizer: Tokenizer) -> None:
    """A special token among them can be drawn, is no text, and ends it like the end token."""
    ids = tokenizer.encode("The end").tolist()
    script = [*ids, tokenizer.separate, *ids]
    network = Scripted(tokenizer.size, script)
    (sample,) = generate(network, tokenizer, [""], GREEDY, objective=Reads(stops=(tokenizer.separate,)))
    assert (sample.text, sample.finished, sample.ids) == ("The end", "end", (*ids, tokenizer.separate))


@pytest.mark.parametrize("name", ["rotary", "learned"])
def test_a_prompt_may_be_seen_in_both_directions(tokenizer: Tokenizer, name: str) -> None:
    """Traps 15 and 23: a prefix of each row sees itself whole, what is drawn sees what came before, whatever
    the lengths."""
    network = network_of(MODELS[name], tokenizer, 48)

    class Prefixed(Reads):
        def prompt(self, ids: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt:
            side = after_begin(ids, tokenizer).main
            return Prompt(main=replace(side, order=np.zeros(len(side), np.int64)))

    samples = generate(network, tokenizer, PROMPTS, GREEDY, objective=Prefixed(), window=48)
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        ids = [tokenizer.begin, *tokenizer.encode(prompt).tolist()]
        prefix = len(ids)
        for drawn in sample.ids:
            said = next_logits(network, ids, prefix=prefix)
            said[sorted(tokenizer.special_ids - {tokenizer.end})] = -math.inf
            assert drawn == int(said.argmax())
            ids.append(drawn)


def test_it_leaves_the_network_as_it_was(tokenizer: Tokenizer) -> None:
    """Trap 22: generating in the middle of training neither switches dropout off nor keeps a gradient."""
    network = network_of(MODELS["rotary"], tokenizer, 24).train()
    generate(network, tokenizer, ["a"], GREEDY, window=24)
    assert all(module.training for module in network.modules())


def test_the_process_random_state_is_neither_read_nor_moved(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, 24)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = generate(network, tokenizer, ["a"], window=24, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert generate(network, tokenizer, ["a"], window=24, seed=5) == first


def test_seeds_and_samples_differ(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["gru"], tokenizer, 24)
    settings = GenerateSettings(samples=3, length=20)
    one, other = (generate(network, tokenizer, ["a", "b"], settings, seed=seed) for seed in (0, 1))
    assert [sample.prompt for sample in one] == ["a"] * 3 + ["b"] * 3
    assert len({sample.ids for sample in (*one, *other)}) == 12


def test_no_prompts_no_samples(tokenizer: Tokenizer) -> None:
    assert generate(network_of(MODELS["gru"], tokenizer, 8), tokenizer, []) == []


# ---- what may be drawn


def test_special_and_unknown_tokens_are_never_drawn() -> None:
    """Trap 88: outputs beyond the vocabulary and special tokens but the end are masked, however likely."""
    tokenizer = byte_tokenizer()
    network = network_of(MODELS["gru"], tokenizer, 16, extra=50)
    bias: Any = nn.Parameter(torch.zeros(tokenizer.size + 50))
    bias.data[sorted(tokenizer.special_ids - {tokenizer.end})] = 30.0
    bias.data[tokenizer.size :] = 30.0
    network.get_submodule("heads.tokens").bias = bias  # type: ignore[assignment]
    for settings in (GenerateSettings(length=50), GenerateSettings(length=50, temperature=0)):
        for sample in generate(network, tokenizer, PROMPTS, settings):
            drawn = [token for token in sample.ids if token != tokenizer.end]
            assert drawn and max(drawn) < tokenizer.size and not tokenizer.special_ids & set(drawn)


def test_a_prompt_that_spells_a_special_token_is_text() -> None:
    tokenizer = byte_tokenizer()
    sample, _ = recited(tokenizer, tokenizer.encode("<|end|>!").tolist())
    assert (sample.text, sample.finished) == ("<|end|>!", "length")


# ---- any number of prompts


def test_prompts_are_taken_as_they_are_needed(tokenizer: Tokenizer) -> None:
    """Bounded memory: never more rows than a batch, and no prompt is asked for before its batch is due."""
    network = network_of(MODELS["gru"], tokenizer, 24)
    taken: list[int] = []

    def endless() -> Iterator[str]:
        for number in count():
            taken.append(number)
            yield f"{number}"

    samples = generated(network, tokenizer, endless(), GenerateSettings(length=3, batch=4))
    assert not taken
    first = next(samples)
    assert first.prompt == "0" and len(taken) == 4
    assert [sample.prompt for sample in islice(samples, 3)] == ["1", "2", "3"] and len(taken) == 4
    assert next(samples).prompt == "4" and len(taken) == 8


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_batches_change_nothing(tokenizer: Tokenizer, batch: int) -> None:
    """Samples of a prompt go on being counted from batch to batch; streams know whose text they give."""
    network = network_of(MODELS["rotary"], tokenizer, 24).double()
    prompts = ["a", "The cat", "a"]
    texts: Counter[int] = Counter()

    def gather(index: int, text: str) -> None:
        texts[index] += len(text)

    chosen = GenerateSettings(length=8, samples=3)
    whole = generate(network, tokenizer, prompts, chosen, window=24)
    parts = generate(
        network, tokenizer, prompts, chosen.model_copy(update={"batch": batch}), window=24, stream=gather
    )
    assert [sample.ids for sample in parts] == [sample.ids for sample in whole]
    assert len({sample.ids for sample in whole if sample.prompt == "a"}) == 6
    assert [texts[index] for index in range(9)] == [len(sample.text) for sample in parts]


# ---- the text that comes out


@pytest.mark.parametrize("kind", ["byte", "pair"])
def test_streamed_text_is_the_decoded_text_wherever_it_is_cut(kind: str, tokenizer: Tokenizer) -> None:
    """Trap 51: for every number of tokens, no broken character and nothing lost or said twice."""
    tokenizer = byte_tokenizer() if kind == "byte" else tokenizer
    ids = tokenizer.encode("春眠 🙂👩‍👩‍👧 ü\n啼鸟").tolist()
    for length in range(1, len(ids) + 1):
        sample, pieces = recited(tokenizer, ids, length=length)
        assert sample.ids == tuple(ids[:length])
        assert sample.text == "".join(pieces) == tokenizer.decode(ids[:length])
        assert "\ufffd" not in sample.text


def test_an_end_token_ends_the_sample_and_is_no_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("The end").tolist()
    sample, pieces = recited(tokenizer, [*ids, tokenizer.end, *ids])
    assert (sample.text, sample.finished, sample.ids) == ("The end", "end", (*ids, tokenizer.end))
    assert "".join(pieces) == sample.text


@given(
    text=st.text(alphabet="ab\n晓🙂", min_size=1, max_size=24),
    stop=st.lists(st.text(alphabet="ab\n晓🙂", min_size=1, max_size=4), min_size=1, max_size=3),
    pairs=st.booleans(),
)
def test_stop_strings_cut_the_text_wherever_tokens_end(text: str, stop: list[str], pairs: bool) -> None:
    """The text ends before the stop string that is complete first; none of that is streamed."""
    tokenizer = _PAIRS if pairs else byte_tokenizer()
    sample, pieces = recited(tokenizer, tokenizer.encode(text).tolist(), stop=tuple(stop))
    ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    expected = text[: min(ends)[1]] if ends else text
    assert sample.text == "".join(pieces) == expected
    assert sample.finished == ("stop" if ends else "length")


def test_a_stop_string_across_tokens(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("The cat sat on the mat.").tolist()
    sample, pieces = recited(tokenizer, ids, stop=("at on t",))
    assert (sample.text, sample.finished) == ("The cat s", "stop")
    assert "".join(pieces) == "The cat s"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [("ab", ("bc",), 1), ("ab", ("c",), 0), ("", ("ab",), 0), ("aab", ("aabc", "b!"), 3), ("ab", ("ab",), 0)],
)
def test_only_what_may_become_a_stop_string_is_held_back(
    text: str, stop: tuple[str, ...], expected: int
) -> None:
    assert held_back(text, stop) == expected


def test_samples_are_plain_data(tokenizer: Tokenizer) -> None:
    sample, _ = recited(tokenizer, tokenizer.encode("a").tolist())
    assert sample.table().keys() == {"prompt", "text", "after", "ids", "finished", "logprob"}


@pytest.mark.parametrize(
    "change", ['stop=[""]', "temperature=-1", "top_p=0", "min_p=1.5", "length=0", "topk=3"]
)
def test_settings_that_cannot_be_are_refused(change: str) -> None:
    with pytest.raises(ConfigError, match=change.partition("=")[0]):
        read(GenerateSettings, override({}, [change]))
