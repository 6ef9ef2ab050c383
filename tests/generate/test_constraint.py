"""Text that must match: which tokens may come next, whatever they are cut from, and what is drawn."""

import math
import re
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from telos.config import override, read
from telos.errors import ConfigError
from telos.generate._base import generate
from telos.generate._constraint import Constraint, Matcher
from telos.generate._forms import FORMS, check_form
from telos.generate._rows import Gap
from telos.generate._settings import ConstraintSettings, FormName, GenerateSettings
from telos.objectives.diffusion import Diffusion
from telos.objectives.infill import Infill
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from tests.evaluate.world import MODELS, byte_tokenizer, network_of
from tests.generate.oracle import next_logits
from tests.generate.test_speculative import VOCABULARY, made

pytest.importorskip("llguidance")

POEM = "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。"
TEXTS = ["yes no 也许 yes no 也许也许", "晓晓 aab ab\n🙂🙂", "a b ab ba abab baba", POEM] * 9
LANGUAGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "choices": ({"choices": ["yes", "no", "也许", "nope", "🙂"]}, ["yes", "no", "也许", "nope", "🙂"]),
    "parts": (
        {"regex": "(a|晓){1,3}b?"},
        [
            "".join(c) + end
            for n in (1, 2, 3)
            for c in np.array(np.meshgrid(*[["a", "晓"]] * n)).reshape(n, -1).T.tolist()
            for end in ("", "b")
        ],
    ),
    "slashes": (
        {"regex": r"a/b|\/\\|x\.y|\nz|[/\-]{2}"},
        ["a/b", "/\\", "x.y", "\nz", "//", "/-", "-/", "--"],
    ),
    "real line end": ({"regex": "a\nb"}, ["a\nb"]),
    "perhaps nothing": ({"regex": "(ab)?"}, ["", "ab"]),
    "special name": ({"choices": ["<|end|>", "<|mask|>!"]}, ["<|end|>", "<|mask|>!"]),
}
"""Constraints with few texts, and all of these."""


def characters(text: str) -> Tokenizer:
    return train_tokenizer(TokenizerSettings(kind="character"), iter([text]))


def vocabulary(kind: str) -> Tokenizer:
    """Small, with tokens that hold several characters and tokens that hold parts of one."""
    if kind == "byte":
        return byte_tokenizer()
    if kind == "character":
        return characters("".join(text for _, texts in LANGUAGES.values() for text in texts))
    return train_tokenizer(TokenizerSettings(kind=kind, size=600), iter(TEXTS))  # type: ignore[arg-type]


def constraint(tokenizer: Tokenizer, **settings: Any) -> Constraint:
    return Constraint(read(ConstraintSettings, settings), tokenizer)


def following(tokenizer: Tokenizer, said: bytes, language: list[bytes]) -> set[int]:
    """The oracle: every token with which what is said still begins one of all texts."""
    ordinary = (token for token in range(tokenizer.size) if token not in tokenizer.special_ids)
    pieces = {token: tokenizer.token_bytes(token) for token in ordinary}
    return {t for t, piece in pieces.items() if piece and any(x.startswith(said + piece) for x in language)}


@pytest.mark.parametrize("kind", ["byte", "bpe", "unigram", "wordpiece", "character"])
@pytest.mark.parametrize("name", LANGUAGES)
def test_a_token_is_allowed_if_and_only_if_some_text_goes_on_with_it(kind: str, name: str) -> None:
    """Trap 51: at every place that can be reached, through tokens of several characters, parts of characters,
    and tokens across parts of the expression; so no way ends without a text, and no text is out of reach."""
    tokenizer = vocabulary(kind)
    settings, texts = LANGUAGES[name]
    language = [text.encode() for text in texts]
    begin = constraint(tokenizer, **settings)
    places, seen = [tuple[int, ...]()], set[bytes]()
    while places:
        ids = places.pop()
        said = b"".join(map(tokenizer.token_bytes, ids))
        matcher = begin.begin()
        for token in ids:
            matcher.add(token)
        allowed = {t for t in np.flatnonzero(matcher.allowed()).tolist() if t not in tokenizer.special_ids}
        assert allowed == following(tokenizer, said, language), said
        assert matcher.complete == (said in language), said
        assert allowed or matcher.complete
        if said not in seen:
            places += [(*ids, token) for token in allowed]
        seen.add(said)
    assert set(language) <= seen


