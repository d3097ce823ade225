from dataclasses import dataclass
from pathlib import Path

import jinja2
import pytest

from hwgen.emit import render as module


@dataclass(frozen=True, kw_only=True)
class View:
    name: str


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "template_root", lambda: tmp_path)
    module.environment.cache_clear()
    yield tmp_path
    module.environment.cache_clear()


def test_template_root_holds_the_templates() -> None:
    assert (module.template_root() / "firmware" / "npu.c.j2").is_file()


def test_undefined_names_are_errors(templates: Path) -> None:
    (templates / "a.c.j2").write_text("{{ nmae }}")
    with pytest.raises(jinja2.UndefinedError, match="'nmae' is undefined"):
        module.render("a.c.j2", View(name="x"))


def test_c_passes_the_filter_and_html_is_escaped(templates: Path) -> None:
    (templates / "a.c.j2").write_text("/* {{ name | plain }} */\n")
    (templates / "a.html.j2").write_text("<p>{{ name }}</p>\n")
    assert module.render("a.c.j2", View(name="*/ x")) == "/* _/ x */\n"
    assert module.render("a.html.j2", View(name="<b>")) == "<p>&lt;b&gt;</p>\n"
