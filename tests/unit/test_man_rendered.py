"""The manual at a terminal."""

from __future__ import annotations

import pytest

from cognu.man import pages, read, rendered


def test_a_page_is_rendered_without_its_marks_and_its_examples_stay_as_they_are() -> None:
    text = "# a(1)\n\n## NAME\n\na - does `b`\n\n    $ echo `c` # d\n"
    assert rendered(text) == "a(1)\n\nNAME\n\n    a - does b\n\n        $ echo `c` # d"


@pytest.mark.parametrize(("section", "name"), pages())
def test_no_mark_is_left_in_any_page(section: str, name: str) -> None:
    lines = rendered(read(section, name)).splitlines()
    assert lines[0] == f"{name}({section})"
    assert {"NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SOURCE"} <= set(lines)
    assert not [line for line in lines if not line.startswith(" " * 8) and ("`" in line or line.startswith("#"))]
