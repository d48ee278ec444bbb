import inspect

import pytest
from mmengine.registry import Registry

from mmfaseg.utils.config_classes import init_arguments
from mmfaseg.utils.misplaced_arguments import reject_misplaced

REMEDIES = {
    'stride': 'remove it, the stride is always 4',
    'loss': 'set head.loss',
    'size': 'not used, as the class has this argument',
}


class Part:
    @reject_misplaced(REMEDIES)
    def __init__(self, channels: int, size: int = 3) -> None:
        self.channels, self.size = channels, size


class Child(Part):
    def __init__(self, stride: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.stride = stride


def test_signature_is_kept():
    assert init_arguments(Part) == (['channels', 'size'], False)
    assert list(inspect.signature(Part).parameters) == ['channels', 'size']


def test_arguments_of_the_class_are_accepted():
    part = Part(2, size=5)
    assert (part.channels, part.size) == (2, 5)


def test_misplaced_arguments_raise_with_their_remedies():
    with pytest.raises(TypeError) as error:
        Part(2, stride=4, loss={})
    assert str(error.value) == (
        'Part does not have the arguments\n'
        '  stride: remove it, the stride is always 4\n'
        '  loss: set head.loss'
    )


def test_misplaced_arguments_raise_before_missing_ones():
    with pytest.raises(TypeError, match=r'set head\.loss'):
        Part(loss={})


def test_other_unknown_arguments_raise_as_usual():
    with pytest.raises(TypeError, match="unexpected keyword argument 'sice'"):
        Part(2, sice=5)


def test_subclass_may_have_the_argument():
    assert Child(stride=8, channels=2).stride == 8
    with pytest.raises(TypeError, match='Child does not have'):
        Child(stride=8, channels=2, loss={})


def test_registry_builds_the_class():
    registry = Registry('part', scope='mmfaseg')
    registry.register_module(module=Part)
    assert registry.build(dict(type='Part', channels=2)).size == 3
    with pytest.raises(TypeError, match=r'set head\.loss'):
        registry.build(dict(type='Part', channels=2, loss={}))
