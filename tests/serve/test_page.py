"""The web page, in a real browser: every panel by clicking and by keys alone, in two languages, on a phone's
width; and whatever a model or a run says stays text."""

import re
import shlex
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from telos.report import visible
from tests.serve.browser import opened, running
from tests.serve.stand_in import HOSTILE, StandIn, model, page_file
from tests.small import write_texts
from tests.test_docs import check_command

TABS = ("write", "chat", "translate", "judge", "see", "runs")
NAMES = {
    "en": ["Write", "Chat", "Translate", "Judge", "See", "Runs"],
    "zh": ["写作", "对话", "翻译", "判断", "细看", "运行"],
}
CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running() as found:
        yield found


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def page(browser: Browser, server: StandIn) -> Iterator[Page]:
    with opened(browser, server.address) as found:
        yield found


def panel(page: Page, name: str) -> Locator:
    """A panel, after its tab was clicked."""
    page.locator(f"#tab-{name}").click()
    return page.locator(f"#{name}")


def send(part: Locator, **fields: str) -> None:
    """Fill in and click."""
    for name, text in fields.items():
        part.locator(f"[name={name}]").fill(text)
    part.locator("button[type=submit]").click()


def is_done(part: Locator, said: str = "Done.") -> None:
    expect(part.locator(".status")).to_have_text(said)


def curve(steps: int, first: int = 1) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(first, first + steps):
        lines.append({"step": step, "loss": 2 + 6 / step, "rate": 1e-3, "tokens_per_second": 5000.0})
        if step % 10 == 0:
            lines.append({"step": step, "validation.loss": 2.5 + 5 / step})
    return lines


def a_run(name: str = "demo", finished: bool = False, step: int = 30) -> dict[str, Any]:
    about = {"objective": "causal", "model": "decoder"}
    return {"id": name, "name": name, "finished": finished, "step": step, **about}


# ---- what can be seen in the files


def texts_of(language: str) -> dict[str, str]:
    block = re.search(rf"^const {language} = \{{\n(.*?)^\}};", page_file("texts.js"), re.M | re.S)
    assert block
    return dict(re.findall(r'^  "?([\w.]+)"?: "(.*)",$', block[1], re.M))


def files(*suffixes: str) -> dict[str, str]:
    folder = resources.files("telos.serve") / "page"
    return {f.name: page_file(f.name) for f in folder.iterdir() if f.name.endswith(suffixes)}


def test_everything_is_said_in_both_languages() -> None:
    """Every text is translated, with the same values in it; every one that is used is there, and every one
    that is there is used."""
    english, chinese = texts_of("en"), texts_of("zh")
    assert len(english) > 90 and english.keys() == chinese.keys()
    for name, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", chinese[name])), name
        assert re.search("[\u4e00-\u9fff]", chinese[name]) or name == "write.top_p", name
    code = "\n".join(text for name, text in files(".js", ".html").items() if name != "texts.js")
    named = set(re.findall(r'data-(?:text|label|placeholder)="([\w.]+)"', code))
    quoted = set(re.findall(r'"((?:[a-z_]+\.)*[a-z_]+)"', code)) & english.keys()
    made = {f"{tab}.{part}" for tab in TABS[:5] for part in ("send", "lacking")}
    parts = {name.partition(".")[0] for name in english if "." in name}
    dotted = {name for name in re.findall(r'"([a-z]+\.[a-z_.]+)"', code) if name.partition(".")[0] in parts}
    assert named | dotted <= english.keys()
    assert english.keys() <= named | quoted | made


def test_the_page_holds_nothing_inline_and_nothing_from_elsewhere() -> None:
    """Trap 74: so that its policy can forbid both; nor anything that reads text as markup or as a program."""
    html = page_file("index.html")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\bsrc=)", html, re.I)
    for name, text in files(".js", ".html", ".css", ".svg").items():
        assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
        ), name
        assert not re.search(r"DOMParser|srcdoc|createContextualFragment|@import|url\(", text), name


def test_the_commands_that_it_names_are_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_texts(tmp_path / "my-texts")
    monkeypatch.chdir(tmp_path)
    commands = set(re.findall(r'"(telos [^"]+)"', "\n".join(files(".js").values())))
    assert len(commands) == 8
    for command in commands:
        check_command(shlex.split(command)[1:], command)


# ---- each panel


