"""What the pages link to is there, and nothing in them is left open."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in ROOT.rglob('*.md')
    if not any(part.startswith('.') for part in path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize(
    'page', PAGES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    links = re.findall(r'\]\(([^)#\s]+)\)', page.read_text())
    missing = [
        link
        for link in links
        if not link.startswith('http') and not (page.parent / link).exists()
    ]
    assert missing == []


def test_commands_of_the_readme_name_files_that_exist():
    text = (ROOT / 'README.md').read_text()
    paths = re.findall(r'\b(?:tools|configs)/[\w./-]+\.(?:py|sh)\b', text)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_every_experiment_stands_in_the_table_of_its_page():
    text = (ROOT / 'configs/faseg/README.md').read_text()
    names = [path.name for path in (ROOT / 'configs/faseg').glob('*.py')]
    assert [name for name in names if f']({name})' not in text] == []
    metafile = (ROOT / 'configs/faseg/metafile.yaml').read_text()
    assert [name for name in names if name not in metafile] == []
