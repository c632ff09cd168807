"""Configuration files, and what is said about them."""

from pathlib import Path

import pytest

from polybus_services.config import ConfigError, load

SECRET = "open-sesame-4711"


def written(text: str, name: str = "gateway.toml") -> Path:
    """A file in the current folder."""
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def complaint(text: str = "", **environ: str) -> str:
    """What is said about a faulty configuration."""
    with pytest.raises(ConfigError) as caught:
        load(written(text), environ)
    return str(caught.value)
