"""Every citation of the hardware reference leads to a chapter, and to a heading of it where one is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = {path.name: path for path in (ROOT / "docs" / "hardware").glob("*.md")}

CITATION = re.compile(r"hardware/(?P<chapter>[\w-]+\.(?:md|csv))(?:,\s(?P<heading>[A-Z`][^.;:()\[\]\"]*))?")
"""A chapter, and after a comma its heading, which begins with a capital letter or with code."""
LINE_BREAK = re.compile(r"\n\s*(?:#\s|\*\s|//\s)?\s*")
MARKUP = re.compile(r"[`*#]")


def citations() -> Iterator[tuple[str, str, str]]:
    """File, chapter and heading (empty if none) of every citation in source files and pages."""
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("src/**/*.c"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("docs/*.md")]
    for file in files:
        if file != Path(__file__).resolve():
            for found in CITATION.finditer(LINE_BREAK.sub(" ", file.read_text(encoding="utf-8"))):
                yield str(file.relative_to(ROOT)), found["chapter"], found["heading"] or ""


def headings(chapter: str) -> list[str]:
    lines = CHAPTERS[chapter].read_text(encoding="utf-8").splitlines()
    return [MARKUP.sub("", line).strip() for line in lines if line.startswith("#")]


def names_a_heading(cited: str, chapter: str) -> bool:
    """Whether the cited words begin with a heading, or are the beginning of one up to a bracket, comma or colon."""
    words = MARKUP.sub("", cited).strip()
    for heading in headings(chapter):
        short = re.split(r"[(\[,:]", heading)[0].strip()
        if words.startswith((heading, short)) or heading.startswith(words):
            return True
    return False


def test_there_are_citations() -> None:
    found = list(citations())
    assert len(found) > 200
    assert sum(bool(heading) for _, _, heading in found) > 100


@pytest.mark.parametrize(("file", "chapter", "heading"), sorted(set(citations())))
def test_citation_resolves(file: str, chapter: str, heading: str) -> None:
    assert chapter in CHAPTERS, f"{file} cites hardware/{chapter}; there is {sorted(CHAPTERS)}"
    if heading:
        assert names_a_heading(heading, chapter), f"{file}: no heading {heading!r}; there is {headings(chapter)}"


def test_a_heading_that_does_not_exist_is_found() -> None:
    assert not names_a_heading("Concatenation", "layouts.md")
    assert names_a_heading("Weights", "layouts.md")