def test_writing_is_shown_as_it_comes(page: Page, server: StandIn) -> None:
    """What was given and what was written are told apart, and how it ended is said."""
    server.gate.clear()
    write = panel(page, "write")
    send(write, prompt="Once: ", temperature="0.5", max_tokens="7", seed="3")
    expect(write.locator(".written")).to_have_text("There was ")
    expect(write.locator(".status")).to_have_text("Working …")
    expect(write.locator(".sample footer")).to_contain_text("writing")
    server.gate.set()
    is_done(write)
    expect(write.locator(".sample .text")).to_have_text("Once: There was a cat.")
    expect(write.locator(".written")).to_have_text("There was a cat.")
    expect(write.locator(".sample footer")).to_contain_text("ended by itself")
    (body,) = server.bodies("/v1/completions")
    numbers = {"temperature": 0.5, "top_p": 0.95, "max_tokens": 7, "n": 1, "seed": 3}
    assert body == {"model": "poems", "prompt": "Once: ", "stream": True, **numbers}


def test_samples_stand_side_by_side(page: Page, server: StandIn) -> None:
    write = panel(page, "write")
    send(write, prompt="Once: ", n="3")
    is_done(write)
    expect(write.locator(".sample")).to_have_count(3)
    expect(write.locator(".written")).to_have_text(["There was a cat."] * 3)
    expect(write.locator(".sample footer").nth(1)).to_contain_text("cut at the length")
    assert "seed" not in server.bodies("/v1/completions")[0]


def test_stopping_hangs_up_and_keeps_what_was_written(page: Page, server: StandIn) -> None:
    server.gate.clear()
    write = panel(page, "write")
    stop = write.locator("button.stop")
    expect(stop).to_be_disabled()
    send(write, prompt="Once: ")
    expect(write.locator(".written")).to_have_text("There was ")
    stop.click()
    is_done(write, "Stopped.")
    assert server.hung_up.wait(10)
    expect(write.locator(".written")).to_have_text("There was ")
    expect(write.locator(".sample footer")).to_contain_text("Stopped")
    expect(stop).to_be_disabled()
    expect(write.locator("button[type=submit]")).to_be_focused()


def test_a_gap_is_filled(page: Page, server: StandIn) -> None:
    write = panel(page, "write")
    expect(write.locator("[name=suffix]")).to_be_hidden()
    write.get_by_label("Fill a gap").check()
    send(write, prompt="Once ", suffix=" The end.")
    is_done(write)
    expect(write.locator(".sample .text")).to_have_text("Once There was a cat. The end.")
    assert server.bodies("/v1/completions")[0]["suffix"] == " The end."


def test_only_what_the_model_can_do_is_offered(browser: Browser, server: StandIn) -> None:
    server.models = [
        model("both", ["complete", "infill"]),
        model("on", ["complete"]),
        model("gaps", ["infill"]),
    ]
    with opened(browser, server.address) as page:
        write = panel(page, "write")
        expect(write.locator("#how")).to_be_visible()
        expect(write.locator(".model .about")).to_have_text(
            "causal · decoder · 5.24 M parameters · window of 256 tokens"
        )
        write.locator("select").select_option("on")
        expect(write.locator("#how")).to_be_hidden()
        expect(write.locator("[name=suffix]")).to_be_hidden()
        write.locator("select").select_option("gaps")
        expect(write.locator("[name=suffix]")).to_be_visible()
        expect(write.get_by_label("Go on")).to_be_disabled()
        expect(panel(page, "judge").locator(".lacking")).to_contain_text("trained on texts with labels")


def test_what_no_model_can_do_says_what_to_train(browser: Browser, server: StandIn) -> None:
    server.models = []
    with opened(browser, server.address) as page:
        for name in TABS[:5]:
            part = panel(page, name)
            expect(part.locator(".lacking h2")).to_have_text("None of the models served here can do this")
            expect(part.locator("form")).to_be_hidden()
        expect(page.locator("#see .lacking code").first).to_have_text("telos train my-texts/")
        expect(panel(page, "runs").locator(".nothing")).to_be_visible()


CHATS = "/v1/chat/completions"


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_a_conversation_goes_on_from_all_that_was_said(page: Page, server: StandIn) -> None:
    """The model is told the system text, each message and each answer; answers are drawn as the fields
    say."""
    chat = panel(page, "chat")
    chat.locator("summary").click()
    send(chat, system=" Be brief.\n", temperature="0.5", max_tokens="7", seed="3", input="Who?")
    is_done(chat)
    expect(chat.locator(".turn .text")).to_have_text(["Who?", "There was a cat."])
    expect(chat.locator(".turn footer")).to_contain_text("ended by itself")
    expect(chat.locator("[name=input]")).to_have_value("")
    send(chat, input="And then?")
    is_done(chat)
    expect(chat.locator(".who")).to_have_text(["You", "Model"] * 2)
    first, second = server.bodies(CHATS)
    numbers = {"temperature": 0.5, "top_p": 0.95, "max_tokens": 7, "seed": 3}
    told = [said("system", "Be brief."), said("user", "Who?")]
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    assert first == {"model": "poems", "messages": told, **numbers, **streamed}
    assert second["messages"] == [*told, said("assistant", "There was a cat."), said("user", "And then?")]


