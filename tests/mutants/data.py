"""Bugs of vocabularies and of data preparation."""

import numpy as np

from tests.mutants import mutant

TOKENIZER, DATA = "tests/test_tokenizer.py", "tests/data"


# ---- trap 47: a cache that is stale, damaged or raced for


@mutant(kills=f"{DATA}/test_prepare.py::test_whatever_changes_the_result_changes_the_key", trap=47)
def key_of_sizes_and_times(monkeypatch):
    stat = lambda path: f"{path.stat().st_size} {path.stat().st_mtime_ns}"  # noqa: E731
    digest = _get("telos.data.job.digest_of")
    only_input = lambda path: stat(path) if path.suffix == ".jsonl" else digest(path)  # noqa: E731
    monkeypatch.setattr("telos.data.job.digest_of", only_input)


@mutant(kills=f"{DATA}/test_prepare.py::test_whatever_changes_the_result_changes_the_key", trap=47)
def key_without_the_vocabulary(monkeypatch):
    fingerprint = _get("telos.data.job.fingerprint")

    def forgetful(version, shards, files, settings, *rest):
        return fingerprint(version, shards, files, settings[:1], *rest)

    monkeypatch.setattr("telos.data.job.fingerprint", forgetful)


@mutant(kills=f"{DATA}/test_shards.py::test_a_flipped_byte_is_found", trap=47)
def verify_looks_at_nothing(monkeypatch):
    monkeypatch.setattr("telos.data.shards.Shards.verify", lambda self: None)


@mutant(
    kills=f"{DATA}/test_prepare.py::test_a_flipped_byte_in_what_is_there_is_found_and_built_again", trap=47
)
def what_is_there_is_believed(monkeypatch):
    monkeypatch.setattr("telos.data.prepare.Prepared.verify", lambda self: None)


@mutant(kills=f"{DATA}/test_corpus.py::test_another_vocabulary_is_refused", trap=47)
def every_vocabulary_has_one_hash(monkeypatch):
    monkeypatch.setattr("telos.tokenizer.Tokenizer.hash", "same")


@mutant(kills=f"{DATA}/test_prepare.py::test_a_build_that_was_killed_leaves_nothing_in_the_way", trap=47)
def stale_builds_stay(monkeypatch):
    import contextlib

    @contextlib.contextmanager
    def untidy(folder):
        folder.mkdir(parents=True, exist_ok=True)
        yield

    monkeypatch.setattr("telos.data.prepare._working", untidy)


@mutant(kills=f"{DATA}/test_prepare.py::test_a_build_that_fails_leaves_nothing", trap=47)
def built_under_its_final_name(monkeypatch):
    build = _get("telos.data.prepare._build")

    def in_place(folder, key, *rest):
        final = folder.parent / key
        final.mkdir()
        build(final, key, *rest)

    monkeypatch.setattr("telos.data.prepare._build", in_place)


# ---- trap 48: ids and lengths that overflow


@mutant(kills=f"{DATA}/test_shards.py::test_vocabulary_sizes_round_trip", trap=48)
def uint16_overflow(monkeypatch):
    monkeypatch.setattr("telos.data.shards._dtype", lambda size: np.uint16)


@mutant(kills=f"{DATA}/test_prepare.py::test_large_vocabularies_reach_the_disk", trap=48)
def uint16_for_one_too_many(monkeypatch):
    monkeypatch.setattr("telos.data.shards._dtype", lambda size: np.uint16 if size <= 65_537 else np.uint32)


@mutant(kills=f"{DATA}/test_shards.py::test_document_lengths_round_trip", trap=48)
def lengths_in_sixteen_bits(monkeypatch):
    wrapped = property(lambda self: np.diff(self.offsets).astype(np.uint16))
    monkeypatch.setattr("telos.data.shards.Shards.lengths", wrapped)


@mutant(kills=f"{DATA}/test_shards.py::test_offsets_beyond_thirty_two_bits", trap=48)
def offsets_in_thirty_two_bits(monkeypatch):
    map_ = _get("telos.data.shards.Shards._map")

    def narrow(self, name, dtype):
        values = map_(self, name, dtype)
        return values.astype(np.int32) if name == "offsets" else values

    monkeypatch.setattr("telos.data.shards.Shards._map", narrow)


@mutant(kills=f"{DATA}/test_shards.py::test_an_id_outside_the_vocabulary_is_never_written", trap=48)
def ids_unchecked(monkeypatch):
    monkeypatch.setattr("telos.data.shards.ShardWriter._checked", lambda self, ids: ids.astype(self._dtype))


# ---- trap 49: lines, marks, surrogates


@mutant(kills=f"{DATA}/test_sources.py::test_json_lines_are_cut_at_line_feeds_only", trap=49)
def splitlines(monkeypatch):
    def lines(file, path, longest=None, first=1):
        text = file.read().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        for number, line in enumerate(text.splitlines(), 1):
            yield number, line.encode("utf-8", "surrogateescape")

    monkeypatch.setattr("telos.data.sources._base.lines", lines)


@mutant(kills=f"{DATA}/test_sources.py::test_json_lines_come_back", trap=49)
def byte_order_mark_kept(monkeypatch):
    monkeypatch.setattr("telos.data.sources._base.lines", _unbounded)


