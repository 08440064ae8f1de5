"""Read a YAML file of keys and values, such as a configuration, in bounded time and memory.

In YAML a few lines can stand for millions of values (aliases within aliases), and YAML 1.1 reads 017 as 15 and 1:30
as 90. Both are refused, and for the numbers the message says what to write.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from lstmjax.encodings import NOT_UTF8, check_text
from lstmjax.errors import ConfigError

BYTES, VALUES = 2**20, 10_000  # far more than a configuration needs
OCTAL = re.compile(r"[-+]?0[0-7_]+")
SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read the keys and values of a YAML file.

    Raises:
        ConfigError: no such file, not YAML, or no keys and values; the message names the file and the line.
    """
    path = Path(path)
    try:
        tree = yaml.load(_text(path), Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"{path}:{mark.line + 1}" if mark else f"{path}"
        raise ConfigError(f"{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{path}: cannot be read as YAML (too deeply nested)") from None
    except (TypeError, ValueError) as error:  # an impossible date, a number of thousands of digits
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: cannot be read as YAML ({error})") from None
    if not isinstance(tree, dict | None):
        raise ConfigError(f"{path}: holds a {type(tree).__name__}, expected keys and values such as 'epochs: 60'")
    return tree or {}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES + 1)
        if len(content) > BYTES:
            raise ConfigError(f"{path}: is larger than {BYTES:,} bytes, which no configuration is; is it another file?")
        check_text(path, ConfigError)
        return content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_similar_file(path)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: {NOT_UTF8}; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None


def _similar_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f", nor is there a folder {path.parent}"
    near = get_close_matches(path.name, [p.name for p in path.parent.iterdir()], 1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


class Loader(yaml.SafeLoader):
    """A safe YAML loader that reads 3e-4 as a number and refuses repeated keys and misleading numbers."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _values(node, {}) > VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"aliases (*) stand for more than {VALUES:,} values; write the values out", node.start_mark
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, f"a {key.id} is used as a key; keys are strings", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value} is given twice; remove one of them", key.start_mark
                )
            seen.add(key.value)
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Read an integer or a float, but refuse octal and base-60 notation, which YAML 1.1 reads as other numbers."""
        text = node.value
        read = self.construct_yaml_int if node.tag.endswith(":int") else self.construct_yaml_float
        number: int | float = read(node)
        if OCTAL.fullmatch(text):
            shown = text.replace("_", "")
            decimal = int(shown)
            raise yaml.constructor.ConstructorError(
                None, None,
                f"{text} is octal in YAML, {number}; write {decimal} or {number}, or '{text}' in quotes for a word",
                node.start_mark,
            )  # fmt: skip
        if SEXAGESIMAL.fullmatch(text):
            raise yaml.constructor.ConstructorError(
                None, None,
                f"{text} is a number of base 60 in YAML, {number}; write {number}, or '{text}' in quotes for a word",
                node.start_mark,
            )  # fmt: skip
        return number


for kind in ("int", "float"):
    Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.construct_number)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _values(node: yaml.Node, counted: dict[int, int]) -> int:
    """Count the values of a node with its aliases expanded; a node that contains itself is counted once."""
    if id(node) not in counted:
        counted[id(node)] = 1
        below: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        counted[id(node)] = 1 + sum(_values(part, counted) for part in below)
    return counted[id(node)]
