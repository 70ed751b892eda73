"""Imports run one way, and no layer needs a library that is not its own.

core <- data, runtime <- ros        core <- model <- training, export
evaluation reads files and arrays   render shows Occupancy   commands see everything, lazily

CONTRIBUTING.md prints the whole table: `python test/test_import_boundaries.py CONTRIBUTING.md`.
"""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from cigocc_ros.core.markdown import filled, table, write_into

PACKAGE = 'cigocc_ros'
SOURCE = Path(__file__).resolve().parents[1] / PACKAGE

# Layer -> layers that it may import besides itself.
MAY_IMPORT = {
    'core': set(),
    'data': {'core'},
    'runtime': {'core'},
    'evaluation': {'core', 'data'},
    'model': {'core'},
    'training': {'core', 'data', 'evaluation', 'model', 'runtime'},
    'export': {'core', 'model', 'runtime'},
    'render': {'core', 'data'},
    'ros': {'core', 'data', 'runtime'},
    'doctor': {'core', 'runtime', 'ros'},
    'replay': {'core', 'data', 'ros'},
    'commands': {
        'core',
        'data',
        'runtime',
        'evaluation',
        'model',
        'training',
        'export',
        'render',
        'doctor',
        'replay',
    },
}

# The torch engine is the reference of the others: it alone reaches for the model, when it is made.
LAZY_EXCEPTIONS = {('runtime/torch_engine.py', 'model')}

ROS = {
    'ament_index_python',
    'builtin_interfaces',
    'cv_bridge',
    'diagnostic_msgs',
    'geometry_msgs',
    'launch',
    'nav_msgs',
    'rcl_interfaces',
    'rclpy',
    'rosgraph_msgs',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
    'tf2_ros',
    'visualization_msgs',
}
TORCH = {'lightning_fabric', 'safetensors', 'torch', 'transformers'}
OPTIONAL = {
    'PIL',
    'ai_edge_litert',
    'cv2',
    'embreex',
    'nvtx',
    'onnx',
    'onnxruntime',
    'onnxscript',
    'openvino',
    'rosbags',
    'scipy',
    'tensorboard',
    'tensorrt',
    'tensorrt_rtx',
    'tqdm',
}

# Layer -> libraries that must not be needed to import any of its modules.
IMPORTS_WITHOUT = {
    'core': ROS | TORCH | OPTIONAL,
    'data': ROS | TORCH | OPTIONAL - {'cv2', 'rosbags'},
    'runtime': ROS | TORCH | OPTIONAL,
    'evaluation': ROS | TORCH | OPTIONAL,
    'render': ROS | TORCH | OPTIONAL,
    'commands': ROS | TORCH | OPTIONAL,
    'ros': TORCH | OPTIONAL - {'cv2'} | {'cv_bridge', 'launch', 'tf2_ros', 'tf2_msgs'},
    # torch and transformers look for many a library themselves: only ours can be blocked here
    'model': ROS,
    'training': ROS,
    'export': ROS | {'tensorrt'},
    'doctor': TORCH | OPTIONAL - {'cv2'} | {'cv_bridge', 'launch', 'tf2_ros', 'tf2_msgs'},
    'replay': TORCH | OPTIONAL - {'cv2'} | {'cv_bridge', 'launch', 'tf2_ros', 'tf2_msgs'},
}

# Layer -> library without which none of it can be imported.
BUILT_ON = {
    'ros': 'rclpy',
    'doctor': 'rclpy',
    'replay': 'rclpy',
    'model': 'torch',
    'training': 'torch',
    'export': 'torch',
}

IMPORT_BLOCKED = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in FORBIDDEN:
            raise ModuleNotFoundError(f'{name} is blocked for this layer', name=name)

sys.meta_path.insert(0, Blocked())
for module in MODULES:
    importlib.import_module(module)
    loaded = FORBIDDEN & set(sys.modules)
    if loaded:
        sys.exit(f'{module} loaded {loaded}')
