"""The dispatcher: exit codes and the one line that a user sees."""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fixtures_sequence import build_sequence

from cigocc_ros import __version__
from cigocc_ros.commands import main as dispatcher
from cigocc_ros.core.errors import DataFileError


@pytest.fixture
def run_verb(monkeypatch):
    """Return a function that runs `cigocc <verb> --count N` with a given body of run()."""

    def run(body, *words):
        module = SimpleNamespace(
            HELP='a verb',
            add_arguments=lambda parser: parser.add_argument('--count', type=int),
            run=body,
        )
        monkeypatch.setattr(dispatcher, 'verb_module', lambda verb: module)
        return dispatcher.main(['infer', *words])

    return run


def raise_(error):
    raise error


def test_arguments_reach_the_verb_and_its_code_is_returned(run_verb):
    assert run_verb(lambda args: args.count, '--count', '3') == 3


def test_a_user_error_is_one_line_and_2(run_verb, capsys):
    error = DataFileError('calib.txt:3: expected 12 numbers, found 11')
    assert run_verb(lambda args: raise_(error)) == 2
    assert capsys.readouterr().err == f'cigocc infer: {error}\n'


def test_a_missing_library_is_the_line_that_installs_it(run_verb, capsys):
    error = ModuleNotFoundError("No module named 'torch'", name='torch')
    assert run_verb(lambda args: raise_(error)) == 2
    assert "pip install '.[train]'" in capsys.readouterr().err


def test_a_bug_is_not_hidden(run_verb):
    with pytest.raises(ZeroDivisionError):
        run_verb(lambda args: 1 // 0)
    with pytest.raises(ModuleNotFoundError):
        run_verb(lambda args: raise_(ModuleNotFoundError('no', name='cigocc_ros.nowhere')))


def test_interrupt_is_130(run_verb):
    assert run_verb(lambda args: raise_(KeyboardInterrupt())) == 130


def test_version_and_unknown_verbs(run_verb, capsys):
    with pytest.raises(SystemExit) as ended:
        run_verb(lambda args: 0, '--count', 'many')
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        dispatcher.main(['--version'])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f'cigocc {__version__}\n'


@pytest.mark.parametrize(
    ('act', 'said'),
    [
        (lambda folder: (folder / 'file' / 'more').mkdir(), 'a file is in the way'),
        (lambda folder: (folder / 'file').mkdir(), 'is in the way'),
        (lambda folder: (folder / 'none').read_bytes(), 'mend the name'),
        (lambda folder: folder.read_bytes(), 'name the file'),
        (lambda folder: (folder / ('x' * 400)).touch(), 'name a shorter one'),
        (lambda folder: raise_(OSError(30, 'Read-only file system', '/mnt/x')), '/mnt/x: Read-'),
        (lambda folder: raise_(OSError(28, 'No space left on device')), 'make room'),
        (lambda folder: raise_(PermissionError(13, 'Permission denied', '/x')), 'write to'),
    ],
)
def test_what_the_system_refuses_is_one_line_and_2(run_verb, capsys, tmp_path, act, said):
    (tmp_path / 'file').touch()
    assert run_verb(lambda args: act(tmp_path)) == 2
    error = capsys.readouterr().err
    assert error.startswith('cigocc infer: ') and said in error and error.count('\n') == 1


def test_a_pipe_that_nobody_reads_is_no_error():
    words = [sys.executable, '-m', 'cigocc_ros.commands.main', 'infer', '--help']
    script = f'{shlex.join(words)} | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=False)
    assert 'Traceback' not in done.stderr


def test_full_shared_memory_is_named(run_verb, capsys):
    error = RuntimeError('unable to write to file </torch_12_34>: No space left on device (28)')
    assert run_verb(lambda args: raise_(error)) == 2
    assert '--shm-size' in capsys.readouterr().err
    with pytest.raises(RuntimeError, match='else'):
        run_verb(lambda args: raise_(RuntimeError('something else')))


def test_verbose_says_where_it_happened(run_verb, caplog):
    with caplog.at_level('INFO'):
        run_verb(lambda args: raise_(OSError(28, 'full')))
    assert 'where it happened' in caplog.text


def test_home_is_expanded_in_every_argument(monkeypatch):
    """By what argparse returns, so that no verb can forget it."""
    monkeypatch.setenv('HOME', '/home/me')
    given = argparse.Namespace(
        out=Path('~/out'),
        several=[Path('~/a'), Path('/b')],
        model='~/models/mine',
        home='~',
        name='mid',
        tilde='a~/b',
        back='~weird',
        count=3,
        nothing=None,
    )
    expected = {
        'out': Path('/home/me/out'),
        'several': [Path('/home/me/a'), Path('/b')],
        'model': '/home/me/models/mine',
        'home': '/home/me',
        'name': 'mid',
        'tilde': 'a~/b',
        'back': '~weird',
        'count': 3,
        'nothing': None,
    }
    assert vars(dispatcher.at_home(given)) == expected


VERBS_THAT_WRITE = {
    'synthesize': ['{out}'],
    'bag': ['{sequence}', '--out', '{out}'],
    'demo': ['--sequence', '{sequence}', '--out', '{out}'],
    'render': ['{sequence}', '--out', '{out}'],
}


@pytest.mark.parametrize('verb', VERBS_THAT_WRITE)
def test_an_output_that_a_file_blocks_is_no_traceback(verb, tmp_path, capsys):
    pytest.importorskip('rosbags' if verb == 'bag' else 'numpy')
    sequence = build_sequence(tmp_path / 'sequences' / '00')
    (tmp_path / 'file').touch()
    named = {'out': tmp_path / 'file' / 'out', 'sequence': sequence}
    words = [word.format(**named) for word in VERBS_THAT_WRITE[verb]]
    assert dispatcher.main([verb, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f'cigocc {verb}: ')
