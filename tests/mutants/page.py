"""Bugs of the web page: its files are changed on their way to the browser."""

import pytest

from tests.mutants import mutant

TESTS = "tests/serve/test_page.py::"


def change(monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str) -> None:
    """Serve the file `name` with `new` for `old`, which must be there once."""
    from tests.serve import stand_in

    read = stand_in.page_file

    def changed(asked: str) -> str:
        text = read(asked)
        if asked == name:
            assert text.count(old) == 1, f"{name} has {text.count(old)} of {old!r}"
            text = text.replace(old, new)
        return text

    monkeypatch.setattr(stand_in, "page_file", changed)


@mutant(kills=f"{TESTS}test_what_models_and_runs_say_stays_text[markup]", trap=74)
def written_text_is_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "growing.js", "written.textContent = visible(text)", "written.innerHTML = text")


@mutant(kills=f"{TESTS}test_what_models_and_runs_say_stays_text[markup]", trap=74)
def children_are_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node of every panel that is made from data."""
    old = "element.append(...children.map((child) => (child instanceof Node ? child : visible(child))));"
    new = """for (const child of children) {
      if (child instanceof Node) element.append(child);
      else element.insertAdjacentHTML("beforeend", child);
    }"""
    change(monkeypatch, "dom.js", old, new)


@mutant(kills=f"{TESTS}test_what_models_and_runs_say_stays_text[controls]", trap=74)
def control_characters_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "dom.js", "return String(text).replace(HIDDEN", "return String(text).replace(/$^/g")


@mutant(kills=f"{TESTS}test_what_the_server_refuses_is_said_as_text[markup]", trap=74)
def errors_are_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    old = "problem.textContent = visible(outcome.message)"
    change(monkeypatch, "panel.js", old, "problem.innerHTML = outcome.message")


@mutant(kills=f"{TESTS}test_texts_are_judged_or_not", trap=74)
def styles_stand_in_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The content security policy refuses them, and all bars are empty."""
    old = "filled.style.width = `${100 * Math.max(0, Math.min(1, share))}%`"
    change(monkeypatch, "dom.js", old, 'filled.setAttribute("style", `width: ${100 * share}%`)')


@mutant(kills=f"{TESTS}test_another_run_is_chosen_and_its_name_is_no_path", trap=75)
def ids_are_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "runs.js", "${encodeURIComponent(this.id)}", "${this.id}")


@mutant(kills=f"{TESTS}test_another_run_is_chosen_and_its_name_is_no_path")
def the_list_is_made_anew_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "runs.js", "if (!this.#entries.has(run.id)) ", "")


@mutant(kills=f"{TESTS}test_a_key_is_asked_for_and_not_kept_on_the_disk", trap=78)
def the_key_is_kept_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (
        "sessionStorage.setItem(KEPT, key)",
        "(localStorage[KEPT] = key, sessionStorage.setItem(KEPT, key))",
    )
    change(monkeypatch, "key.js", old, new)


@mutant(kills=f"{TESTS}test_what_the_server_refuses_is_said_as_text[markup]", trap=76)
def refusals_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "panel.js", "if (outcome instanceof Error)", "if (false)")


@mutant(kills=f"{TESTS}test_stopping_hangs_up_and_keeps_what_was_written")
def stopping_only_stops_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server goes on writing for nobody."""
    old = 'headers: { "Content-Type": "application/json" }, signal };'
    change(monkeypatch, "api.js", old, 'headers: { "Content-Type": "application/json" } };')


@mutant(kills=f"{TESTS}test_writing_is_shown_as_it_comes")
def writing_is_shown_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    change(
        monkeypatch,
        "growing.js",
        "written.textContent = visible(text);",
        "if (reason) written.append(text);",
    )


@mutant(kills=f"{TESTS}test_a_conversation_goes_on_from_all_that_was_said")
def each_message_is_a_conversation_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "chat.js", "...this.#said, asked],", "asked],")


@mutant(kills=f"{TESTS}test_a_conversation_goes_on_from_all_that_was_said")
def the_system_text_is_shown_and_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "chat.js", "...(system ? ", "...(false ? ")


@mutant(kills=f"{TESTS}test_an_answer_is_shown_as_it_comes_and_can_be_stopped")
def a_stopped_answer_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on the page, and the model is not told it."""
    old = "if (answer.end()) this.#said.push"
    change(monkeypatch, "chat.js", old, "if (answer.end() && !signal.aborted) this.#said.push")


