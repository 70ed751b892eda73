"""The interactive page, in a real browser without a network."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('plotly')

from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.render.error_map import judge
from cigocc_ros.render.page import write_page
from cigocc_ros.render.sheet import VoxelPanel

GRID = SEMANTIC_KITTI_GRID.with_shape((32, 32, 8))
BROWSER, DRIVER = (shutil.which(name) for name in ('chromium', 'chromedriver'))
OPTIONS = (
    '--headless=new',
    '--no-sandbox',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--use-gl=angle',
    '--use-angle=swiftshader',
    '--enable-unsafe-swiftshader',
    '--window-size=1200,800',
)
NO_NETWORK = '--host-resolver-rules=MAP * ~NOTFOUND'
WAIT_S = 60


@pytest.fixture(scope='module')
def page(tmp_path_factory) -> Path:
    truth, predicted = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.uint8)
    truth[:, 8:24, 1] = predicted[:, 4:20, 1] = CLASS_NAMES.index('road')
    predicted[20:, 20:28, 1:4] = CLASS_NAMES.index('vegetation')
    comparison = judge(predicted, truth, GRID)
    panels = [
        VoxelPanel('prediction', predicted, GRID),
        VoxelPanel('ground truth', truth, GRID),
        VoxelPanel.of_errors(comparison),
    ]
    path = tmp_path_factory.mktemp('page') / 'voxels.html'
    write_page(path, 'frame <7>', panels, np.full((40, 120, 3), (0, 200, 0), np.uint8))
    return path


def test_the_file_needs_nothing_else(page):
    text = page.read_text(encoding='utf-8')
    assert 'frame &lt;7&gt;' in text and 'frame <7>' not in text
    outside = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?!data:)([^"]+)', text)
    assert outside == []
    assert page.stat().st_size < 8e6


def test_large_grids_are_merged(tmp_path):
    labels = np.zeros(SEMANTIC_KITTI_GRID.shape, np.uint8)
    labels[::2, ::2, 8:10] = labels[1::2, ::2, 8:10] = CLASS_NAMES.index('road')
    write_page(tmp_path / 'p.html', 'x', [VoxelPanel('voxels', labels, SEMANTIC_KITTI_GRID)])
    assert (tmp_path / 'p.html').stat().st_size < 12e6
    assert 'road 16,384' in (tmp_path / 'p.html').read_text(encoding='utf-8')  # 128 x 128


@pytest.fixture(scope='module')
def browser(page, tmp_path_factory):
    """Return a headless Chromium that shows the page."""
    webdriver = pytest.importorskip('selenium.webdriver')
    if not (BROWSER and DRIVER):
        pytest.skip('no browser: install chromium and chromedriver (apt: chromium-driver)')
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp('profile')
    for word in (*OPTIONS, NO_NETWORK, f'--user-data-dir={profile}'):
        options.add_argument(word)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    service = webdriver.chrome.service.Service(DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(WAIT_S)
    try:
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


def shares(browser, tmp_path) -> dict[str, float]:
    """Return which share of the window is magenta (road), green (vegetation), blue (right)."""
    browser.save_screenshot(str(tmp_path / 'window.png'))
    with Image.open(tmp_path / 'window.png') as opened:
        red, green, blue = np.asarray(opened.convert('RGB')).astype(int)[200:].reshape(-1, 3).T
    return {
        'road': float(((red > 120) & (green < 60) & (blue > 120)).mean()),
        'vegetation': float(((red < 60) & (green > 80) & (blue < 60)).mean()),
        'right': float(((red < 120) & (blue > green) & (green > red + 30)).mean()),
    }


def wait_for(browser, tmp_path, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, WAIT_S).until(lambda _: condition(shares(browser, tmp_path)))


def press(browser, title: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    buttons = browser.find_elements('css selector', '.updatemenu-button')
    (button,) = [one for one in buttons if title in one.text]
    ActionChains(browser).move_to_element(button).click().perform()


def test_the_browser_shows_the_voxels_and_switches_between_views(browser, tmp_path):
    wait_for(browser, tmp_path, lambda s: s['road'] > 0.03 and s['vegetation'] > 0.005)
    press(browser, 'ground truth')
    wait_for(browser, tmp_path, lambda s: s['road'] > 0.03 and s['vegetation'] == 0)
    press(browser, 'errors')
    wait_for(browser, tmp_path, lambda s: s['right'] > 0.02 and s['road'] == 0)
    press(browser, 'prediction')
    wait_for(browser, tmp_path, lambda s: s['road'] > 0.03 and s['vegetation'] > 0.005)
    image = browser.find_element('css selector', 'header img')
    assert browser.execute_script('return arguments[0].naturalWidth', image) == 120
    severe = [line for line in browser.get_log('browser') if line['level'] == 'SEVERE']
    assert severe == []
