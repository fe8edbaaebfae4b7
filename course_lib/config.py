"""A YAML or JSON file → a checked config dataclass, or one message that names every field that is wrong.

The dataclass is the whole specification: its field names, types and defaults. A field with a default may be
left out, every other field must be there, and nothing else may. What a type cannot say (a range, two fields
that must agree) goes into the dataclass's method `problems(self) -> list[str]`, one "field: reason" each.
"""

import argparse
import contextlib
import dataclasses
import difflib
import json
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

Config = TypeVar("Config")

CONFIG_FOLDER = Path(__file__).parent / "configs"
"""The shipped configs."""

TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}


class ConfigError(ValueError):
    """A config file cannot be used; the message names the file, every wrong field and what it needs."""


class _WrongTypeError(Exception):
    pass


def load_config(path: str | Path, config_class: type[Config]) -> Config:
    """Read a .yaml, .yml or .json file (// comments allowed) into `config_class`, or raise ConfigError."""
    path = Path(path)
    try:
        values = _read(path)
    except FileNotFoundError:
        near = _did_you_mean(path.name, [file.name for file in path.parent.glob("*.[jy]*")])
        raise ConfigError(f"{path}: no such file{near}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not readable\n  {error}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f'{path}: a config holds "field: value" lines; this holds {_show(values)}')
    return build_config(values, config_class, source=str(path))


def read_training_command(description: str, default: str, config_class: type[Config]) -> tuple[Config, bool]:
    """Read the command line of a training: its config, and whether to go on from the last checkpoint.

    `default` is the config's name in `configs/`. Only a config with a field `skip_bad` takes --skip-bad.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, default=CONFIG_FOLDER / default)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the run folder")
    if "skip_bad" in {field.name for field in dataclasses.fields(config_class)}:
        parser.add_argument("--skip-bad", action="store_true", help="leave out rows without a file or a text, and say how many")
    arguments = parser.parse_args()
    config = load_config(arguments.config, config_class)
    if getattr(arguments, "skip_bad", False):
        config = dataclasses.replace(config, skip_bad=True)
    return config, arguments.resume


def build_config(values: Mapping[Any, Any], config_class: type[Config], source: str) -> Config:
    """Check `values` and fill `config_class` with them, or raise a ConfigError that opens with `source`.

    YAML reads 1e-4 as text, because YAML 1.1 wants 1.0e-4; a float field takes both. Whole numbers fit float
    fields. true and false fit bool fields only. `problems()` is asked once every field has its type.
    """
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class) if field.init}
    accepted: dict[str, Any] = {}
    problems = [f"{name}: no such field{_did_you_mean(name, list(fields))}" for name in values if name not in fields]
    for name, field in fields.items():
        if name in values:
            try:
                accepted[name] = _convert(values[name], hints[name])
            except _WrongTypeError:
                problems.append(f"{name}: {_show(values[name])}, needs {_describe(hints[name])}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            problems.append(f"{name}: missing, needs {_describe(hints[name])}")
    if not problems:
        config = config_class(**accepted)
        problems = getattr(config, "problems", list)()
    if problems:
        raise ConfigError(_report(source, config_class, problems))
    return config


def save_config(config: Any, path: str | Path) -> None:
    """Write a config dataclass as JSON when `path` ends in .json, else as YAML; `load_config` reads it back.

    The file appears whole or not at all: it is written beside its place and then renamed.
    """
    path = Path(path)
    as_json = json.dumps(dataclasses.asdict(config), indent=2, ensure_ascii=False, default=str)
    as_yaml = yaml.safe_dump(json.loads(as_json), sort_keys=False, allow_unicode=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(as_json + "\n" if path.suffix == ".json" else as_yaml, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # Plain YAML and JSON keep the last of two equal field names and say nothing.
        return _no_twins([(self.construct_object(k, True), self.construct_object(v, True)) for k, v in node.value])


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json":
        # The first branch swallows whole strings, so that the // of "https://" never starts a comment.
        text = re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*', lambda match: match[1] or "", text)
        return json.loads(text, object_pairs_hook=_no_twins)
    if path.suffix in (".yaml", ".yml"):
        return yaml.load(text, _StrictLoader)
    raise ValueError("a config file ends in .yaml, .yml or .json")


def _no_twins(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    names = [name for name, _ in pairs]
    if twins := {str(name) for name in names if names.count(name) > 1}:
        raise ValueError(f"given twice: {', '.join(sorted(twins))}")
    return dict(pairs)


def _convert(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for argument in arguments:
            with contextlib.suppress(_WrongTypeError):
                return _convert(value, argument)
    elif origin is Literal and (type(value), value) in [(type(choice), choice) for choice in arguments]:
        return value
    elif origin in (list, tuple) and isinstance(value, list):
        return origin(_convert(item, arguments[0]) for item in value)
    elif hint is float:
        return _to_float(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif type(value) is hint:  # isinstance would let true through as the whole number 1
        return value
    raise _WrongTypeError


def _to_float(value: Any) -> float:
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        value = float(value)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _WrongTypeError
    return float(value)


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (list, tuple):
        return f"a list, each item {_describe(arguments[0])}"
    if hint is types.NoneType:
        return "null"
    return " or ".join(map(_describe, arguments)) or TYPE_NAMES.get(hint, str(hint))


def _did_you_mean(name: Any, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name), known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return f"{str(value).lower()} (YAML reads an unquoted yes, no, on or off so)"
    return "nothing" if value is None else repr(value)


def _report(source: str, config_class: type, problems: list[str]) -> str:
    rows = [problem.partition(": ") for problem in problems]
    width = max(len(field) for field, _, _ in rows)
    head = f"{source}: {len(rows)} problem{'s'[: len(rows) > 1]} in the fields of {config_class.__name__}"
    lines = [f"  {field:<{width}}   {reason}" for field, _, reason in rows]
    return "\n".join([head, *lines, "Correct these; a field that has a default may also be left out."])
