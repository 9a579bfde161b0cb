"""Pages that tell where things are name files and names that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("docs/architecture.md", "docs/gpu.md", "CONTRIBUTING.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:engine|kernels|tests|bench|scripts|docs)/[\w./-]*)`", text))
    assert len(paths) > 8
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or ((ROOT / page).parent / target).exists(), target


def test_names_of_the_walk_are_in_their_files() -> None:
    """«`gather_edges` of `kernels/cpu/edges.py`» is there, and not only was."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    said = re.findall(r"`(\w+)`\s+of\s+`((?:engine|kernels)/[\w./]+\.py)`", text)
    assert len(said) >= 6
    for name, path in said:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(?:class|def) {name}\b", source, re.MULTILINE), f"{name} in {path}"


def test_every_room_is_in_the_table() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "engine").glob("*/__init__.py")}
    assert {room for room in rooms if f"`engine/{room}/`" not in text} == set()