def test_an_answer_is_shown_as_it_comes_and_can_be_stopped(page: Page, server: StandIn) -> None:
    """What was said until then stays, and the model is told it with the next message."""
    server.gate.clear()
    chat = panel(page, "chat")
    send(chat, input="Who?")
    expect(chat.locator(".written")).to_have_text("There was ")
    expect(chat.locator(".status")).to_have_text("Working …")
    chat.locator("button.stop").click()
    is_done(chat, "Stopped.")
    assert server.hung_up.wait(10)
    expect(chat.locator(".written")).to_have_text("There was ")
    expect(chat.locator(".turn footer")).to_contain_text("Stopped")
    server.gate.set()
    send(chat, input="Go on.")
    is_done(chat)
    assert server.bodies(CHATS)[1]["messages"] == [
        said("user", "Who?"),
        said("assistant", "There was "),
        said("user", "Go on."),
    ]


def test_a_message_that_comes_to_nothing_can_be_sent_again(browser: Browser, server: StandIn) -> None:
    """It is no part of the conversation, and stands in its field."""
    server.refusals = {CHATS: (400, "A text has 9000 tokens.")}
    with opened(browser, server.address, refusals=True) as page:
        chat = panel(page, "chat")
        send(chat, input="Who?")
        expect(chat.locator(".problem")).to_have_text("A text has 9000 tokens.")
        expect(chat.locator(".turn")).to_have_count(0)
        expect(chat.locator(".talk")).to_be_hidden()
        expect(chat.locator("[name=input]")).to_have_value("Who?")
        server.refusals = {}
        chat.locator("button[type=submit]").click()
        is_done(chat)
        assert [body["messages"] for body in server.bodies(CHATS)] == [[said("user", "Who?")]] * 2


def test_a_conversation_is_begun_anew(page: Page, server: StandIn) -> None:
    """Also while an answer comes, of which nothing is left."""
    chat = panel(page, "chat")
    send(chat, input="Who?")
    is_done(chat)
    server.gate.clear()
    send(chat, input="And?")
    expect(chat.locator(".written").nth(1)).to_have_text("There was ")
    chat.get_by_role("button", name="Start anew").click()
    assert server.hung_up.wait(10)
    expect(chat.locator(".turn")).to_have_count(0)
    expect(chat.locator("[name=input]")).to_be_focused()
    is_done(chat, "Stopped.")
    server.gate.set()
    send(chat, input="Hello")
    is_done(chat)
    expect(chat.locator(".turn .text")).to_have_text(["Hello", "There was a cat."])
    assert server.bodies(CHATS)[-1]["messages"] == [said("user", "Hello")]


def test_what_no_longer_fits_the_model_is_not_hidden(browser: Browser, server: StandIn) -> None:
    server.models = [model(reach=25), model("endless", reach=0)]
    with opened(browser, server.address) as page:
        chat = panel(page, "chat")
        for told in ("10 of 25 tokens", "30 of 25 tokens: the beginning is forgotten"):
            send(chat, input="Who?")
            is_done(chat)
            expect(chat.locator(".used")).to_have_text(told)
        chat.locator("select").select_option("endless")
        send(chat, input="Who?")
        is_done(chat)
        expect(chat.locator(".used")).to_have_text("")


def test_enter_sends_a_message_unless_it_writes_on_it(page: Page, server: StandIn) -> None:
    """Shift+Enter starts a line, and an Enter that ends the spelling of a word is the input method's."""
    chat = panel(page, "chat")
    field = chat.locator("[name=input]")
    field.focus()
    page.keyboard.type("a")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("b")
    enter = '{key: "Enter", isComposing: true, bubbles: true, cancelable: true}'
    field.evaluate(f'one => one.dispatchEvent(new KeyboardEvent("keydown", {enter}))')
    expect(field).to_have_value("a\nb")
    expect(chat.locator(".turn")).to_have_count(0)
    page.keyboard.press("Enter")
    is_done(chat)
    expect(field).to_be_focused()
    server.gate.clear()
    page.keyboard.type("c")
    page.keyboard.press("Control+Enter")
    expect(chat.locator(".written").nth(1)).to_have_text("There was ")
    page.keyboard.press("Escape")
    is_done(chat, "Stopped.")
    asked = [body["messages"][-1] for body in server.bodies(CHATS)]
    assert asked == [said("user", "a\nb"), said("user", "c")]


