"""The command ``mmfaseg``."""

import argparse
import re
import sys

import pytest

from mmfaseg.__main__ import COMMANDS, find_source, main, usage


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['mmfaseg', *arguments])
    monkeypatch.setattr(sys, 'path', [*sys.path])
    monkeypatch.setitem(sys.modules, '__main__', sys.modules['__main__'])
    main()


@pytest.mark.parametrize('command', COMMANDS)
def test_command_has_a_description(command):
    (line,) = re.findall(rf'^  {command} +(.+)$', usage(), re.MULTILINE)
    assert line[0].isupper()
    assert '`' not in line


@pytest.mark.parametrize('command', sorted(COMMANDS.keys() - {'env'}))
def test_command_prints_its_help(command, monkeypatch, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(monkeypatch, command, '--help')
    assert exit_.value.code == 0
    assert f'usage: mmfaseg {command} ' in capsys.readouterr().out


@pytest.mark.parametrize('command', sorted(COMMANDS.keys() - {'env'}))
def test_help_states_the_defaults(command, monkeypatch):
    parsers = []

    def stop(parser, arguments=None):
        parsers.append(parser)
        sys.exit()

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', stop)
    with pytest.raises(SystemExit):
        run(monkeypatch, command)
    (parser,) = parsers
    for action in parser._actions:
        if action.default and action.default != argparse.SUPPRESS:
            assert 'default: ' in action.help, action.option_strings


def test_every_tool_with_a_command_line_has_a_command(root):
    sources = {find_source(x).resolve() for x in COMMANDS}
    left = {
        path.relative_to(root).as_posix()
        for path in (root / 'tools').rglob('*.py')
        if 'ArgumentParser' in path.read_text() and path not in sources
    }
    assert left == {
        'tools/analysis_tools/draw_figures.py',
        'tools/analysis_tools/study_cell.py',  # a process of study.py
        'tools/dataset_converters/shapes_to_coco.py',
        'tools/demo/run_demo.py',
    }


def test_custom_imports_are_found_in_the_current_folder(
    root, tmp_path, monkeypatch, capsys
):
    (tmp_path / 'my_module_of_this_test.py').write_text('')
    config = tmp_path / 'my.py'
    base = root / 'configs/faseg/faseg_r18_1xb8-demo_shapes-128x128.py'
    config.write_text(
        f'_base_ = {str(base)!r}\n'
        "custom_imports = dict(imports=['mmfaseg', 'my_module_of_this_test'], "
        'allow_failed_imports=False)\n'
    )
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, 'flops', 'my.py', '--shape', '32', '32')
    assert 'my_module_of_this_test' in sys.modules
    assert 'one image of 32x32' in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [(), ('--help',)])
def test_without_a_command_the_list_is_printed(arguments, monkeypatch, capsys):
    run(monkeypatch, *arguments)
    assert capsys.readouterr().out == usage()


def test_unknown_command_is_named(monkeypatch):
    with pytest.raises(SystemExit, match="no command 'trian'; choose from"):
        run(monkeypatch, 'trian')
