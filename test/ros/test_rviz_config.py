"""What RViz shows at first sight: config/occ.rviz, and what the launch files make of it."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from cigocc_ros.core.manifest import load_manifest

pytest.importorskip('rclpy')

from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.ros.interface import OUTPUTS
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.rviz_config import write_rviz_config

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / 'config' / 'occ.rviz'
GIVEN = {'image': '/c/image', 'image_transport': 'raw', 'model': 'mid', 'output_frame': 'lidar'}


def displays(path=SHIPPED):
    config = yaml.safe_load(Path(path).read_text())
    return {d['Name']: d for d in config['Visualization Manager']['Displays']}, config


def written(tmp_path, **given):
    return displays(write_rviz_config(SHIPPED, tmp_path, **(GIVEN | given)))


def test_rviz_shows_boxes_of_the_default_model():
    shown, config = displays()
    voxels = shown['Voxels']
    assert voxels['Style'] == 'Boxes' and voxels['Color Transformer'] == 'RGB8'
    assert voxels['Selectable'] is False and voxels['Topic']['Depth'] == 1
    assert voxels['Topic']['Reliability Policy'] == 'Reliable'
    assert shown['Markers (slow)']['Enabled'] is False
    assert shown['Camera']['Topic']['Value'] == 'image'
    default = {field.name: field.default for field in fields(OccParameters)}
    frame = config['Visualization Manager']['Global Options']['Fixed Frame']
    assert frame == default['output_frame']
    grid = load_manifest(REPOSITORY / 'models' / default['model']).voxel_grid
    assert voxels['Size (m)'] == pytest.approx(grid.voxel_size_m[0])


def test_every_camera_is_heard_and_every_latched_topic_too():
    shown, _ = displays()
    for name in ('Camera', 'Overlay'):
        assert shown[name]['Topic']['Reliability Policy'] == 'Best Effort'
    latched = {row.name.replace('~', 'occ') for row in OUTPUTS if 'latched' in row.qos}
    found = {
        d['Topic']['Value']
        for d in shown.values()
        if d.get('Topic', {}).get('Durability Policy') == 'Transient Local'
    }
    assert 'occ/legend' in found and found <= latched


def test_the_overlay_draws_voxels_and_nothing_else():
    shown, _ = displays()
    overlay = shown['Overlay']
    assert overlay['Class'] == 'rviz_default_plugins/Camera'
    others = set(shown) - {'Overlay'}
    assert set(overlay['Visibility']) == others | {'Value'}
    assert {name for name in others if overlay['Visibility'][name]} == {'Voxels'}


def test_no_property_is_left_to_chance_or_ignored():
    _, config = displays()
    geometry = config['Window Geometry']
    # visualization_frame.cpp reads them into variables that it does not set
    assert geometry['Hide Left Dock'] is False and geometry['Hide Right Dock'] is False
    for name in ('Queue Size', 'Field of View'):  # not in humble, jazzy or rolling
        assert name not in SHIPPED.read_text()


def test_the_window_state_names_every_panel():
    """QMainWindow.saveState: the names of the docks as UTF-16, big endian."""
    shown, config = displays()
    state = bytes.fromhex(config['Window Geometry']['QMainWindow State'])
    panels = [panel['Name'] for panel in config['Panels']]
    images = [n for n, d in shown.items() if d['Class'].endswith(('/Image', '/Camera'))]
    for name in [*panels, *images]:
        assert name.encode('utf-16-be') in state, name
        assert config['Window Geometry'][name] == {'collapsed': False}


def test_qt_gives_the_voxels_the_room(monkeypatch):
    """Docks of the sizes that RViz's have, put where its addPane does: all to the left."""
    monkeypatch.setenv('QT_QPA_PLATFORM', 'offscreen')
    widgets = pytest.importorskip('PyQt5.QtWidgets', reason='pip install PyQt5')
    core = pytest.importorskip('PyQt5.QtCore')
    app = widgets.QApplication.instance() or widgets.QApplication([])
    least = {'Displays': 180, 'Views': 150, 'Time': 787, 'Camera': 100, 'Overlay': 100}
    window = widgets.QMainWindow()
    window.setCentralWidget(widgets.QWidget())
    window.menuBar().addMenu('File')
    bar = widgets.QToolBar('Tools')
    bar.setObjectName('Tools')
    window.addToolBar(bar)
    for name, width in least.items():
        dock = widgets.QDockWidget(name)
        dock.setObjectName(name)
        dock.setWidget(widgets.QWidget())
        dock.widget().setMinimumSize(width, 40)
        window.addDockWidget(core.Qt.LeftDockWidgetArea, dock)
    window.resize(1600, 900)
    state = displays()[1]['Window Geometry']['QMainWindow State']
    assert window.restoreState(core.QByteArray.fromHex(state.encode()))
    window.show()
    app.processEvents()
    panel = window.centralWidget()
    assert panel.width() > 900 and panel.height() > 700, (panel.width(), panel.height())
    window.close()


def test_the_launched_config_is_of_this_camera_and_model(tmp_path):
    shown, config = written(tmp_path)
    assert config['Visualization Manager']['Global Options']['Fixed Frame'] == 'lidar'
    for name in ('Camera', 'Overlay'):
        assert shown[name]['Topic']['Value'] == '/c/image'
    shown, _ = written(tmp_path, image_transport='compressed')
    for name in ('Camera', 'Overlay'):
        assert shown[name]['Topic']['Value'] == '/c/image/compressed'
    model = build_tiny_model_dir(tmp_path / 'tiny')
    size_m = load_manifest(model).voxel_grid.voxel_size_m[0]
    shown, _ = written(tmp_path, model=str(model))
    assert shown['Voxels']['Size (m)'] == size_m != displays()[0]['Voxels']['Size (m)']
    unchanged = displays(SHIPPED)[0]['Ground truth']
    assert shown['Ground truth'] == unchanged


def test_a_model_that_is_not_there_keeps_the_default(tmp_path, caplog):
    shown, _ = written(tmp_path, model='/nowhere')
    assert shown['Voxels']['Size (m)'] == displays()[0]['Voxels']['Size (m)']
    assert 'no model' in caplog.text
