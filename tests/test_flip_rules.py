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