def test_the_end_of_a_conversation_stays_in_sight(page: Page, server: StandIn) -> None:
    """But whoever reads further up is left there."""
    server.words = ["long\n" * 60, "and ", "more\n" * 20]
    server.gate.clear()
    chat = panel(page, "chat")
    send(chat, input="Who?")
    expect(chat.locator(".written")).to_contain_text("and")
    box = chat.locator(".turns")
    below = "one => one.scrollHeight - one.scrollTop - one.clientHeight"
    assert box.evaluate("one => one.scrollTop") > 100 and box.evaluate(below) < 2
    box.evaluate("one => one.scrollTop = 0")
    server.gate.set()
    is_done(chat)
    expect(chat.locator(".written")).to_contain_text("more")
    assert box.evaluate("one => one.scrollTop") == 0


def test_settings_that_cannot_be_are_shown(page: Page, server: StandIn) -> None:
    """Though they were folded up."""
    chat = panel(page, "chat")
    chat.locator("summary").click()
    chat.locator("[name=seed]").fill("-1")
    chat.locator("summary").click()
    expect(chat.locator("[name=seed]")).to_be_hidden()
    send(chat, input="Who?")
    expect(chat.locator("[name=seed]")).to_be_focused()
    assert server.bodies(CHATS) == []


@pytest.mark.parametrize("text", HOSTILE, ids=["markup", "controls"])
def test_what_was_said_goes_back_as_it_was_said(page: Page, server: StandIn, text: str) -> None:
    """Signs stand for characters that cannot be seen on the page alone."""
    server.words = [text]
    chat = panel(page, "chat")
    for _ in range(2):
        send(chat, input=text)
        is_done(chat)
    expect(chat.locator(".turn .text")).to_have_text([visible(text)] * 4)
    assert [message["content"] for message in server.bodies(CHATS)[1]["messages"]] == [text] * 3


def test_every_line_is_translated(page: Page, server: StandIn) -> None:
    translate = panel(page, "translate")
    send(translate, input="A man.\n\n  A dog.\n", n="2")
    is_done(translate)
    expect(translate.locator(".source")).to_have_text(["A man.", "A dog."])
    expect(translate.locator(".sentence .text")).to_have_text(["Ein Mann. 1", "Ein Mann. 2"] * 2)
    expect(translate.locator(".score")).to_have_text(["score −0.25", "score −0.50"] * 2)
    assert server.bodies("/v1/translate") == [{"model": "poems", "input": ["A man.", "A dog."], "n": 2}]


def test_many_lines_are_sent_a_few_at_a_time(page: Page, server: StandIn) -> None:
    """Trap 76: no request is so large that the server has to refuse it; the answers stay in order."""
    translate = panel(page, "translate")
    send(translate, input="\n".join(f"line {i}" for i in range(20)), n="5")
    is_done(translate)
    expect(translate.locator(".source")).to_have_text([f"line {i}" for i in range(20)])
    assert [len(body["input"]) for body in server.bodies("/v1/translate")] == [8, 8, 4]


def test_texts_are_judged_or_not(page: Page) -> None:
    judge = panel(page, "judge")
    send(judge, input="Good.\nIs it?")
    is_done(judge)
    expect(judge.locator(".label").nth(0)).to_have_text("positive")
    expect(judge.locator(".label").nth(1)).to_have_text("No label: the likeliest has only 40.0%")
    expect(judge.locator(".verdict").nth(0).locator(".figure")).to_have_text(["90.0%", "6.0%", "4.0%"])
    expect(judge.locator(".verdict").nth(0).locator(".best")).to_contain_text("positive")
    expect(judge.locator(".verdict").nth(1).locator(".best")).to_have_count(0)
    widths = (
        judge.locator(".verdict")
        .nth(0)
        .locator(".bar")
        .evaluate_all("bars => bars.map(bar => bar.firstChild.offsetWidth / bar.offsetWidth)")
    )
    assert widths == pytest.approx([0.9, 0.06, 0.04], abs=0.02)


