"""Names of persons, found by a real model of token classification, made and trained here in seconds."""

import pickle

import pytest

from telos.config import read
from telos.data.privacy._scrub import Scrubber
from telos.data.privacy._settings import PrivacySettings
from telos.data.privacy.name import Name
from telos.errors import ConfigError

WORDS = [
    "the",
    "a",
    "saw",
    "met",
    "and",
    "near",
    "river",
    "house",
    "in",
    "said",
    "that",
    "old",
    "town",
    "of",
    "[",
]
NAMES = ["anna", "maria", "john", "smith", "zhang", "wei"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of one layer that has learnt which of 21 words are names."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS, *NAMES])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), max_position_embeddings=32, id2label={0: "O", 1: "B-PER"}, **sizes
    )
    model = transformers.BertForTokenClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(80):
        ids = torch.randint(1, len(vocabulary), (32, 24))
        labels = (ids >= 2 + len(WORDS)).long()
        loss = model(ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("names")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_names_are_replaced_beside_all_else(folder):
    scrubber = Scrubber(PrivacySettings(action="replace", names=folder))
    done = scrubber.scrub("the old anna smith met zhang near the river and john@smith.cn")
    assert done.text == "the old [NAME] met [NAME] near the river and [EMAIL]"
    assert done.counts == {"email": 1, "name": 2}
    assert scrubber.scrub(done.text) == (done.text, {}, {}, False)
    assert pickle.loads(pickle.dumps(scrubber)).scrub("anna saw").text == "[NAME] saw"


def test_long_text_goes_through_in_windows(folder):
    """Names anywhere in 900 words, of which the model reads 32 at once."""
    words = ["the river saw a house"] * 180
    for place in range(0, 180, 7):
        words[place] = "the river saw a maria"
    text = " ".join(words)
    scrubber = Scrubber(PrivacySettings(action="replace", kinds=("name",), names=folder))
    assert scrubber.scrub(text).text == text.replace("maria", "[NAME]")


def test_what_is_no_such_model_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        Scrubber(PrivacySettings(action="replace", names=tmp_path)).scrub("anna")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        list(Name(read(PrivacySettings, {"names": str(tmp_path)}))._model)