@mutant(kills=f"{DATA}/test_sources.py::test_a_bad_line_is_named", trap=49)
def bad_lines_skipped(monkeypatch):
    parse = _get("telos.data.sources.jsonl._parse")

    def lenient(line, path, number):
        try:
            return parse(line, path, number)
        except Exception:
            return {"text": ""}

    monkeypatch.setattr("telos.data.sources.jsonl._parse", lenient)


@mutant(
    kills=f"{DATA}/test_documents.py::test_invalid_bytes_are_counted_replaced_refused_or_dropped", trap=49
)
def bad_bytes_ignored(monkeypatch):
    ignore = lambda data, path, beginning=False: data.decode("utf-8", "ignore")  # noqa: E731
    monkeypatch.setattr("telos.data.sources._base.to_text", ignore)


@mutant(kills=f"{DATA}/test_documents.py::test_invalid_bytes_at_the_edge_of_a_block", trap=49)
def characters_cut_in_two(monkeypatch):
    monkeypatch.setattr("telos.data.sources.text._best_cut", lambda data: len(data) - 1)


@mutant(kills=f"{DATA}/test_sources.py::test_a_damaged_compressed_file_is_named", trap=49)
def compressed_files_cut_short_are_whole(monkeypatch):
    read = _get("telos.data.sources._base._Counted.readinto")

    def lenient(self, buffer):
        try:
            return read(self, buffer)
        except EOFError:
            return 0

    monkeypatch.setattr("telos.data.sources._base._Counted.readinto", lenient)


# ---- trap 50: what is lost without a word


@mutant(kills=f"{DATA}/test_clean.py::test_the_default_leaves_text_alone", trap=50)
def nfkc(monkeypatch):
    import unicodedata

    monkeypatch.setattr("telos.data.clean.compose", lambda text: unicodedata.normalize("NFKC", text))


@mutant(kills=f"{TOKENIZER}::test_any_text_comes_back", trap=50)
def byte_level_with_a_prefix_space(monkeypatch):
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel
    with_space = lambda **given: level(**(given | {"add_prefix_space": True}))  # noqa: E731
    with_space.alphabet = level.alphabet
    monkeypatch.setattr("tokenizers.pre_tokenizers.ByteLevel", with_space)


@mutant(kills=f"{TOKENIZER}::test_any_generated_text_comes_back", trap=50)
def alphabet_of_the_training_text(monkeypatch):
    monkeypatch.setattr("telos.vocabulary._ALPHABET", [])
    monkeypatch.setattr("telos.tokenizer.is_lossless", lambda file: True)


@mutant(kills=f"{DATA}/test_prepare.py::test_the_card_says_what_was_lost", trap=50)
def losses_not_measured(monkeypatch):
    from telos.data.card import Counts
    from telos.data.tokenised import Measured

    def _measure_nothing(self, kept, ids, counts):
        return Measured(splits=tuple(counts if n == kept.split else Counts() for n in range(3)))

    monkeypatch.setattr("telos.data.tokenised._Writing._measure", _measure_nothing)


# ---- trap 51: half characters


@mutant(kills=f"{TOKENIZER}::test_streamed_text_is_the_decoded_text", trap=51)
def tokens_decoded_one_by_one(monkeypatch):
    monkeypatch.setattr(
        "telos.tokenizer.Stream.add",
        lambda self, id: self._tokenizer.token_bytes(id).decode("utf-8", "replace"),
    )


@mutant(kills=f"{TOKENIZER}::test_foreign_byte_fallback_streams_whole_characters", trap=51)
def foreign_tokens_decoded_one_by_one(monkeypatch):
    monkeypatch.setattr(
        "telos.tokenizer.Stream._add_foreign", lambda self, id: self._tokenizer._decode_foreign([id])
    )


# ---- trap 52: text that becomes a control token


@mutant(kills=f"{TOKENIZER}::test_no_text_becomes_a_special_token", trap=52)
def special_strings_are_special(monkeypatch):
    init = _get("telos.tokenizer.Tokenizer.__init__")

    def parsing(self, inner, specials=()):
        init(self, inner, specials)
        self._inner.encode_special_tokens = False

    monkeypatch.setattr("telos.tokenizer.Tokenizer.__init__", parsing)


@mutant(kills=f"{TOKENIZER}::test_special_strings_in_the_training_text_become_no_special_token", trap=52)
def words_called_like_special_tokens(monkeypatch):
    learn = _get("telos.vocabulary._word")
    learners = _get("telos.vocabulary.LEARN")
    monkeypatch.setitem(
        learners, "word", lambda settings, texts, size, specials: learn(settings, texts, size, ())
    )
    monkeypatch.setattr("telos.tokenizer.kind_of", lambda file: "word")


@mutant(kills=f"{TOKENIZER}::test_a_foreign_vocabulary_that_holds_its_special_tokens_yields_none", trap=52)
def foreign_models_see_special_strings(monkeypatch):
    cut = _get("telos.tokenizer.cut")
    monkeypatch.setattr("telos.tokenizer.Tokenizer._chunks", lambda self, text: cut(text, 1 << 16))