def test_surprisal_is_seen_and_alternatives_open(page: Page, server: StandIn) -> None:
    see = panel(page, "see")
    send(see, input="The\ncat sat on")
    is_done(see)
    expect(see.locator(".figures dd")).to_have_text(["6.00", f"{6 / 0.6931 / 17:.3f}", "4"])
    expect(see.locator(".kind")).to_contain_text("Exact")
    tokens = see.locator(".token")
    expect(tokens).to_have_text(["The↵\ncat", " sat", " on", "cat"])
    classes = tokens.evaluate_all("all => all.map(one => one.className)")
    assert classes == ["token heat-none", "token heat-1", "token heat-2", "token heat-3"]
    expect(see.get_by_role("button", name="␣on: 2.00 nats")).to_be_visible()
    tokens.nth(2).click()
    beside = see.locator(".alternatives")
    expect(beside.locator("h2")).to_have_text("␣on")
    expect(beside).to_contain_text("2.00 nats: the model gave it 13.5%")
    expect(beside.locator(".piece")).to_have_text(["cat", "␣on"])
    expect(beside.locator(".figure")).to_have_text(["50.0%", "13.5%"])
    expect(beside.locator(".best .piece")).to_have_text("␣on")
    tokens.nth(0).click()
    expect(beside).to_contain_text("Nothing is asked of the model here.")
    see.get_by_label("Show the numbers").check()
    assert "2.0" in tokens.nth(2).evaluate("one => getComputedStyle(one, '::after').content")
    assert server.bodies("/v1/score")[0]["top"] == 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_heat_can_be_read(browser: Browser, server: StandIn, scheme: str) -> None:
    """Text on each of the ten shades has the contrast of 4.5 that WCAG asks for."""
    with opened(browser, server.address, color_scheme=scheme) as page:
        see = panel(page, "see")
        send(see, input=" ".join("abcdefghijk"))
        is_done(see)
        pairs = see.locator(".token").evaluate_all(
            """all => all.slice(1).map((one) => {
              const style = getComputedStyle(one);
              return [style.color, style.backgroundColor];
            })"""
        )
        card = see.locator(".map").evaluate("one => getComputedStyle(one).backgroundColor")
        assert len({shade for _, shade in pairs}) == 9
        for ink, shade in [*pairs, (pairs[0][0], card)]:
            assert contrast(ink, shade) >= 4.5, (ink, shade)


def contrast(one: str, other: str) -> float:
    """WCAG 2: (L₁ + 0.05) / (L₂ + 0.05) of the relative luminances."""
    lower, higher = sorted([luminance(one), luminance(other)])
    return (higher + 0.05) / (lower + 0.05)


def luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_curves_grow_and_only_what_is_new_is_read(browser: Browser, server: StandIn) -> None:
    server.runs, server.metrics = [a_run("old", True, 5), a_run("demo")], curve(150)
    with opened(browser, server.address) as page:
        runs = panel(page, "runs")
        expect(runs.locator(".run").nth(1)).to_have_attribute("aria-pressed", "true")
        expect(runs.locator(".run .state")).to_have_text(["finished at step 5", "step 150, not finished"])
        expect(runs.locator(".figures dd")).to_have_text(["150", "2.040", "2.533", "5,000"])
        before = runs.locator("path.train").last.get_attribute("d")
        server.metrics += curve(50, 151)
        expect(runs.locator(".figures dd").first).to_have_text("200")
        expect(runs.locator(".run .state").nth(1)).to_have_text("step 200, not finished")
        assert runs.locator("path.train").last.get_attribute("d") != before
        expect(runs.locator("path.validation")).to_have_count(1)
        afters = [int(path.rpartition("=")[2]) for _, path, _ in server.asked if "/metrics" in path]
        assert afters == sorted(afters) and afters[:3] == [0, 100, 165]
        told = runs.locator(".canvas").get_attribute("aria-label")
        assert told.startswith(
            "Training loss from 8.000 at step 1 to 2.030 at step 200; validation loss 2.525."
        )


def test_a_run_that_went_back_has_one_curve(browser: Browser, server: StandIn) -> None:
    """Steps that are logged again after a resume replace those before; a file that is new is read anew."""
    server.runs, server.metrics = [a_run()], [*curve(20), *curve(5, 8)]
    with opened(browser, server.address) as page:
        runs = panel(page, "runs")
        expect(runs.locator(".figures dd").first).to_have_text("12")
        read_off = "Training loss from 8.000 at step 1 to 2.500 at step 12; validation loss 3.000"
        expect(runs.locator(".canvas")).to_have_attribute("aria-label", re.compile(re.escape(read_off)))
        server.metrics = curve(3)
        expect(runs.locator(".figures dd").first).to_have_text("3")
        read_off = "Training loss from 8.000 at step 1 to 4.000 at step 3; validation loss –"
        expect(runs.locator(".canvas")).to_have_attribute("aria-label", re.compile(re.escape(read_off)))


