"""Every command in the documents can be typed: parsed by what would run it, or marked why not."""

import importlib.util
import re
import shlex
from collections import Counter

import pytest
from fixtures_docs import PLACEHOLDER, REPOSITORY, document_lines, documents, lines_of

from cigocc_ros.commands.main import VERBS, build_parser, main

LINES = [line for page in documents() for line in document_lines(page)]
MAKEFILE = (REPOSITORY / 'Makefile').read_text()

# Verb -> the tests that run it for real, on small data.
RUN_BY = {
    'bag': 'data/test_bag.py',
    'average': 'commands/test_average.py',
    'build-engine': 'commands/test_build_engine.py',
    'calibrate': 'commands/test_calibrate.py',
    'demo': 'replay/test_demo.py',
    'doctor': 'commands/test_doctor.py',
    'evaluate': 'commands/test_evaluate.py',
    'export': 'export/test_cigocc_export.py',
    'infer': 'commands/test_infer.py',
    'pack': 'commands/test_pack.py',
    'parity': 'commands/test_parity.py',
    'quantize': 'commands/test_quantize.py',
    'render': 'render/test_render_command.py',
    'submit': 'commands/test_evaluate.py',
    'synthesize': 'packaging/test_docs_commands.py',
    'teacher': 'training/test_teacher_command.py',
    'train': 'training/test_train_command.py',
    'voxelize': 'data/test_voxelizer.py',
    'weights': 'commands/test_weights.py',
}

# Run verbatim, in this order, in one folder; each must stand in a document.
QUICK = (
    'cigocc doctor --no-live',
    'cigocc synthesize first --sequences 1 --frames 2 --width 320',
    'cigocc teacher --data first --teacher exact',
    'cigocc bag first/sequences/00 --right --out first_bag',
)


def check_cigocc(words):
    """Parse like the command line does; a line with `...` needs known options only."""
    parser = build_parser()
    if PLACEHOLDER not in words:
        try:
            parser.parse_args(words)
        except SystemExit as ended:
            assert not ended.code, f'cigocc {shlex.join(words)} does not parse'
        return
    verbs = next(action for action in parser._actions if action.dest == 'verb')
    known = verbs.choices[words[0]]._option_string_actions
    assert not [word for word in words if word.startswith('--') and word not in known]


def check_make(words):
    for word in words:
        name, equals, _ = word.partition('=')
        pattern = rf'^{name} \??=' if equals else rf'^{name}:.*##'
        assert re.search(pattern, MAKEFILE, re.M), f'Makefile has no {name}'


def check_python(words):
    """Check `-m MODULE` and scripts; options of scripts must stand in their source."""
    if words[:1] == ['-c']:
        return False
    if words[:1] == ['-m']:
        if words[1] in ('venv', 'colcon', 'pytest', 'pip'):
            return False
        if words[1] == 'cigocc_ros.commands.main':
            return check_cigocc(words[2:])
        path = REPOSITORY.joinpath(*words[1].split('.'))
        sources = sorted(path.glob('*.py')) or [path.with_suffix('.py')]
    else:
        sources = [REPOSITORY / words[0]]
    text = ''.join(source.read_text() for source in sources)
    for option in (word for word in words if word.startswith('--')):
        assert f"'{option}'" in text, f'{sources[0]} has no {option}'
    return True


def check_torchrun(words):
    return check_python(words[words.index('-m') :])


def check_ros2(words):
    """Check what is ours: executables, launch files and their arguments."""
    if words[:2] == ['launch', 'cigocc_ros']:
        text = (REPOSITORY / 'launch' / words[2]).read_text()
        if 'IncludeLaunchDescription(' in text:
            text += (REPOSITORY / 'launch' / 'occ.launch.py').read_text()
        for name in (word.partition(':=')[0] for word in words[3:] if word != '--show-args'):
            assert f"'{name}'" in text, f'{words[2]} declares no {name}'
        return True
    if words[:2] == ['run', 'cigocc_ros']:
        assert (REPOSITORY / 'scripts' / words[2]).is_file()
        return True
    return False


