"""The doctor: describes the machine without naming it, measures it, and picks the device."""

import getpass
import json
import os
import platform
from pathlib import Path

import pytest
import torch

from telos import doctor, switches
from telos.doctor import choose_device, examine, hardware
from telos.errors import ConfigError


def test_the_description_names_neither_host_nor_user_nor_folder() -> None:
    """Trap 78: it goes into reports that are passed on."""
    text = json.dumps(hardware())
    assert str(Path.home()) not in text and str(Path.cwd()) not in text
    values = {str(value) for value in hardware().values()}
    assert not {platform.node(), getpass.getuser()} & values


def test_the_description_is_of_this_machine() -> None:
    found = hardware(torch.device("cpu"))
    assert found["device"] == "cpu" and found["torch"] == torch.__version__
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert found["threads"] == torch.get_num_threads()
    assert found["memory_bytes"] == 0 or found["memory_bytes"] > 2**28
    assert len(found["processor"]) > 2


def test_the_examination_measures_and_advises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SECONDS", 0.05)
    found = examine(device=torch.device("cpu"))
    table = json.loads(json.dumps(found.table()))
    assert table["float32"] > 1e8 and table["bfloat16"] > 0 and table["gain"] > 0
    assert table["free_disk_bytes"] > 0
    assert table["bfloat16_pays"] == (found.gain > 1.15)
    assert len(found.advice) >= 2 and all(line.endswith(".") for line in found.advice)


def test_measuring_leaves_the_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SECONDS", 0.01)
    before = torch.get_num_threads()
    assert doctor._step_rate(torch.device("cpu"), torch.float32) > 0
    assert torch.get_num_threads() == before


@pytest.fixture(autouse=True)
def a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "compiler", lambda: "g++")


def _examined(**changes: object) -> tuple[str, ...]:
    given = {
        "hardware": {"device": "cpu", "threads": 8, "cores": 8},
        "free_memory_bytes": 2**35,
        "free_disk_bytes": 2**40,
        "float32": 1e12,
        "bfloat16": 2e12,
        "gain": 1.0,
        "advice": (),
    }
    return tuple(doctor._advice(doctor.Examination(**(given | changes))))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gain": 2.0}, "mixed precision pays"),
        ({"gain": 1.1}, "stay with float32"),
        ({"free_memory_bytes": 2**30}, "1.0 GiB of memory"),
        ({"free_disk_bytes": 2**30}, "1.0 GiB of disk"),
        ({"hardware": {"device": "cpu", "threads": 1, "cores": 8}}, "1 of 8 cores"),
    ],
)
def test_advice_follows_from_what_was_found(changes: dict[str, object], expected: str) -> None:
    assert expected in " ".join(_examined(**changes))


def test_a_good_machine_gets_no_warnings() -> None:
    assert len(_examined()) == 2
    assert "memory" not in " ".join(_examined(free_memory_bytes=0)), (
        "where the system does not say, nothing is said"
    )


def test_the_fastest_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert choose_device().type == expected
        assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("wanted", ["cuda", "tpu", "", "cuda:9"])
def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: wanted == "cuda:9")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=f"device = '{wanted}'"):
        choose_device(wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_is_described_and_measured() -> None:
    found = examine()
    assert found.hardware["accelerator"] and found.hardware["accelerator_memory_bytes"] > 2**30
    assert found.bfloat16 > found.float32 > 1e11


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in ("g++", None):
        monkeypatch.setattr(doctor, "compiler", lambda found=found: found)
        assert ("no C++ compiler" in " ".join(_examined())) == (found is None)


def test_the_plain_way_of_encoding_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """And why: turned off, not installed, or not the same."""
    assert doctor._encoding_advice() == []
    with switches.without("encoding"):
        assert "TELOS_WITHOUT" in " ".join(_examined())
    monkeypatch.setattr("telos.encoding.way", lambda *given: None)
    assert "gives other ids" in " ".join(_examined())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'telos-lm[fast]'" in " ".join(_examined())