def test_another_run_is_chosen_and_its_name_is_no_path(browser: Browser, server: StandIn) -> None:
    """Trap 75: an id goes into the address as one part of it; and the focus stays while the list is brought
    up to date."""
    server.runs = [a_run("../../v1/models?a=#b"), a_run("demo")]
    with opened(browser, server.address) as page:
        runs = panel(page, "runs")
        expect(runs.locator(".run").nth(1)).to_have_attribute("aria-pressed", "true")
        runs.locator(".run").nth(0).click()
        expect(runs.locator(".run").nth(0)).to_have_attribute("aria-pressed", "true")
        looks = len([1 for _, path, _ in server.asked if path == "/v1/runs"])
        server.runs[0]["step"] = 77
        expect(runs.locator(".run .state").nth(0)).to_have_text("step 77, not finished")
        expect(runs.locator(".run").nth(0)).to_be_focused()
        paths = {path for _, path, _ in server.asked if "/metrics" in path}
        assert paths == {
            f"/v1/runs/{name}/metrics?after=0" for name in ("demo", "..%2F..%2Fv1%2Fmodels%3Fa%3D%23b")
        }
        assert len([1 for _, path, _ in server.asked if path == "/v1/runs"]) > looks


def test_the_chart_is_read_with_arrow_keys(browser: Browser, server: StandIn) -> None:
    server.runs, server.metrics = [a_run()], curve(30)
    with opened(browser, server.address) as page:
        runs = panel(page, "runs")
        expect(runs.locator("svg")).to_be_visible()
        runs.locator(".canvas").focus()
        readout = runs.locator(".readout")
        for key, said in [
            ("End", "step 30: 2.200, validation 2.667"),
            ("ArrowLeft", "step 29: 2.207, validation 2.750"),
            ("Home", "step 1: 8.000, validation –"),
            ("ArrowRight", "step 2: 5.000, validation –"),
        ]:
            page.keyboard.press(key)
            expect(readout).to_have_text(said)


# ---- everything


def drive(page: Page) -> None:
    """Something of everything, so that all that can be shown is."""
    send(panel(page, "write"), prompt=HOSTILE[0])
    is_done(page.locator("#write"))
    send(panel(page, "chat"), input=HOSTILE[0])
    is_done(page.locator("#chat"))
    send(panel(page, "translate"), input=HOSTILE[1])
    is_done(page.locator("#translate"))
    send(panel(page, "judge"), input=f"{HOSTILE[0]}\n?")
    is_done(page.locator("#judge"))
    send(panel(page, "see"), input=HOSTILE[1])
    is_done(page.locator("#see"))
    page.locator("#see .token").last.click()
    expect(panel(page, "runs").locator(".curves")).to_be_visible()


def make_hostile(server: StandIn, text: str) -> None:
    server.models = [model(text, objective=text, model=text)]
    server.words = [text]
    server.texts = dict.fromkeys(server.texts, text)
    server.runs, server.metrics = [{**a_run(), "name": text, "objective": text, "model": text}], curve(5)


@pytest.mark.parametrize("text", HOSTILE, ids=["markup", "controls"])
def test_what_models_and_runs_say_stays_text(browser: Browser, server: StandIn, text: str) -> None:
    """Trap 74: no element comes of it, nothing is asked of the server for it, and no control character is
    shown."""
    make_hostile(server, text)
    with opened(browser, server.address) as page:
        drive(page)
        shown = page.evaluate("document.body.textContent")
        labels = page.evaluate("[...document.querySelectorAll('[aria-label]')].map(e => e.ariaLabel).join()")
        assert not CONTROLS.search(shown + labels)
        for name in TABS:
            assert visible(text) in (page.locator(f"#{name}").text_content() or ""), name
    asked = {path.partition("?")[0] for _, path, _ in server.asked}
    verbs = {f"/v1/{verb}" for verb in ("models", "completions", "translate", "classify", "score", "runs")}
    assert asked == {*verbs, CHATS, "/v1/runs/demo/metrics"}


