"""Texts of a kit, rendered from the typed model; a template that names what the model lacks fails at once."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **words: Any) -> str:
    """Render `templates/TEMPLATE.j2`. `version` is the package's, and names the container image."""
    return _environment().get_template(f"{template}.j2").render(version=version("fedrank"), **words)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    # Braces are Helm's and square brackets are TOML's.
    environment = Environment(
        loader=PackageLoader("deploy"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    # Texts as JSON writes them are texts in TOML and YAML too; jinja's own filter would escape for HTML.
    environment.filters["json"] = partial(json.dumps, ensure_ascii=False)
    return environment
