"""The one Jinja environment: undefined names are errors, one typed view per template, one filter for text out of a model."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

import hwgen
from hwgen.emit.names import plain

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def template_root() -> Path:
    """The folder of templates: inside the package when installed from a wheel, beside it in a source tree."""
    assert hwgen.__file__ is not None
    package = Path(hwgen.__file__).parent
    shipped = package / "templates"
    return shipped if shipped.is_dir() else package.parent / "templates"


@cache
def environment() -> Environment:
    """HTML templates escape everything; in all others, text out of a model passes the filter `plain`."""
    result = Environment(
        loader=FileSystemLoader(template_root()),
        undefined=StrictUndefined,
        autoescape=select_autoescape(enabled_extensions=("html", "html.j2"), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    result.filters["plain"] = plain
    return result


def render(template: str, view: DataclassInstance) -> str:
    """The text of `template` (a path below the template folder); the view's fields are the template's only variables."""
    return environment().get_template(template).render({field.name: getattr(view, field.name) for field in fields(view)})
