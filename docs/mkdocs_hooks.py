"""Hooks of mkdocs: pages from other folders, links, math and RST roles.

mkdocs imports this file (``hooks`` in mkdocs.yml).
"""

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# pages that stand elsewhere in the repository, and their paths in the site
PAGES = {
    'benchmarks/HISTORY.md': 'results_history.md',
    'benchmarks/RESULTS.md': 'results.md',
    'CHANGELOG.md': 'changelog.md',
    'CONTRIBUTING.md': 'contributing.md',
    'SECURITY.md': 'security.md',
    'configs/ablations/README.md': 'ablations.md',
    'configs/ablations_camvid/README.md': 'ablations_camvid.md',
    'configs/ablations_camvid/VARIANTS.md': 'variants_camvid.md',
    'configs/faseg/README.md': 'configs/faseg.md',
    'configs/faseg_coco/README.md': 'configs/faseg_coco.md',
    'configs/mask2former/README.md': 'configs/mask2former.md',
}
IMAGES = {'benchmarks/plots/model_cost.png': 'images/model_cost.png'}
LINK = re.compile(
    r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]*)(#[^)\s]*)?\)'
)
MATH = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)
ROLE = re.compile(
    r':(?:attr|class|data|exc|func|meth|mod|obj):<code>~?([^<]*)</code>'
)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages and images that are not below docs/."""
    for source, target in PAGES.items():
        text = (ROOT / source).read_text(encoding='utf-8')
        content = convert_links(text, source, target, config.repo_url)
        files.append(File.generated(config, target, content=content))
    for source, target in IMAGES.items():
        content = (ROOT / source).read_bytes()
        files.append(File.generated(config, target, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Converts the links of the pages below docs/."""
    target = page.file.src_uri
    if target in PAGES.values():
        return markdown
    source = posixpath.join('docs', target)
    return convert_links(markdown, source, target, config.repo_url)


def on_page_content(content: str, **_: Any) -> str:
    """Renders formulas as MathML, and RST roles of docstrings as links."""
    content = MATH.sub(render_math, content)
    content = ROLE.sub(render_role, content)
    return content.replace('::</p>', ':</p>')  # RST literal blocks


def convert_links(text: str, source: str, target: str, repo_url: str) -> str:
    """Returns a page whose relative links are valid in the site.

    Args:
        text: Markdown of the page.
        source: Path of the page in the repository.
        target: Path of the page in the site.
        repo_url: Address of the repository, for links to other files.
    """

    def convert_link(match: re.Match) -> str:
        mark, label, link, anchor = match.groups()
        if not link or re.match(r'\w+:', link):
            return match[0]
        path = posixpath.normpath(
            posixpath.join(posixpath.dirname(source), link)
        )
        place = {**PAGES, **IMAGES}.get(path)
        if place is None and path.startswith('docs/'):
            place = path.removeprefix('docs/')
        if place is None:
            kind = 'tree' if (ROOT / path).is_dir() else 'blob'
            return f'{mark}[{label}]({repo_url}/{kind}/main/{path})'
        here = posixpath.dirname(target) or '.'
        found = posixpath.relpath(place, here)
        return f'{mark}[{label}]({found}{anchor or ""})'

    return LINK.sub(convert_link, text)


def render_math(match: re.Match) -> str:
    """Returns MathML for the output of ``pymdownx.arithmatex``."""
    tag, formula = match.groups()
    display = 'block' if tag == 'div' else 'inline'
    return convert(html.unescape(formula).strip(), display=display)


def render_role(match: re.Match) -> str:
    """Returns a link to the reference, or code if it lists no such name."""
    name = match[1]
    full_name = find_reference(name)
    if full_name is None:
        return f'<code>{name}</code>'
    return f'<autoref identifier="{full_name}"><code>{name}</code></autoref>'


def find_reference(name: str) -> str | None:
    """Returns the full name of an object that the reference describes."""
    last = name.rpartition('.')[2]
    for page in sorted((ROOT / 'docs/reference').glob('*.md')):
        text = page.read_text(encoding='utf-8')
        for full_name in re.findall(r'^::: (\S+)$', text, re.MULTILINE):
            if full_name.rpartition('.')[2] == last:
                return full_name
    return None
