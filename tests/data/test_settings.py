"""The `[data]` table: what is refused, with the cure; what is written back is what was read."""

import pytest

from telos.config import read, to_toml
from telos.data.settings import DataSettings
from telos.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "path must be given"),
        ({"path": "x", "source": "file"}, "no source 'file'. Did you mean 'files'"),
        ({"path": "x", "source": "python_library"}, "brings its own text"),
        ({"path": "x", "document_start": "("}, "not a regular expression"),
        ({"path": "x", "split": {"validation": 0.6, "test": 0.4}}, "must be less than 1"),
        ({"path": "x", "clean": {"normalise": "NFKC"}}, "clean.normalise"),
        ({"path": "x", "texts": "y"}, "texts"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        read(DataSettings, given)


@pytest.mark.parametrize(
    "given", [{"path": "texts"}, {"source": "python_library"}, {"path": "x", "source": "text"}]
)
def test_settings_round_trip_through_toml(given):
    import tomllib

    settings = read(DataSettings, given)
    assert read(DataSettings, tomllib.loads(to_toml(settings))) == settings


def test_small_embedded_sources_hold_out_more():
    assert read(DataSettings, {"source": "python_library"}).split.test == 0.1
    own = {"source": "python_library", "split": {"test": 0.05}}
    assert read(DataSettings, own).split.test == 0.05
    assert read(DataSettings, {"path": "x"}).split.test == 0.05
