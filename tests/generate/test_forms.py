"""Forms of Chinese poetry: the pattern and the check say the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.errors import ConfigError
from telos.generate._forms import FORMS, check_form, form_pattern
from telos.generate._settings import ConstraintSettings, FormName

WUJUE = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。"
QIJUE = "朝辞白帝彩云间，千里江陵一日还。\n两岸猿声啼不住，轻舟已过万重山。"
POEMS: dict[FormName, str] = {
    "wujue": WUJUE,
    "wulü": f"{WUJUE}\n{WUJUE}",
    "qijue": QIJUE,
    "qilü": f"{QIJUE}\n{QIJUE}",
}


def test_every_form_of_the_settings_is_one() -> None:
    assert ("", *FORMS) == ConstraintSettings.model_fields["form"].annotation.__args__  # type: ignore[union-attr]
    assert {form: (shape.characters, shape.verses) for form, shape in FORMS.items()} == {
        "wujue": (5, 4),
        "wulü": (5, 8),
        "qijue": (7, 4),
        "qilü": (7, 8),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("poem", POEMS)
def test_a_poem_is_in_its_form_and_in_no_other(form: FormName, poem: FormName) -> None:
    assert (check_form(POEMS[poem], form) == []) == (form == poem)
    assert bool(re.fullmatch(form_pattern(form), POEMS[poem])) == (form == poem)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("床前", "床"), "line 1: '床明月光' has 4 characters, not 5"),
        (("明月，", "明月亮，"), "line 2: '举头望明月亮' has 6 characters, not 5"),
        (("故乡", "故A"), "line 2: 'A' in '低头思故A' is no Chinese character"),
        (("光，", "光。"), "line 1: '床前明月光。疑是地上霜。' is not two verses that are written …，…。"),
        (("故乡。", "故乡"), "line 2: '举头望明月，低头思故乡' is not two verses that are written …，…。"),
        (("\n", "\n\n"), "line 2: '' is not two verses that are written …，…。"),
    ],
)
def test_what_is_wrong_is_said(change: tuple[str, str], fault: str) -> None:
    assert fault in check_form(WUJUE.replace(*change), "wujue")


def test_the_number_of_lines_is_said_and_a_line_end_at_the_end_is_none() -> None:
    assert check_form(WUJUE + "\n", "wujue") == []
    assert check_form(WUJUE, "wulü") == ["2 lines: a 五律 has 4, of two verses each"]


def test_rare_characters_count_and_foreign_ones_do_not() -> None:
    """Of extensions of Unicode too, four bytes each; kana and full-width letters are no such characters."""
    assert check_form(WUJUE.replace("霜", "𠀀"), "wujue") == []
    assert check_form(WUJUE.replace("霜", "の"), "wujue") and check_form(WUJUE.replace("霜", "Ａ"), "wujue")


@given(
    st.lists(
        st.sampled_from(["春", "眠不觉晓", "，", "。", "\n", "a", "床前明月光，疑是地上霜。"]), max_size=12
    )
)
def test_the_check_and_the_pattern_agree(parts: list[str]) -> None:
    text = "".join(parts).removesuffix("\n")
    assert (check_form(text, "wujue") == []) == bool(re.fullmatch(form_pattern("wujue"), text))


def test_there_is_no_other_form() -> None:
    with pytest.raises(ConfigError, match="wujue, wulü"):
        check_form("", "haiku")  # type: ignore[arg-type]
