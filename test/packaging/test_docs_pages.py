"""The pages hang together: links lead somewhere, the index is whole, numbers are right."""

import ast
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import yaml
from fixtures_docs import REPOSITORY, documents

from cigocc_ros import __version__
from cigocc_ros.core.rotation import rigid_transform

DOCS = REPOSITORY / 'docs'
PAGES = documents()


def anchors(text):
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.+)$', text, re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links_and_pictures_exist(path):
    text = path.read_text(encoding='utf-8')
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' in target:
            continue
        name, _, anchor = target.partition('#')
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f'{path.name}: {target}'
        if anchor:
            assert anchor in anchors(found.read_text(encoding='utf-8')), f'{path.name}: {target}'


def test_the_index_names_every_page():
    index = (DOCS / 'README.md').read_text()
    missing = [p.name for p in DOCS.glob('*.md') if f'({p.name})' not in index]
    assert missing == ['README.md']


def test_the_readme_starts_with_sentence_picture_and_commands():
    lines = (REPOSITORY / 'README.md').read_text().splitlines()
    screen = '\n'.join(lines[:24])
    assert lines[2] and '![' in screen
    for command in ('make demo', 'make test', 'ros2 launch cigocc_ros occ.launch.py'):
        assert re.search(rf'^{command}', screen, re.M), command
    assert screen.index('![') < screen.index('make demo')


def test_other_pages_quoted_by_section_have_it():
    """`[page.md](page.md), "Section"` names a heading, or a part of one."""
    for path in PAGES:
        text = path.read_text(encoding='utf-8')
        for name, section in re.findall(r'\]\(([\w./]+\.md)\),\s+"([^"]+)"', text):
            headings = (path.parent / name).read_text(encoding='utf-8')
            assert section in headings, f'{path.name}: {name} has no {section!r}'


ROOTS = ('', 'cigocc_ros', 'test', 'docs', 'benchmark')
NOT_OURS = ('sequences/', 'runs/', 'realsense2_camera/', 'zed_wrapper/')


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_sources_that_pages_name_exist(path):
    """Paths as a reader would type them: from the root, or within the package or the tests."""
    text = re.sub(r'```.*?```', '', path.read_text(encoding='utf-8'), flags=re.S)
    text = re.sub(r'in the history \(.*?\)', '', text, flags=re.S)
    named = set(re.findall(r'`((?:[\w.-]+/)+[\w.-]+\.(?:py|xml|rviz|toml|tsv))(?:::\w+)?`', text))
    named |= set(
        re.findall(r'`((?:cigocc_ros|test|config|launch|docker|benchmark)/[\w/]+)`', text)
    )
    places = [REPOSITORY / root for root in ROOTS]
    gone = [name for name in named if not any((place / name).exists() for place in places)]
    assert not [name for name in gone if not name.startswith(NOT_OURS)]


def dropped_reasons():
    """Return every reason for which the node drops frames or priors."""
    reasons = set()
    for path in (REPOSITORY / 'cigocc_ros' / 'ros').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'DroppedFrame':
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    reasons.add(first.value)
    return reasons


def test_troubleshooting_explains_every_reason_of_a_dropped_frame():
    text = (DOCS / 'troubleshooting.md').read_text()
    reasons = dropped_reasons()
    assert len(reasons) > 10
    assert not sorted(reason for reason in reasons if f'`{reason}`' not in text)


def test_rotations_of_the_camera_page_look_down_as_stated():
    rows = re.findall(r'\| (\d+)° \| `\[([^]]+)\]` \|', (DOCS / 'camera.md').read_text())
    assert len(rows) >= 3
    for degrees, numbers in rows:
        quaternion = [float(number) for number in numbers.split(',')]
        axis = rigid_transform([0, 0, 0], quaternion)[:3, 2]
        down = np.radians(float(degrees))
        np.testing.assert_allclose(axis, [np.cos(down), 0, -np.sin(down)], atol=2e-4)


def test_the_drawing_is_a_picture_with_the_numbers_of_the_grid():
    root = ElementTree.parse(DOCS / 'frames.svg').getroot()
    assert root.tag.endswith('svg')
    text = ' '.join(''.join(node.itertext()) for node in root.iter() if node.tag.endswith('text'))
    for words in ('51.2 m', 'y = 25.6 m', 'z = 4.4 m', 'z = -2 m', 'velo_link', 'z forward'):
        assert words in text, words


def test_yaml_of_the_pages_is_yaml_and_names_parameters():
    declared = yaml.safe_load((REPOSITORY / 'config' / 'occ.param.yaml').read_text())
    known = declared['/**']['ros__parameters']
    blocks = re.findall(r'```yaml\n(.*?)```', (DOCS / 'camera.md').read_text(), re.S)
    assert blocks
    for block in blocks:
        given = yaml.safe_load(block)['/**']['ros__parameters']
        for group, values in given.items():
            assert set(values) <= set(known[group])


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((REPOSITORY / 'CITATION.cff').read_text())
    assert citation['cff-version'] == '1.2.0' and citation['license'] == 'Apache-2.0'
    assert citation['version'] == __version__
    assert citation['message'] and citation['title'] and citation['authors']
    assert citation['references'][0]['identifiers'][0]['value'] == 'arXiv:2510.13198'
    changelog = (REPOSITORY / 'CHANGELOG.rst').read_text()
    assert f'{__version__} ({citation["date-released"]})' in changelog
