"""Reading settings in layers onto a tree of msgspec structs, with errors that name the key and its origin.

Nothing in here knows what the settings mean: keys, types and defaults are those of the tree.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import inspect

VARIABLE = "POLYBUS_"
"""What the variables of this program begin with."""

SHOWN_CHARACTERS = 60
"""How much of a wrong value an error repeats."""


class ConfigError(Exception):
    """The configuration cannot be used; the text is one sentence for the person who wrote it."""


class Settings:
    """The settings of a tree of structs, and the layers read so far.

    Args:
        tree: the sections by name, with the defaults in them: structs, which may hold structs, or dicts of them.
        secrets: dotted keys whose values no error may repeat.
    """

    def __init__(self, tree: Mapping[str, Any], *, secrets: frozenset[str] = frozenset()) -> None:
        self._tree = tree
        self._types: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        for key, type_, value in _leaves(tree):
            self._types[key] = type_
            self._values[key] = value
        self._secrets = secrets
        self.sources: dict[str, str] = {}
        """Where each value came from; one that is not here is a default."""

    def values(self) -> dict[str, Any]:
        """All settings, by dotted key."""
        return dict(self._values)

    def build(self) -> dict[str, Any]:
        """The tree with the settings read so far in it.

        Raises:
            ConfigError: values that do not go together.
        """
        return {name: self._build(node, f"{name}.") for name, node in self._tree.items()}

    def error(self, key: str, problem: str) -> ConfigError:
        """What is wrong with a setting, in one sentence."""
        source = self.sources.get(key)
        return ConfigError(f"{key}{f' ({source})' if source else ''}: {problem}")

    def read_file(self, path: Path) -> None:
        """Read a TOML file.

        Raises:
            ConfigError: it cannot be read, is not TOML, or has a key or value that is wrong.
        """
        text, tables = _read_toml(path)
        for key, value in self._flatten(tables, ""):
            line = _line_of(text, key)
            where = f"{path}:{line}" if line else str(path)
            if key not in self._types:
                raise self._unknown(key, where, is_table=isinstance(value, dict))
            self._set(key, value, where)

    def read_variables(self, environ: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        """Read the environment: first the aliases, then `POLYBUS_<SECTION>__<KEY>`, which win.

        Args:
            environ: the environment; an empty variable counts as not set.
            aliases: names of other variables to the keys they stand for.

        Raises:
            ConfigError: a `POLYBUS_` variable that means nothing, or a value that is wrong.
        """
        usual = {variable_of(key): key for key in self._types}
        flat = {name.replace("__", "_"): name for name in usual}
        # A setting of its own may be named like the file of a secret (`nats.password_file`): it is the one meant.
        meant = self._with_files(aliases) | self._with_files(usual) | dict(aliases) | usual
        for name in environ:
            # Kubernetes adds POLYBUS_SERVICE_HOST and the like by itself: of names without `__`, only near misses
            # of ours are errors.
            if name in flat and name not in usual:
                raise ConfigError(f"the variable {name} means nothing: write {flat[name]}")
            if name.startswith(VARIABLE) and "__" in name and name not in meant:
                key = name.removeprefix(VARIABLE).lower().replace("__", ".")
                raise self._unknown(key, f"the variable {name}", is_table=False)
        for name, key in meant.items():
            text = environ.get(name)
            if text and name.endswith("_FILE") and key in self._secrets:
                plain = name.removesuffix("_FILE")
                if environ.get(plain):
                    raise ConfigError(f"{key}: both {plain} and {name} are set; keep one of them")
                text = _read_secret(key, name, Path(text))
            if text:
                self.set_text(key, text, name)

    def set_text(self, key: str, text: str, source: str) -> None:
        """Set one value from text, read by the setting's type.

        Raises:
            ConfigError: the text is no such value.
        """
        self._set(key, text, source, from_text=True)

    def set_value(self, key: str, value: object, source: str) -> None:
        """Set one value as a program gives it.

        Raises:
            ConfigError: it is no such value.
        """
        self._set(key, value, source)

    def _set(self, key: str, value: object, source: str, *, from_text: bool = False) -> None:
        kind = self._types[key]
        try:
            converted = msgspec.convert(value, kind, strict=not from_text)
            if isinstance(converted, float) and not math.isfinite(converted):
                raise ValueError
        except ValueError:
            shown = "" if key in self._secrets or key.endswith("url") else f"{_shown(value)} is not valid; "
            raise ConfigError(f"{key} ({source}): {shown}expected {describe(kind)}") from None
        self._values[key] = converted
        self.sources[key] = source

    def _build(self, node: Any, prefix: str) -> Any:
        if isinstance(node, dict):
            return {name: self._build(child, f"{prefix}{name}.") for name, child in node.items()}
        changes: dict[str, Any] = {}
        for field in msgspec.structs.fields(node):
            key, value = prefix + field.name, getattr(node, field.name)
            changes[field.name] = self._values[key] if key in self._values else self._build(value, f"{key}.")
        try:
            return msgspec.structs.replace(node, **changes)
        except ValueError as error:  # what a struct says about values that do not go together
            section = prefix.rstrip(".")
            places = {source for key, source in self.sources.items() if key.startswith(prefix)}
            raise ConfigError(f"{section} ({', '.join(sorted(places))}): {error}") from None

    def _flatten(self, table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        """The leaves of TOML tables; a table that is no section comes out whole, to be complained about."""
        for name, value in table.items():
            key = prefix + name
            if isinstance(value, dict) and (key in self._tree or self._children(f"{key}.")):
                yield from self._flatten(value, f"{key}.")
            else:
                yield key, value

    def _unknown(self, key: str, where: str, *, is_table: bool) -> ConfigError:
        """An error for a key that does not exist, naming those that do in the nearest section that exists."""
        if key in self._tree or self._children(f"{key}."):
            children = ", ".join(self._children(f"{key}.")) or "tables of its own"
            return ConfigError(f"{key} ({where}): this is a section, with {children}; not a value")
        section, _, name = key.rpartition(".")
        while section and not self._children(f"{section}."):
            section, _, name = section.rpartition(".")
        prefix = f"{section}." if section else ""
        siblings = self._children(prefix)
        close = difflib.get_close_matches(name, siblings, 1)
        hint = f"did you mean {prefix}{close[0]}?" if close else f"there are {', '.join(siblings)}"
        kind = "section" if is_table or not section else "key"
        return ConfigError(f"{prefix}{name} ({where}): there is no such {kind}; {hint}")

    def _children(self, prefix: str) -> list[str]:
        """The names right below a section, in order; `prefix` ends with a dot, or is empty for the top."""
        if not prefix:
            return list(self._tree)
        below = (known[len(prefix) :] for known in self._types if known.startswith(prefix))
        return list(dict.fromkeys(name.split(".")[0] for name in below))

    def _with_files(self, names: Mapping[str, str]) -> dict[str, str]:
        """The variables, and for each secret one more that names a file."""
        return dict(names) | {f"{name}_FILE": key for name, key in names.items() if key in self._secrets}


def named_tables(path: Path, section: str) -> list[str]:
    """The names right below a section of a TOML file, whatever they are the names of.

    Raises:
        ConfigError: the file cannot be read, or is not TOML.
    """
    _, tables = _read_toml(path)
    named = tables.get(section)
    return list(named) if isinstance(named, dict) else []


def _read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_bytes().decode("utf-8")
        return text, tomllib.loads(text)
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a TOML file: it is not UTF-8 text") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"the configuration file {path} cannot be read: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {_uncapitalised(str(error))}") from None


def variable_of(key: str) -> str:
    """The environment variable of a key: `nats.url` is `POLYBUS_NATS__URL`."""
    return VARIABLE + key.upper().replace(".", "__")


def describe(kind: Any) -> str:
    """What values a type allows, in words."""
    if get_origin(kind) is Literal:  # whose values `inspect` would sort
        *values, last = get_args(kind)
        return f"{', '.join(values)} or {last}"
    match kind if isinstance(kind, inspect.Type) else inspect.type_info(kind):
        case inspect.Metadata(extra_json_schema={"description": str(words)}):
            return words
        case inspect.Metadata(type=inner):
            return describe(inner)
        case inspect.UnionType(types=types):
            return describe(next(one for one in types if not isinstance(one, inspect.NoneType)))
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() as number:
            return f"a whole number{_bounds(number)}"
        case inspect.FloatType() as number:
            return f"a number{_bounds(number)}"
        case inspect.StrType():
            return "text"
        case other:
            return str(other)


def _bounds(number: inspect.IntType | inspect.FloatType) -> str:
    if number.ge is not None and number.le is not None:
        return f" from {number.ge} to {number.le}"
    words = (("above", number.gt), ("of at least", number.ge), ("below", number.lt), ("at most", number.le))
    return ",".join(f" {word} {bound}" for word, bound in words if bound is not None)


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each setting below a node: dotted key, type, value."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _leaves(child, f"{prefix}{name}.")
        return
    for field in msgspec.structs.fields(node):
        key, value = prefix + field.name, getattr(node, field.name)
        if isinstance(value, dict | msgspec.Struct):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, field.type, value


def _read_secret(key: str, name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{key} ({name}): {path} is not text") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{key} ({name}): {path} cannot be read: {reason}") from None


def _line_of(text: str, key: str) -> int | None:
    """The line of a key in a TOML file, found by looking; None where it is written in a way not looked for."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            section = header[1]
            if section == key:
                return number
        elif assignment := re.match(r"\s*([A-Za-z0-9_.-]+)\s*=", line):
            found = f"{section}.{assignment[1]}" if section else assignment[1]
            if found == key or (key.startswith(f"{found}.") and "{" in line):
                return number
    return None


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _uncapitalised(text: str) -> str:
    return text[:1].lower() + text[1:]
