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
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo

from course_lib.errors import CourseError
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


MOST_BYTES = 1_000_000
"""A larger file is no config; it is not even read."""


def _names_something(path: str) -> str:
    if not path.strip():
        raise ValueError("must not be empty")
    return path


PathName = Annotated[str, AfterValidator(_names_something)]
"""A file, a folder or a model's name: any text but an empty one, which would be the folder that one happens to be in."""


class Config(BaseModel):
    """What all configs have in common: no unknown field, no guessing, no change once made (but see `replace`).

    A whole number passes for a float; apart from that, "3" is no number, 3.0 no whole number and true neither. What two fields
    must agree on is a `field_validator` of the later one: unlike a `model_validator`, it is asked even if a third is wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*")
    @classmethod
    def _can_be_printed(cls, value: Any) -> Any:
        texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
        if any(ord(letter) < 32 and letter not in "\n\t" for text in texts for letter in text):
            raise ValueError("holds a control character; write it anew")
        return value


AnyConfig = TypeVar("AnyConfig", bound=Config)


class ConfigError(CourseError):
    """A config file cannot be used; the message names the file, every wrong field and what it needs."""


def load_config(path: str | Path, config_class: type[AnyConfig]) -> AnyConfig:
    """Read a .yaml, .yml or .json file (// comments allowed) into `config_class`, or raise ConfigError."""
    path = Path(path)
    try:
        values = _read(path)
    except FileNotFoundError:
        near = _did_you_mean(path.name, [file.name for file in path.parent.glob("*.[jy]*")])
        raise ConfigError(f"{path}: no such file{near}. Name a config file; the course's own are in {CONFIG_FOLDER}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Name a config file that you may read.") from error
    except RecursionError:
        raise ConfigError(f'{path}: nested too deeply; a config holds "field: value" lines') from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: not readable\n  {error}\nCorrect that line; configs/ has examples of every kind."
        ) from error
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


def positive_count(text: str) -> int:
    """A whole number above 0, for argparse: the others would mean "all but the last n", or nothing."""
    number = int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number above 0")
    return number


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
    def compose_node(self, parent: Any, index: Any) -> Any:
        # Ten lines of references to references are a list of a million entries.
        if self.check_event(yaml.AliasEvent):
            raise ValueError(f"references (*name) are not read; write the value itself\n{self.peek_event().start_mark}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not all(isinstance(k, yaml.ScalarNode) for k, _ in node.value):
            raise ValueError(f"a list or a table cannot be a field's name\n{node.start_mark}")
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
    if path.exists() and not path.is_file():
        raise ValueError("is a folder; name a file in it" if path.is_dir() else "is a device or a pipe; name a file")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.stat().st_size:,} bytes are no config; at most {MOST_BYTES:,} are read")
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
    if value is _MISSING:
        return "missing"
    shown = repr(value)
    return shown if len(shown) <= 100 else f"{shown[:97]}…"
