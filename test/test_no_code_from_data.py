"""Nothing in the package runs what is in data: no pickle, no eval, no shell."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHELL_SCRIPT = REPOSITORY / 'scripts' / 'bin' / 'cigocc'
SOURCES = sorted(
    path
    for folder in ('cigocc_ros', 'launch', 'scripts', 'benchmark', 'fuzz')
    for path in (REPOSITORY / folder).rglob('*')
    if path.is_file() and (path.suffix == '.py' or folder == 'scripts') and path != SHELL_SCRIPT
)
PICKLE_MODULES = {
    'pickle',
    '_pickle',
    'cPickle',
    'dill',
    'cloudpickle',
    'joblib',
    'marshal',
    'shelve',
}
CODE_FROM_TEXT = {'eval', 'exec', 'compile', '__import__'}
YAML_LOADERS = {'load', 'load_all', 'full_load', 'full_load_all', 'unsafe_load', 'unsafe_load_all'}
SHELLS = {'os.system', 'os.popen', 'subprocess.getoutput', 'subprocess.getstatusoutput'}
# The exception that torch raises for what `weights_only` refuses is defined there.
PICKLE_ALLOWED = {('cigocc_ros/model/backbone.py', 'UnpicklingError')}


def dotted(node: ast.expr) -> str:
    """Return e.g. `np.load` for the function of a call; empty for what is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f'{dotted(node.value)}.{node.attr}'
    return ''


def keyword(call: ast.Call, name: str) -> object:
    """Return the constant given for an argument; None where it is not given as one."""
    values = [entry.value for entry in call.keywords if entry.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def problem_of_call(call: ast.Call) -> str:
    """Say what is wrong with a call; empty where nothing is."""
    name = dotted(call.func)
    module, _, function = name.rpartition('.')
    if name in CODE_FROM_TEXT or module == 'builtins' and function in CODE_FROM_TEXT:
        return f'{name} runs code from text'
    if name in SHELLS or keyword(call, 'shell') not in (None, False):
        return f'{name} starts a shell'
    if name == 'torch.load' and keyword(call, 'weights_only') is not True:
        return 'torch.load without weights_only=True'
    if module in ('np', 'numpy') and function == 'load' and keyword(call, 'allow_pickle') is True:
        return 'numpy.load with allow_pickle=True'
    if module == 'yaml' and function in YAML_LOADERS:
        return f'{name} instead of core.plain_files'
    return ''


def problems(source: str, file: str) -> list[str]:
    """Return every way in which a module could run what is in data."""
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (problem := problem_of_call(node)):
            found.append(f'{file}:{node.lineno}: {problem}')
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.partition('.')[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or '').partition('.')[0]]
        for name in PICKLE_MODULES & set(names):
            uses = {
                n.attr
                for n in ast.walk(tree)
                if isinstance(n, ast.Attribute) and dotted(n.value) == name
            }
            if not uses or any((file, use) not in PICKLE_ALLOWED for use in uses):
                found.append(f'{file}:{node.lineno}: imports {name}')
    return found


def test_nothing_in_the_package_runs_what_is_in_data():
    assert len(SOURCES) > 150
    found = []
    for path in SOURCES:
        file = path.relative_to(REPOSITORY).as_posix()
        found += problems(path.read_text(encoding='utf-8'), file)
    assert not found, '\n'.join(found)


def test_the_one_shell_script_hands_its_words_on_as_they_are():
    lines = SHELL_SCRIPT.read_text(encoding='utf-8').splitlines()
    commands = [line for line in lines if line and not line.startswith('#')]
    assert commands == ['exec "$(dirname -- "$0")/../lib/cigocc_ros/cigocc" "$@"']


@pytest.mark.parametrize(
    'line',
    [
        'import pickle',
        'from pickle import loads',
        'import pickle\npickle.loads(b"")',
        'import joblib.parallel',
        'torch.load(path)',
        'torch.load(path, weights_only=False)',
        'np.load(path, allow_pickle=True)',
        'yaml.load(text, Loader=yaml.Loader)',
        'yaml.unsafe_load(text)',
        'eval(text)',
        'exec(text)',
        'os.system(text)',
        'subprocess.run(text, shell=True)',
        'subprocess.Popen(text, shell=1)',
    ],
)
def test_the_scan_sees(line):
    assert problems(line, 'cigocc_ros/model/backbone.py')


def test_arrays_are_read_by_one_module_only():
    """`numpy.load` would allocate whatever a header says."""
    for path in SOURCES:
        file = path.relative_to(REPOSITORY).as_posix()
        if file.startswith('cigocc_ros/'):
            assert 'np.load(' not in path.read_text(encoding='utf-8'), file