def test_where_tokens_are_characters_nothing_leads_to_one_that_has_none() -> None:
    """`c` alone would be a dead end: its only continuation has a character without a token."""
    tokenizer = characters("abc")
    matcher = constraint(tokenizer, choices=["ab", "cé"]).begin()
    allowed = [tokenizer.decode([token]) for token in np.flatnonzero(matcher.allowed()).tolist()]
    assert allowed == ["a"]
    with pytest.raises(ConfigError, match=r"generate\.constraint\.choices: .*nothing"):
        constraint(tokenizer, choices=["é"])


# ---- what is drawn


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(size=600), iter(TEXTS))


def settings(**given: Any) -> GenerateSettings:
    return read(GenerateSettings, {"length": 120, **given})


@pytest.mark.parametrize("name", ["rotary", "gru"])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_every_sample_that_ends_matches(tokenizer: Tokenizer, name: str, temperature: float) -> None:
    network = network_of(MODELS[name], tokenizer, 48)
    pattern = r"(\d{2}|[晓鸟]+), (yes|no)[.!]"
    chosen = settings(temperature=temperature, constraint={"regex": pattern}, samples=20)
    samples = generate(network, tokenizer, ["a", "晓"], chosen, window=48)
    whole = [sample for sample in samples if sample.finished == "end"]
    assert all(re.fullmatch(pattern, sample.text) for sample in whole)
    assert temperature == 0 or len(whole) > 20
    for sample in samples:
        assert "\ufffd" not in sample.text and tokenizer.special_ids.isdisjoint(sample.ids[:-1])


def test_probabilities_are_those_of_the_model_itself(tokenizer: Tokenizer) -> None:
    """What was left out changes what is drawn, and not what is said of it."""
    network = network_of(MODELS["rotary"], tokenizer, 48)
    chosen = settings(constraint={"choices": ["yes", "也许", "no"]}, samples=8)
    for sample in generate(network, tokenizer, ["a"], chosen, window=48):
        ids, logprob = [tokenizer.begin, *tokenizer.encode("a").tolist()], 0.0
        for token in sample.ids:
            logprob += float(next_logits(network, ids).log_softmax(-1)[token])
            ids.append(token)
        assert sample.logprob == pytest.approx(logprob, abs=1e-4)
        assert sample.ids[-1] == tokenizer.end and sample.finished == "end"


def test_draws_have_the_model_s_shares_of_what_is_allowed(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, 48)
    chosen = settings(constraint={"regex": "[ab]"}, samples=3000, batch=3000)
    drawn = Counter(sample.text for sample in generate(network, tokenizer, [""], chosen, window=48))
    said = next_logits(network, [tokenizer.begin])
    weights = {text: math.exp(float(said[tokenizer.encode(text)[0]])) for text in "ab"}
    share = weights["a"] / sum(weights.values())
    assert drawn.keys() <= weights.keys()
    assert drawn["a"] / 3000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 3000) + 1e-9)


def test_a_sample_is_the_same_in_any_company(tokenizer: Tokenizer) -> None:
    """Trap 23: rows are at different places of the expression, and know nothing of each other."""
    network = network_of(MODELS["rotary"], tokenizer, 48).double()
    prompts = ["a", "晓晓", "", "yes no"]
    chosen = settings(constraint={"regex": "([a-z]{2,5} ?){1,4}"}, length=30)
    together = generate(network, tokenizer, prompts, chosen, seed=5, window=48)
    alone = [generate(network, tokenizer, [p], chosen, seed=5, window=48)[0] for p in prompts]
    assert [s.ids for s in together] == [s.ids for s in alone]


