"""docs/security.md names tests: those that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_the_table_of_threats_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    missing = {name for name in named if f"def {name}(" not in sources}
    assert len(named) > 20
    assert missing == set()


def test_every_file_of_tests_that_it_names_is_there() -> None:
    for name in re.findall(r"`((?:tests/\w+/)?test_\w+\.py)`", DOCUMENT):
        assert (ROOT / name).exists() or (ROOT / "tests" / "unit" / name).exists(), name


def test_every_threat_has_a_defence_and_a_test_or_says_that_it_has_none() -> None:
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| ") and not line.startswith("| threat")]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 3, row
        assert all(cells), row
        assert "`" in cells[2] or cells[2] == "the same" or cells[2].startswith("not tested"), row
