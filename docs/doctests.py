"""Show the examples of docstrings as code: a griffe extension that fences what begins with >>>."""

import re

import griffe

EXAMPLE = re.compile(r"(?m)^(?P<indent>[ \t]*)>>> .*(?:\n(?P=indent)\S.*)*")


class FencedExamples(griffe.Extension):
    """Put doctests between fences, since Markdown reads >>> as a quotation."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value)


def fenced(example: re.Match[str]) -> str:
    """Return one example with fences before and after it."""
    indent = example["indent"]
    return f"{indent}```pycon\n{example[0]}\n{indent}```"