@mutant(kills=f"{TESTS}test_a_message_that_comes_to_nothing_can_be_sent_again")
def a_message_that_was_refused_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "chat.js", "this.#fields.input.value ||= text;", "")


@mutant(kills=f"{TESTS}test_a_conversation_is_begun_anew")
def beginning_anew_only_clears_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is told all that was said before."""
    old = "talk = new Talk(root);\n    form.elements"
    change(monkeypatch, "chat.js", old, "new Talk(root);\n    form.elements")


@mutant(kills=f"{TESTS}test_what_no_longer_fits_the_model_is_not_hidden")
def the_model_forgets_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "chat.js", 'tokens > reach ? "chat.forgotten" : "chat.used"', '"chat.used"')


@mutant(kills=f"{TESTS}test_enter_sends_a_message_unless_it_writes_on_it")
def half_a_word_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is spelled in an input method, as for Chinese."""
    change(monkeypatch, "chat.js", " || event.isComposing;", ";")


@mutant(kills=f"{TESTS}test_the_end_of_a_conversation_stays_in_sight")
def what_is_said_last_is_below_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "chat.js", "if (follows) box.scrollTop = box.scrollHeight;", "")


@mutant(kills=f"{TESTS}test_what_was_said_goes_back_as_it_was_said[controls]", trap=74)
def the_model_is_told_what_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "growing.js", "      return text;", "      return visible(text);")


@mutant(kills=f"{TESTS}test_settings_that_cannot_be_are_shown")
def what_is_wrong_is_folded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "chat.js", '(form.querySelector(".more").open = true)', "{}")


@mutant(kills=f"{TESTS}test_a_server_that_breaks_off_is_noticed")
def half_an_answer_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    old = '  throw new Refused(say("error.cut"));\n'
    change(monkeypatch, "api.js", old, "")


@mutant(kills=f"{TESTS}test_curves_grow_and_only_what_is_new_is_read")
def the_last_line_is_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "runs.js", "this.#next = next;", "this.#next = Math.max(0, next - 1);")


@mutant(kills=f"{TESTS}test_a_run_that_went_back_has_one_curve")
def a_log_that_was_cut_is_not_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "runs.js", "this.#curves?.check(this.#chosen()?.step);", "")


@mutant(kills=f"{TESTS}test_many_lines_are_sent_a_few_at_a_time", trap=76)
def all_lines_are_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "translate.js", "const AT_ONCE = 8;", "const AT_ONCE = 1e9;")


@mutant(kills=f"{TESTS}test_a_run_that_went_back_has_one_curve")
def steps_stand_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    old = "while (points.length && points.at(-1)[0] >= line.step) points.pop();"
    change(monkeypatch, "runs.js", old, "if (points.length && points.at(-1)[0] >= line.step) continue;")


@mutant(kills=f"{TESTS}test_a_phone_shows_it_without_scrolling_sideways[en-US]")
def long_words_do_not_break(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ".text, .source, .tokens { unicode-bidi: isolate; overflow-wrap: anywhere;"
    change(monkeypatch, "style.css", old, ".text, .source, .tokens { unicode-bidi: isolate;")


@mutant(kills=f"{TESTS}test_the_readers_language_is_spoken_and_remembered")
def only_what_was_there_at_first_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    change(
        monkeypatch,
        "language.js",
        "  element.dataset[part] = name;\n",
        "  element.textContent = say(name, values);\n  return element;\n",
    )


@mutant(kills=f"{TESTS}test_tokens_are_walked_with_keys")
def tokens_are_for_the_mouse(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "see.js", "if (press) return event.target.click();", "if (press) return;")


@mutant(kills=f"{TESTS}test_every_heat_can_be_read[dark]")
def dark_heat_is_bright(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "style.css", "--heat-9: #a13d28", "--heat-9: #f5735b")


@mutant(kills=f"{TESTS}test_everything_is_said_in_both_languages")
def a_text_is_not_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "texts.js", '  "see.surprising": "9 奈特以上",\n', "")