def test_the_order_of_choices_says_nothing(tokenizer: Tokenizer) -> None:
    """Trap 36: texts are the contract, not their numbers."""
    network = network_of(MODELS["gru"], tokenizer, 48)
    choices = ["yes", "no", "也许"]
    one, other = (
        generate(network, tokenizer, ["a"], settings(constraint={"choices": each}, samples=10), seed=2)
        for each in (choices, choices[::-1])
    )
    assert [s.text for s in one] == [s.text for s in other] and len({s.text for s in one}) > 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_guessing_ahead_writes_the_same(temperature: float) -> None:
    network = made("decoder")
    chosen = settings(
        temperature=temperature, length=30, constraint={"regex": "(the |a )*(cat|dog)?"}, samples=3
    )
    texts = [
        generate(network, VOCABULARY, ["the ", ""], chosen, seed=1, window=16, decoder=decoder)
        for decoder in ("left_to_right", "speculative")
    ]
    assert [s.ids for s in texts[0]] == [s.ids for s in texts[1]]


def test_a_gap_that_is_filled_from_left_to_right_can_be_limited() -> None:
    tokenizer = train_tokenizer(TokenizerSettings(size=600), iter(TEXTS), [*Infill().specials()])
    network = network_of(MODELS["rotary"], tokenizer, 48)
    chosen = settings(constraint={"choices": ["yes", "no"]}, samples=4)
    samples = generate(network, tokenizer, [Gap("a ", " b")], chosen, objective=Infill(), window=48)
    assert {sample.text for sample in samples} <= {"yes", "no"}


# ---- forms


@pytest.mark.parametrize("form", FORMS)
def test_poems_come_out_in_their_form(form: FormName) -> None:
    tokenizer = (
        byte_tokenizer() if form == "qilü" else train_tokenizer(TokenizerSettings(size=600), iter(TEXTS))
    )
    network = network_of(MODELS["gru"], tokenizer, 64)
    chosen = settings(length=400, constraint={"form": form}, samples=3)
    for sample in generate(network, tokenizer, ["", "春"], chosen):
        assert sample.finished == "end" and check_form(sample.prompt + sample.text, form) == []


def test_a_prompt_is_the_beginning_of_the_poem(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["gru"], tokenizer, 64)
    chosen = settings(length=400, constraint={"form": "wujue"})
    (sample,) = generate(network, tokenizer, ["春眠不觉晓，处处闻"], chosen)
    assert check_form("春眠不觉晓，处处闻" + sample.text, "wujue") == []
    with pytest.raises(ConfigError, match="no 五绝 begins with '春眠不觉晓晓'"):
        generate(network, tokenizer, ["春眠不觉晓晓"], chosen)


# ---- what is refused


def test_constraints_that_cannot_be_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"generate\.constraint\.regex: .*"):
        constraint(tokenizer, regex="(a")
    with pytest.raises(ConfigError, match="regex and choices each say"):
        read(GenerateSettings, override({}, ["constraint.regex=a", 'constraint.choices=["b"]']))
    with pytest.raises(ConfigError, match="a choice must not be empty"):
        read(GenerateSettings, override({}, ['constraint.choices=[""]']))
    with pytest.raises(ConfigError, match="wulü"):
        read(GenerateSettings, override({}, ["constraint.form=wulu"]))


def test_vocabularies_whose_tokens_are_no_text_are_refused() -> None:
    words = train_tokenizer(TokenizerSettings(kind="word", size=0), iter(["yes no"]))
    with pytest.raises(ConfigError, match="tokens of this word vocabulary are not bytes"):
        constraint(words, choices=["yes"])


def test_unmasking_refuses(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, 16)
    chosen = settings(constraint={"choices": ["yes"]})
    with pytest.raises(ConfigError, match=r"generate\.constraint does nothing here.*'unmasking'"):
        generate(network, tokenizer, ["a"], chosen, objective=Diffusion(), window=16)


def test_without_the_library_it_says_what_to_install(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ConfigError, match=r"telos-lm\[constrain\]"):
        constraint(tokenizer, choices=["yes"])


def test_a_matcher_never_lets_special_tokens_through(tokenizer: Tokenizer) -> None:
    """Trap 88: neither a special token nor one that is none, at any place of a pattern that takes all."""
    matcher: Matcher = constraint(tokenizer, regex="(?s:.*)").begin()
    allowed = np.flatnonzero(matcher.allowed())
    assert len(allowed) > 256 and not set(allowed.tolist()) & (tokenizer.special_ids - {tokenizer.end})
