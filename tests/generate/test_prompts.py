"""Prompts from files: what each line is, and that a line that is none is named."""

import gzip
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from telos.errors import DataError
from telos.generate._prompts import read_prompts
from telos.generate._rows import Gap

GOOD: dict[str, tuple[str, list[str | Gap]]] = {
    "a.txt": ("one\n\n 春眠 \r\nlast", ["one", "", " 春眠 ", "last"]),
    "a.prompts": ("one\n", ["one"]),
    "a.jsonl": ('{"prompt": "a\\nb"}\n\n"plain"\n{"prompt": "", "more": 1}\n', ["a\nb", "plain", ""]),
    "b.jsonl": ('{"prompt": "a", "after": "b"}\n', [Gap("a", "b")]),
    "a.csv": ('id,prompt\n1,"a, ""b""\nc"\n\n2,春\n', ['a, "b"\nc', "春"]),
    "b.csv": ("prompt,after\na,b\n", [Gap("a", "b")]),
    "a.tsv": ('prompt\tid\n"a"\t1\n', ['"a"']),
    "empty.txt": ("", []),
}
BAD: dict[str, tuple[bytes, str]] = {
    "a.jsonl": (b'{"prompt": "a"}\n{"prompt": \n', r"a\.jsonl:2: not JSON"),
    "b.jsonl": (b'{"text": "a"}\n', r"b\.jsonl:1: there is no 'prompt'. There are the keys: 'text'"),
    "c.jsonl": (b'\n{"prompt": 3}\n', r"c\.jsonl:2: 'prompt' is an integer"),
    "d.jsonl": (b"[1]\n", r"d\.jsonl:1: this is a list"),
    "e.jsonl": (b'"\\ud800"\n', r"e\.jsonl:1: the text holds a lone surrogate"),
    "f.jsonl": (b'{"prompt": "a", "after": null}\n', r"f\.jsonl:1: 'after' is null"),
    "a.csv": (b"prompt,x\na,1\nb\n", r"a\.csv:3: 1 values in 2 columns"),
    "b.csv": (b"text\na\n", r"b\.csv:1: there is no column 'prompt'. There are: 'text'"),
    "c.csv": (b'prompt\n"a\n', r"c\.csv:2: not a row of CSV"),
    "bytes.csv": (b"prompt\na\xff\n", r"bytes\.csv:2: .*not UTF-8"),
    "bytes.tsv": (b"prompt\tafter\na\xff\tb\n", r"bytes\.tsv:2: .*not UTF-8"),
    "empty.csv": (b"", r"empty\.csv:1: there is no column 'prompt'"),
    "a.txt": (b"one\n\xff\xfe\n", r"a\.txt:2: not UTF-8"),
    "b.txt": (b"\xff\xfea\x00", r"b\.txt: this is UTF-16"),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("packed", [False, True])
def test_each_line_or_record_is_a_prompt(name: str, packed: bool, tmp_path: Path) -> None:
    text, expected = GOOD[name]
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert list(read_prompts(path)) == expected


@pytest.mark.parametrize("name", BAD)
def test_a_line_that_is_none_is_named(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_prompts(tmp_path / name))


def test_they_come_one_after_the_other(tmp_path: Path) -> None:
    """A bad line far down does not keep the first ones from being read: nothing waits for the whole file."""
    path = tmp_path / "a.jsonl"
    path.write_text('"a"\n"b"\nrubbish\n')
    prompts = read_prompts(path)
    assert (next(prompts), next(prompts)) == ("a", "b")
    with pytest.raises(DataError, match=":3:"):
        next(prompts)


def test_standard_input_is_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    given = SimpleNamespace(buffer=io.BytesIO("春\nb".encode()))
    monkeypatch.setattr(sys, "stdin", given)
    assert list(read_prompts(Path("-"))) == ["春", "b"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\n\xff")))
    with pytest.raises(DataError, match="standard input:2: not UTF-8"):
        list(read_prompts(Path("-")))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file of prompts"):
        list(read_prompts(tmp_path / "absent.txt"))
