import flip_rules
import pytest


@pytest.mark.parametrize(
    'flip', flip_rules.FLIPS, ids=lambda flip: flip[0].replace(' ', '-')
)
def test_rule_stands_where_the_list_says(root, flip):
    _, file, old, new = flip
    source = (root / file).read_text()
    assert source.count(old) == 1
    compile(source.replace(old, new), file, 'exec')


def test_every_rule_stands_in_the_table_of_the_docs(root):
    lines = (root / 'docs/parity.md').read_text().splitlines()
    rows = [line.split(' | ') for line in lines if line.startswith('| ')]
    noticed = {row[0].removeprefix('| '): row[1:] for row in rows}
    for rule, *_ in flip_rules.FLIPS:
        golden, _ = noticed[rule]
        assert golden == 'yes', rule
