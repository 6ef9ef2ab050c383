"""Serving: texts that get mixed up, places that are never freed, doors that stand open."""

from typing import Any

import pytest

from tests.mutants import mutant

ACCESS = "tests/serve/test_access.py"
BATCHING = "tests/serve/test_batching.py"
LIMITS = "tests/serve/test_limits.py"
JOINING = "tests/generate/test_joining.py"


@mutant(kills=f"{BATCHING}::test_no_stream_says_anything_of_another[decoder]", trap=23)
def rows_that_leave_take_anothers_state(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    chosen = Network.chosen

    def shifted(self: Any, state: Any, rows: Any, **more: Any) -> Any:
        return chosen(self, state, rows - rows.min(), **more)

    monkeypatch.setattr(Network, "chosen", shifted)


@mutant(kills=f"{JOINING}::test_rows_that_join_say_what_they_say_alone[rotary-7]", trap=23)
def what_fills_a_cache_up_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from telos.generate import _past, _state

    stacked = _state._stacked

    def seen(first: Any, second: Any) -> Any:
        both = stacked(first, second)
        return torch.ones_like(both) if both.dtype == torch.bool else both

    monkeypatch.setattr(_past, "beside", lambda first, second: _state.mapped(seen, first, second))


@mutant(kills=f"{JOINING}::test_a_cache_does_not_grow_as_rows_come_and_go")
def a_cache_grows_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._transformer import Transformer

    monkeypatch.setattr(Transformer, "narrowed", lambda self, state, rows: state)


@mutant(kills=f"{JOINING}::test_rows_that_join_say_what_they_say_alone[rotary-7]", trap=23)
def places_are_given_up_that_one_row_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._transformer import Transformer

    narrowed = Transformer.narrowed
    monkeypatch.setattr(
        Transformer,
        "narrowed",
        lambda self, state, rows: narrowed(self, state, rows[: max(1, len(rows) - 1)]),
    )


@mutant(kills=f"{BATCHING}::test_no_stream_says_anything_of_another[gru]")
def a_piece_goes_to_whoever_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve.mail import Mail

    piece, last = Mail.piece, list[Any]()

    def misled(self: Any, index: int, text: str) -> None:
        last[:] = [*last, self][-2:]
        piece(last[0], index, text)

    monkeypatch.setattr(Mail, "piece", misled)


@mutant(kills=f"{BATCHING}::test_a_client_that_hangs_up_frees_its_places")
def who_hung_up_keeps_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve.mail import Mail

    monkeypatch.setattr(Mail, "hang_up", lambda self: None)


@mutant(kills=f"{BATCHING}::test_what_is_not_read_is_kept_up_to_a_limit")
def what_is_not_read_is_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve.mail import Mail

    init = Mail.__init__
    monkeypatch.setattr(Mail, "__init__", lambda self, limit: init(self, 1 << 40))


@mutant(kills=f"{BATCHING}::test_no_piece_holds_half_a_character", trap=51)
def tokens_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.tokenizer import Stream

    monkeypatch.setattr(
        Stream, "add", lambda self, id: self._tokenizer.token_bytes(id).decode("utf-8", "replace")
    )


@mutant(kills=f"{ACCESS}::test_every_answer_forbids_what_no_page_of_ours_needs", trap=74)
def answers_may_become_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve import gate

    monkeypatch.setattr(gate, "HEADERS", {})


@mutant(kills=f"{LIMITS}::test_nothing_of_what_was_sent_comes_back_in_a_refusal", trap=74)
def what_was_sent_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve import app
    from telos.serve.refusals import Refused

    monkeypatch.setattr(app, "described", lambda errors: Refused(400, str(errors)))


@mutant(kills=f"{ACCESS}::test_by_default_only_this_machine_is_listened_to", trap=75)
def everybody_is_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve import server

    listening = server.listening
    monkeypatch.setattr(
        server, "listening", lambda settings: listening(settings.model_copy(update={"host": "0.0.0.0"}))
    )


@mutant(kills=f"{ACCESS}::test_nobody_else_is_listened_to_without_a_key", trap=75)
def no_key_is_needed_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve import server

    monkeypatch.setattr(server, "is_loopback", lambda host: True)


@mutant(kills=f"{ACCESS}::test_with_a_key_it_listens_elsewhere_and_lets_in_who_shows_it", trap=75)
def any_key_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve import gate

    monkeypatch.setattr(gate.hmac, "compare_digest", lambda one, other: True)


@mutant(kills=f"{ACCESS}::test_a_name_that_was_made_to_point_here_is_refused", trap=75)
def any_name_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve.gate import Gate

    monkeypatch.setattr(Gate, "_check_host", lambda self, headers: None)


@mutant(kills=f"{ACCESS}::test_no_path_reaches_a_file", trap=75)
def a_runs_id_is_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve.runs import Runs

    class Anything(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return self.folder / key  # type: ignore[attr-defined]

    def found(self: Any) -> Any:
        anything = Anything()
        anything.folder = self._folders[0]  # type: ignore[attr-defined]
        return anything

    monkeypatch.setattr(Runs, "_found", found)


@mutant(kills=f"{LIMITS}::test_a_large_body_is_refused_before_it_is_read", trap=76)
def a_body_is_read_whatever_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve.gate import Gate

    init = Gate.__init__

    def generous(self: Any, app: Any, settings: Any, *rest: Any) -> None:
        init(self, app, settings, *rest)
        self.limits = settings.limits.model_copy(update={"body": 1 << 60})

    monkeypatch.setattr(Gate, "__init__", generous)


@mutant(kills=f"{LIMITS}::test_more_than_may_be_under_way_are_told_to_come_again", trap=76)
def everybody_may_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve.gate import Gate

    monkeypatch.setattr(Gate, "under_way", property(lambda self: 0, lambda self, value: None), raising=False)


@mutant(kills=f"{LIMITS}::test_a_client_that_speaks_slowly_is_not_waited_for", trap=76)
def half_a_request_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve.server import Impatient

    monkeypatch.setattr(Impatient, "_wake_in", lambda self, act: None)


@mutant(kills=f"{LIMITS}::test_too_much_is_refused", trap=76)
def any_number_of_texts_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve.writing import _Writing

    monkeypatch.setattr(_Writing, "_check", lambda self: None)


@mutant(kills="tests/serve/test_command.py::test_a_key_that_is_none_is_refused", trap=78)
def a_key_is_told_when_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.commands import serve
    from telos.errors import ConfigError

    def told(text: str, source: str) -> str:
        raise ConfigError(f"{source}: {text!r} is no key: a key is one line of at least 16 …")

    monkeypatch.setattr(serve, "_checked", told)


@mutant(kills="tests/serve/test_score.py::test_tokens_lie_side_by_side_in_the_text[decoder]", trap=51)
def tokens_are_told_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.serve import scores

    def spans(text: str, given: Any, tokenizer: Any) -> list[tuple[int, int]]:
        _, at = tokenizer.encode_offsets(text)
        return [(int(begin), int(end)) for begin, end in at.tolist()]

    monkeypatch.setattr(scores, "_spans", spans)


@mutant(kills="tests/serve/test_score.py::test_each_token_costs_what_the_model_says_of_it[gru]")
def surprise_is_told_one_token_late(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import texts

    question = texts._Question
    monkeypatch.setattr(
        texts,
        "_Question",
        lambda owner, example, factor, tokens: question(owner, example, factor, tokens - 1),
    )


@mutant(kills=f"{JOINING}::test_rows_of_other_settings_are_drawn_by_their_own", trap=23)
def all_are_drawn_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _rows

    monkeypatch.setattr(_rows, "_alike", lambda rows: [list(range(len(rows)))])


@mutant(kills=f"{JOINING}::test_a_search_that_nobody_waits_for_makes_room", trap=23)
def a_search_keeps_the_state_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._base import Decoder
    from telos.generate.beam import Beam

    def kept(self: Any, chosen: Any) -> None:
        Decoder.keep(self, chosen)
        wanted = set(map(id, self.rows))
        self.searches = [s for s in self.searches if any(id(row) in wanted for row in s.rows)]

    monkeypatch.setattr(Beam, "keep", kept)