def check_pip(words):
    """Check the extras of this package; other packages need a reason."""
    extras = [re.fullmatch(r'\.\[(.+)\]', word) for word in words]
    if words[:1] != ['install'] or not any(extras):
        return False
    text = (REPOSITORY / 'setup.py').read_text()
    named = {name for extra in extras if extra for name in extra[1].split(',')}
    assert all(name == 'all' or f"    '{name}': [" in text for name in named), named
    return True


CHECKS = {
    'cigocc': check_cigocc,
    'make': check_make,
    'pip': check_pip,
    'python': check_python,
    'python3': check_python,
    'ros2': check_ros2,
    'torchrun': check_torchrun,
}


def checked(line):
    """Say whether something of the line was checked; raise AssertionError where it is wrong."""
    program, *arguments = line.words or ['']
    check = CHECKS.get('python' if program.endswith('/bin/python') else program)
    return check is not None and check(arguments) is not False


@pytest.mark.parametrize('page', sorted({line.document for line in LINES}))
def test_every_command_is_checked_or_says_why_it_is_not_run(page):
    """The reason stands above the block: <!-- not run here: needs apt ROS -->."""
    loose = [
        line.text
        for line in LINES
        if line.document == page and not checked(line) and not line.reason
    ]
    assert not loose, f'{page}: neither checked nor marked: {loose}'


def test_every_verb_is_run_by_a_test_and_shown_in_a_document():
    assert set(RUN_BY) == set(VERBS)
    shown = Counter(line.words[1] for line in LINES if line.words[:1] == ['cigocc'])
    for verb, path in RUN_BY.items():
        assert shown[verb], f'no document shows `cigocc {verb}`'
        text = (REPOSITORY / 'test' / path).read_text()
        assert verb in text or verb.replace('-', '_') in text, f'{path} does not run {verb}'


@pytest.mark.parametrize(
    'text',
    [
        'cigocc train --data dataset --modell mid',
        'cigocc dream',
        'cigocc train ... --modell mid',
        'make coffee',
        'make demo FRAME=3',
        'ros2 launch cigocc_ros occ.launch.py picture:=/camera',
        'ros2 run cigocc_ros occ_nodes',
        "pip install '.[everything]'",
        'python benchmark/quantization.py --modell mid',
        'torchrun --nproc-per-node 4 -m cigocc_ros.commands.main teach --data x',
    ],
)
def test_wrong_commands_are_found(text):
    (line,) = lines_of(f'```bash\n{text}\n```\n', 'page.md')
    with pytest.raises((AssertionError, SystemExit, KeyError)):
        checked(line)


def test_lines_are_found_and_marked():
    page = (
        '```bash\na \\\n    b  # why\nX=1 c && d\n```\ntext\n'
        '<!-- not run here: needs a GPU -->\n```console\n$ e\noutput\n```\n```yaml\nf: g\n```\n'
    )
    lines = lines_of(page, 'page.md')
    assert [(line.text, line.reason) for line in lines] == [
        ('a  b', ''),
        ('X=1 c', ''),
        ('d', ''),
        ('e', 'needs a GPU'),
    ]
    assert lines[1].words == ['c']
    assert not checked(lines[0])


def test_the_quick_commands_run_as_they_are_written(tmp_path, monkeypatch, capsys):
    for library in ('cv2', 'embreex', 'rosbags', 'tqdm'):
        pytest.importorskip(library)
    written = {line.text for line in LINES}
    monkeypatch.chdir(tmp_path)
    for text in QUICK:
        assert text in written, f'no document shows: {text}'
        assert main(shlex.split(text)[1:]) == 0, f'{text}: {capsys.readouterr()}'
    assert (tmp_path / 'first_bag' / 'metadata.yaml').is_file()
    assert list((tmp_path / 'first' / 'teacher' / 'exact').rglob('*.npz'))


def test_modules_that_documents_start_exist():
    modules = {line.words[2] for line in LINES if line.words[1:2] == ['-m']}
    for name in modules & {module for module in modules if module.startswith('cigocc_ros.')}:
        assert importlib.util.find_spec(name) is not None