@pytest.mark.parametrize("text", HOSTILE, ids=["markup", "controls"])
def test_what_the_server_refuses_is_said_as_text(browser: Browser, server: StandIn, text: str) -> None:
    """Trap 76: too much text, too many at once: the reader is told what the server says, and can go on."""
    server.refusals = {"/v1/completions": (413, text), "/v1/score": (503, text)}
    with opened(browser, server.address, refusals=True) as page:
        write = panel(page, "write")
        send(write, prompt="x")
        expect(write.locator(".problem")).to_have_text(visible(text))
        expect(write.locator(".sample")).to_have_count(0)
        see = panel(page, "see")
        send(see, input="x")
        expect(see.locator(".problem")).to_have_text(visible(text))
        server.refusals = {}
        see.locator("button[type=submit]").click()
        is_done(see)
        expect(see.locator(".problem")).to_be_hidden()


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, server: StandIn, locale: str) -> None:
    """At 360 pixels, with words that have no end."""
    make_hostile(server, "x" * 300)
    with opened(browser, server.address, locale=locale, viewport={"width": 360, "height": 740}) as page:
        done = {"en-US": "Done.", "zh-CN": "完成。"}[locale]
        for name, field in [
            ("write", "prompt"),
            ("chat", "input"),
            ("translate", "input"),
            ("judge", "input"),
            ("see", "input"),
        ]:
            send(panel(page, name), **{field: "y" * 300})
            is_done(page.locator(f"#{name}"), done)
            if name == "chat":
                page.locator("#chat summary").click()
            if name == "see":
                page.locator("#see .token").last.click()
            assert overflowing(page) == [], name
        expect(panel(page, "runs").locator("svg")).to_be_visible()
        assert overflowing(page) == []
        top = page.locator("[role=tab]").evaluate_all("all => all.map(one => one.offsetTop)")
        assert len(set(top)) == 1, "the tabs stand in one line"


def overflowing(page: Page) -> list[str]:
    """What stands out of the page's width; `[]` if the page itself does not scroll either."""
    found: list[str] = page.evaluate(
        """() => {
          const wide = document.documentElement.clientWidth;
          const out = [...document.querySelectorAll("main *, header *")].filter((one) => {
            const { right, width } = one.getBoundingClientRect();
            return width > 0 && right > wide + 0.5 && !one.closest(".unseen, option");
          });
          const scrolls = document.documentElement.scrollWidth > wide ? ["the page"] : [];
          return [...scrolls, ...out.map((one) => `${one.tagName}.${one.getAttribute("class")}`)];
        }"""
    )
    return found


def test_the_readers_language_is_spoken_and_remembered(browser: Browser, server: StandIn) -> None:
    """Also by what is already on the page when the language is switched."""
    with opened(browser, server.address, locale="zh-TW") as page:
        expect(page.locator("[role=tab]")).to_have_text(NAMES["zh"])
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        judge = panel(page, "judge")
        send(judge, input="行吗?")
        is_done(judge, "完成。")
        expect(judge.locator(".label")).to_have_text("不下判断：最可能的标签也只有 40.0%")
        switch = page.locator("#language")
        expect(switch).to_have_text("English")
        switch.click()
        expect(page.locator("[role=tab]")).to_have_text(NAMES["en"])
        expect(page.locator("html")).to_have_attribute("lang", "en")
        expect(judge.locator(".label")).to_have_text("No label: the likeliest has only 40.0%")
        expect(judge.locator("textarea")).to_have_attribute(
            "placeholder", "A quiet film that stays with you."
        )
        page.reload()
        expect(page.locator("[role=tab]")).to_have_text(NAMES["en"])
        expect(page.locator("#judge")).to_be_visible()  # the address keeps the panel
        page.locator("#language").click()
        page.reload()
        expect(page.locator("[role=tab]")).to_have_text(NAMES["zh"])


def test_keys_alone_are_enough(page: Page, server: StandIn) -> None:
    """Tab reaches the tabs, arrows go round them, Ctrl+Enter sends, Escape stops; the focus is seen where it
    is."""
    keys = page.keyboard
    expect(page.locator("#write form")).to_be_visible()
    keys.press("Tab")
    expect(page.locator("#tab-write")).to_be_focused()
    for key, name in [("ArrowLeft", "runs"), ("ArrowRight", "write"), ("End", "runs"), ("Home", "write")]:
        keys.press(key)
        expect(page.locator(f"#tab-{name}")).to_be_focused()
        expect(page.locator(f"#tab-{name}")).to_have_attribute("aria-selected", "true")
        expect(page.locator("[role=tabpanel]:visible")).to_have_id(name)
    tab_to(page, "#write select")
    tab_to(page, "#write [name=prompt]")
    keys.type("Once")
    server.gate.clear()
    keys.press("Control+Enter")
    expect(page.locator("#write .written")).to_have_text("There was ")
    keys.press("Escape")
    is_done(page.locator("#write"), "Stopped.")
    assert server.hung_up.wait(10)


