"""Pages of the site that stand elsewhere in the repository.

mkdocs calls it (``hooks`` in mkdocs.yml). A page that is also read in the
repository is written once, there, and taken from there; its links are turned
to pages of the site. What is no page, such as a source file, stays as text:
the site does not know where the repository is published.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {  # of the repository, and their places in the site
    'benchmarks/RESULTS.md': 'results.md',
    'CHANGELOG.md': 'changelog.md',
    'CONTRIBUTING.md': 'contributing.md',
    'configs/ablations/README.md': 'study.md',
    'configs/faseg/README.md': 'configs/faseg.md',
    'configs/faseg_coco/README.md': 'configs/faseg_coco.md',
    'configs/mask2former/README.md': 'configs/mask2former.md',
    'README.md': 'index.md',
}
IMAGE_SUFFIXES = {
    f'benchmarks/plots/{name}.png': f'images/{name}.png'
    for name in ('leaks', 'model_cost')
}
LINK = re.compile(
    r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]*)(#[^)\s]*)?\)'
)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and images that are not below docs/."""
    for source, target in PAGES.items():
        if source != 'README.md':  # index.md is a page of its own
            text = (ROOT / source).read_text(encoding='utf-8')
            content = turn_links(text, source, target)
            files.append(File.generated(config, target, content=content))
    for source, target in IMAGE_SUFFIXES.items():
        content = (ROOT / source).read_bytes()
        files.append(File.generated(config, target, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the links of a page below docs/ that leave it."""
    if page.file.src_uri in PAGES.values() and page.file.generated_by:
        return markdown
    source = posixpath.join('docs', page.file.src_uri)
    return turn_links(markdown, source, page.file.src_uri)


def turn_links(text: str, source: str, target: str) -> str:
    """Return a page with links that hold in the site.

    Args:
        text: the page.
        source: its path in the repository.
        target: its path in the site.
    """

    def turn(match: re.Match) -> str:
        mark, label, link, anchor = match.groups()
        if not link or re.match(r'\w+:', link):
            return match[0]
        path = posixpath.normpath(
            posixpath.join(posixpath.dirname(source), link)
        )
        place = {**PAGES, **IMAGE_SUFFIXES}.get(path)
        if place is None and path.startswith('docs/'):
            place = path.removeprefix('docs/')
        if place is None:
            return label
        if path == 'README.md':
            anchor = ''  # index.md has other sections
        here = posixpath.dirname(target) or '.'
        found = posixpath.relpath(place, here)
        return f'{mark}[{label}]({found}{anchor or ""})'

    return LINK.sub(turn, text)