"""


def sources(layer):
    return sorted((SOURCE / layer).rglob('*.py'))


def module_name(path):
    parts = path.relative_to(SOURCE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imported_layers(path):
    """Yield (layer, line) for every import of another module of the package, lazy ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno}: relative import'
            module = node.module or ''
            names = [module]
            if module == PACKAGE:
                names = [f'{PACKAGE}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            head, _, rest = name.partition('.')
            layer = rest.partition('.')[0]
            if head == PACKAGE and layer in MAY_IMPORT:
                yield layer, node.lineno


def contributing_blocks():
    """Return the generated block of CONTRIBUTING.md: every allowed arrow."""
    rows = []
    for layer, allowed in MAY_IMPORT.items():
        except_for = [
            f'`{there}` ({path})' for path, there in LAZY_EXCEPTIONS if path.startswith(layer)
        ]
        others = [f'`{name}`' for name in MAY_IMPORT if name in allowed] + except_for
        rows.append((f'`{layer}`', ', '.join(others) or '-', f'`{BUILT_ON.get(layer, "numpy")}`'))
    heads = ('layer', 'may import', 'is built on')
    return {'imports': '\n'.join(table(heads, rows, left=3))}


def test_contributing_prints_the_table():
    page = (SOURCE.parent / 'CONTRIBUTING.md').read_text(encoding='utf-8')
    assert filled(page, contributing_blocks()) == page


def test_every_allowed_arrow_is_used():
    """The table says how it is, not how it might be."""
    used = {
        (layer, other)
        for layer in MAY_IMPORT
        for path in sources(layer)
        for other, _ in imported_layers(path)
        if other != layer and (path.relative_to(SOURCE).as_posix(), other) not in LAZY_EXCEPTIONS
    }
    allowed = {(layer, other) for layer, others in MAY_IMPORT.items() for other in others}
    assert used == allowed


def test_the_layers_have_no_circle():
    order, left = [], dict(MAY_IMPORT)
    while left:
        free = [layer for layer, others in left.items() if not others - set(order)]
        assert free, f'a circle among {sorted(left)}'
        order += free
        left = {layer: others for layer, others in left.items() if layer not in free}


def test_every_folder_is_a_known_layer():
    found = {path.parent.name for path in SOURCE.glob('*/__init__.py')}
    assert found == set(MAY_IMPORT)


@pytest.mark.parametrize('layer', MAY_IMPORT)
def test_imports_run_one_way(layer):
    allowed = MAY_IMPORT[layer] | {layer}
    wrong = [
        f'{path.relative_to(SOURCE)}:{line} imports {other}'
        for path in sources(layer)
        for other, line in imported_layers(path)
        if other not in allowed
        and (path.relative_to(SOURCE).as_posix(), other) not in LAZY_EXCEPTIONS
    ]
    assert not wrong


@pytest.mark.parametrize('layer', IMPORTS_WITHOUT)
def test_layer_imports_without_foreign_libraries(layer):
    needed = BUILT_ON.get(layer)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f'{needed} is not installed')
    modules = [module_name(path) for path in sources(layer)]
    assert modules
    code = f'FORBIDDEN = {IMPORTS_WITHOUT[layer]!r}\nMODULES = {modules!r}\n{IMPORT_BLOCKED}'
    if 'tensorrt' in IMPORTS_WITHOUT[layer] and needed == 'torch':
        # torch._dynamo asks whether tensorrt is there, which is not our import
        code = f'import torch._dynamo\n{code}'
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=SOURCE.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_help_of_every_verb_needs_no_optional_library():
    code = IMPORT_BLOCKED + 'from cigocc_ros.commands import main\nmain.build_parser()\n'
    blocked = ROS | TORCH | OPTIONAL
    result = subprocess.run(
        [sys.executable, '-c', f'FORBIDDEN = {blocked!r}\nMODULES = []\n{code}'],
        cwd=SOURCE.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_the_block_blocks():
    """The guard itself must fail where a forbidden library is imported."""
    code = f"FORBIDDEN = {{'yaml'}}\nMODULES = ['cigocc_ros.core.config']\n{IMPORT_BLOCKED}"
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=SOURCE.parent, capture_output=True, check=False
    )
    assert result.returncode != 0
    assert b'yaml is blocked' in result.stderr


if __name__ == '__main__':
    write_into(Path(sys.argv[1]), contributing_blocks())