def test_tokens_are_walked_with_keys(page: Page) -> None:
    see = panel(page, "see")
    see.locator("[name=input]").fill("The cat sat on")
    page.keyboard.press("Control+Enter")
    is_done(see)
    tab_to(page, "#see .token")
    tokens = see.locator(".token")
    for key, at in [
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("End", 4),
        ("ArrowRight", 4),
        ("Home", 0),
    ]:
        page.keyboard.press(key)
        expect(tokens.nth(at)).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(tokens.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(see.locator(".alternatives h2")).to_have_text("␣cat")
    page.keyboard.press("Escape")
    expect(see.locator(".alternatives h2")).to_have_count(0)
    expect(tokens.nth(1)).to_be_focused()
    page.keyboard.press("Tab")
    expect(see.locator(".token:focus")).to_have_count(0)  # the tokens are one stop on the way, not hundreds


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the focus is there; wherever it was meanwhile, it could be seen."""
    for _ in range(30):
        page.keyboard.press("Tab")
        style = "const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none'"
        assert page.evaluate(f"() => {{ {style} }}"), page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("chosen => document.activeElement.matches(chosen)", selector):
            return
    pytest.fail(f"Tab does not reach {selector}")


def test_all_that_can_be_used_has_a_name(browser: Browser, server: StandIn) -> None:
    """What a screen reader would say of every control on the page is not nothing; no id is given twice."""
    server.runs, server.metrics = [a_run()], curve(5)
    roles = {
        "button",
        "textbox",
        "slider",
        "combobox",
        "tab",
        "radio",
        "checkbox",
        "spinbutton",
        "tabpanel",
        "image",
    }
    seen: set[str] = set()
    with opened(browser, server.address) as page:
        session = page.context.new_cdp_session(page)
        for name in TABS:
            part = panel(page, name)
            if name == "chat":
                part.locator("summary").click()
            if name != "runs":
                send(part, **{"prompt" if name == "write" else "input": "a b"})
                is_done(part)
            else:
                expect(part.locator("svg")).to_be_visible()
            for found in session.send("Accessibility.getFullAXTree")["nodes"]:
                role = found.get("role", {}).get("value")
                if role in roles and not found["ignored"]:
                    assert found.get("name", {}).get("value", "").strip(), (name, found)
                    seen.add(role)
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        assert len(ids) == len(set(ids))
    assert seen >= roles - {"image"}


def test_a_key_is_asked_for_and_not_kept_on_the_disk(browser: Browser, server: StandIn) -> None:
    """Trap 75 and 78."""
    server.key = "open sesame"
    with opened(browser, server.address, refusals=True) as page:
        dialog = page.locator("dialog")
        expect(dialog).to_contain_text("has set an API key")
        dialog.locator("input").fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("did not take that key")
        dialog.locator("input").fill("open sesame")
        dialog.get_by_role("button", name="Use it").click()
        write = page.locator("#write")
        send(write, prompt="x")
        is_done(write)
        page.reload()
        expect(page.locator("#write form")).to_be_visible()
        expect(dialog).to_be_hidden()
        assert "sesame" not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")


def test_without_its_key_the_page_can_try_again(browser: Browser, server: StandIn) -> None:
    server.key = "open sesame"
    with opened(browser, server.address, refusals=True) as page:
        expect(page.locator("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(".notice")).to_contain_text("Without its key the server says nothing.")
        server.key = ""
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#write form")).to_be_visible()
        expect(page.locator(".notice")).to_have_count(0)


def test_a_server_that_breaks_off_is_noticed(browser: Browser, server: StandIn) -> None:
    """What was written stays; an answer that merely ends is not taken for whole."""
    server.words = []
    server.events = lambda body: iter(  # type: ignore[method-assign]
        ['data: {"choices": [{"index": 0, "text": "half", "finish_reason": null}]}\n\n']
    )
    with opened(browser, server.address) as page:
        write = panel(page, "write")
        send(write, prompt="")
        expect(write.locator(".problem")).to_contain_text("The answer broke off.")
        expect(write.locator(".written")).to_have_text("half")


def test_nothing_is_sent_where_there_is_no_text(page: Page, server: StandIn) -> None:
    for name in TABS[1:5]:
        part = panel(page, name)
        send(part, input=" \n ")
        expect(part.locator(".problem")).to_have_text("There is no text yet.")
        expect(part.locator("[name=input]")).to_be_focused()
    assert [path for _, path, _ in server.asked] == ["/v1/models"]
