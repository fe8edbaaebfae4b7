"""A YAML or JSON file → a checked config, or one message that names every field that is wrong.

A config is a class under `Config`. Its fields, their types, ranges and defaults are the whole specification, and pydantic does
the checking. A field with a default may be left out, every other field must be there, and nothing else may.
"""

import argparse
import difflib
import json
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from course_lib.files import write_beside

CONFIG_FOLDER = Path(__file__).parent / "configs"
"""The shipped configs."""

REASONS = {
    "int_type": "needs a whole number",
    "float_type": "needs a number",
    "finite_number": "needs a number",
    "string_type": "needs text",
    "bool_type": "needs true or false",
    "list_type": "needs a list",
    "literal_error": "needs {expected}",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "must not be empty",
    "value_error": "{error}",
}
"""What pydantic finds, in the words of this course. An error that is not here keeps pydantic's."""

_MISSING = object()
"""Stands where a field is missing. No type takes it, so pydantic says what the field needs."""


class Config(BaseModel):
    """What all configs have in common: no unknown field, no guessing, no change once made (but see `replace`).

    A whole number passes for a float; apart from that, "3" is no number, 3.0 no whole number and true neither. What two fields
    must agree on is a `field_validator` of the later one: unlike a `model_validator`, it is asked even if a third is wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)


AnyConfig = TypeVar("AnyConfig", bound=Config)


class ConfigError(ValueError):
    """A config file cannot be used; the message names the file, every wrong field and what it needs."""


def load_config(path: str | Path, config_class: type[AnyConfig]) -> AnyConfig:
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


def build_config(values: Mapping[Any, Any], config_class: type[AnyConfig], source: str) -> AnyConfig:
    """Check `values` and fill `config_class` with them, or raise a ConfigError that opens with `source`."""
    fields = {field.alias or name: field for name, field in config_class.model_fields.items()}
    gaps = {name: _MISSING for name, field in fields.items() if field.is_required()}
    try:
        return config_class.model_validate(gaps | {str(name): value for name, value in values.items()})
    except ValidationError as error:
        rows = [_describe(fault, fields) for fault in error.errors()]
    width = max(len(name) for name, _ in rows)
    head = f"{source}: {len(rows)} problem{'s' if len(rows) > 1 else ''} in the fields of {config_class.__name__}"
    lines = [f"  {name:<{width}}   {reason}" for name, reason in rows]
    raise ConfigError("\n".join([head, *lines, "Correct these; a field that has a default may also be left out."]))


def replace(config: AnyConfig, **changes: Any) -> AnyConfig:
    """A copy of a config with some fields changed, as carefully checked as a file."""
    return build_config(config.model_dump(by_alias=True) | changes, type(config), source="replace")


def save_config(config: Config, path: str | Path) -> None:
    """Write a config as JSON when `path` ends in .json, else as YAML; `load_config` reads it back."""
    path, values = Path(path), config.model_dump(by_alias=True)
    if path.suffix == ".json":
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    else:
        text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_training_command(description: str, default: str, config_class: type[AnyConfig]) -> tuple[AnyConfig, bool]:
    """Read the command line of a training: its config, and whether to go on from the last checkpoint.

    `default` is the config's name in `configs/`. Only a config with a field `skip_bad` takes --skip-bad.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, default=CONFIG_FOLDER / default)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the run folder")
    if "skip_bad" in config_class.model_fields:
        parser.add_argument("--skip-bad", action="store_true", help="leave out rows without a file or a text, and say how many")
    arguments = parser.parse_args()
    config = load_config(arguments.config, config_class)
    if getattr(arguments, "skip_bad", False):
        config = replace(config, skip_bad=True)
    return config, arguments.resume


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # Plain YAML and JSON keep the last of two equal field names and say nothing.
        return _no_twins([(self.construct_object(k, True), self.construct_object(v, True)) for k, v in node.value])


class _Dumper(yaml.SafeDumper):
    pass


for _yaml_class in (_Loader, _Dumper):
    # YAML 1.1 takes 1e-4 for text, because it wants 1.0e-4. Text that looks so is written in quotes, then.
    _yaml_class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+\Z"), list("-+0123456789")
    )


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json":
        # The first branch swallows whole strings, so that the // of "https://" never starts a comment.
        text = re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*', lambda match: match[1] or "", text)
        return json.loads(text, object_pairs_hook=_no_twins)
    if path.suffix in (".yaml", ".yml"):
        return yaml.load(text, _Loader)
    raise ValueError("a config file ends in .yaml, .yml or .json")


def _no_twins(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    names = [name for name, _ in pairs]
    if twins := {str(name) for name in names if names.count(name) > 1}:
        raise ValueError(f"given twice: {', '.join(sorted(twins))}")
    return dict(pairs)


def _describe(fault: Mapping[str, Any], fields: dict[str, FieldInfo]) -> tuple[str, str]:
    """The name of a wrong field, and what is wrong with it."""
    name, *places = fault["loc"]
    if fault["type"] == "extra_forbidden":
        return name, f"no such field{_did_you_mean(name, list(fields))}"
    value, reason = _show(fault["input"]), fault["msg"]
    if fault["type"] in REASONS:
        reason = REASONS[fault["type"]].format(**fault.get("ctx", {}))
    if isinstance(fault["input"], bool) and fault["type"] != "value_error":
        value += " (YAML reads an unquoted yes, no, on or off so)"
    if type(None) in typing.get_args(fields[name].annotation):
        reason += " or null"
    return name + "".join(f"[{place}]" for place in places), f"{value}, {reason}"


def _did_you_mean(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    return "missing" if value is _MISSING else repr(value)