# ---- trap 53: what is tested was trained on


@mutant(kills=f"{DATA}/test_documents.py::test_exact_copies_are_dropped_wherever_they_are", trap=53)
def copies_kept(monkeypatch):
    alone = lambda digests: np.arange(len(digests))  # noqa: E731
    monkeypatch.setattr("telos.data.decisions._first_of_equals", alone)


@mutant(kills=f"{DATA}/test_documents.py::test_a_text_stays_in_its_split_when_others_come", trap=53)
def split_by_place(monkeypatch):
    import random

    draw = random.Random(0)

    def drawn(self, settings):
        return np.array(draw.choices((0, 1, 2), (18, 1, 1), k=self.count), np.uint8)

    monkeypatch.setattr("telos.data.decisions._Texts.splits", drawn)


@mutant(kills=f"{DATA}/test_documents.py::test_held_out_files_win_over_training_files", trap=53)
def training_files_first(monkeypatch):
    init = _get("telos.data.documents.Reader.__init__")

    def backwards(self, settings, findings):
        init(self, settings, findings)
        self.files.reverse()

    monkeypatch.setattr("telos.data.documents.Reader.__init__", backwards)


@mutant(
    kills=f"{DATA}/test_documents.py::test_the_vocabulary_is_learned_from_the_training_split_only", trap=53
)
def vocabulary_of_everything(monkeypatch):
    sample = _get("telos.data.decisions._sample")
    everything = lambda texts, codes, budget: sample(texts, np.zeros_like(codes), budget)  # noqa: E731
    monkeypatch.setattr("telos.data.decisions._sample", everything)


@mutant(kills=f"{DATA}/test_documents.py::test_parts_of_one_long_text_go_to_one_split", trap=53)
def split_by_part(monkeypatch):
    read = _get("telos.data.documents.Read")
    monkeypatch.setattr(
        "telos.data.documents.Read", lambda document, first, *rest: read(document, True, *rest)
    )


# ---- trap 54: input that eats time and memory


@mutant(kills=f"{DATA}/test_sources.py::test_a_decompression_bomb_is_refused", trap=54)
def bombs_expand(monkeypatch):
    monkeypatch.setattr("telos.data.sources._base.EXPANSION", 1 << 40)


@mutant(kills=f"{DATA}/test_sources.py::test_an_endless_line_is_refused", trap=54)
def lines_without_limit(monkeypatch):
    monkeypatch.setattr("telos.data.sources._base.lines", _unbounded)


@mutant(kills=f"{TOKENIZER}::test_the_library_never_gets_more_than_a_chunk", trap=54)
def texts_encoded_whole(monkeypatch):
    monkeypatch.setattr("telos.tokenizer.cut", lambda text, limit: iter([text]))


@mutant(kills=f"{TOKENIZER}::test_learning_stops_where_nothing_repeats", trap=54)
def learned_from_everything(monkeypatch):
    monkeypatch.setattr("telos.vocabulary.affordable", lambda texts: texts)


@mutant(kills=f"{TOKENIZER}::test_long_texts_are_cut_at_white_space", trap=54)
def chunks_cut_after_the_space(monkeypatch):
    space = _get("telos.vocabulary._last_space")

    def after(text, begin, end):
        place = space(text, begin, end)
        return place + 1 if 0 < place < end else place

    monkeypatch.setattr("telos.vocabulary._last_space", after)


# ---- the corpus: trap 30, every token once


@mutant(kills=f"{DATA}/test_corpus.py::test_every_token_after_the_overlap_is_answered_for_once", trap=30)
def last_piece_dropped(monkeypatch):
    init = _get("telos.data.corpus.Corpus.__init__")

    def floored(self, shards, cut, tokenizer):
        init(self, shards, cut, tokenizer)
        asked = np.maximum(shards.lengths + cut.begin + cut.end - cut.overlap, 0)
        self.first = np.concatenate([np.zeros(1, np.int64), np.cumsum(asked // cut.step)])

    monkeypatch.setattr("telos.data.corpus.Corpus.__init__", floored)


@mutant(kills=f"{DATA}/test_corpus.py::test_every_token_after_the_overlap_is_answered_for_once", trap=30)
def context_asked_again(monkeypatch):
    span = _get("telos.data.corpus.Corpus._span")

    def greedy(self, k, length):
        begin, _, end = span(self, k, length)
        return begin, max(begin, self.cut.overlap), end

    monkeypatch.setattr("telos.data.corpus.Corpus._span", greedy)


# ---- trap 74: text of the corpus as markup


@mutant(kills=f"{DATA}/test_prepare.py::test_examples_in_the_card_are_no_markup", trap=74)
def examples_as_they_are(monkeypatch):
    monkeypatch.setattr("telos.data.card._plain", lambda text: text)


def _get(name: str):
    """An attribute by its dotted name: what a mutant wraps."""
    import importlib

    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            thing = getattr(thing, part)
        return thing
    raise AssertionError(name)


def _unbounded(file, path, longest=None, first=1):
    """Lines of any length, byte order mark and all."""
    return enumerate(file, first)
