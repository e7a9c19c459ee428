"""The rules that users read."""

from __future__ import annotations

from pathlib import Path

from rocketnpu.compiler.constraints.table import CONSTRAINTS, supported_operators

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_page_of_operators_is_made_from_the_rules() -> None:
    """`python -m rocketnpu.compiler.constraints.table > docs/operators.md`."""
    assert PAGE.read_text() == supported_operators()


def test_every_rule_is_one_line_in_words() -> None:
    for kind, rules in CONSTRAINTS.items():
        for rule in rules:
            assert rule.__doc__, f"{kind}: {rule.__name__}"
            assert "\n" not in rule.__doc__.strip()
