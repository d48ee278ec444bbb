"""The explorer page in Chromium, or in the browser at ``$CHROMIUM``.

.ci/run installs Chromium. Without a browser, these tests are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from mmfaseg.datasets.shapes_generator import generate_shapes

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip('playwright.sync_api')
CHROMIUM = os.environ.get('CHROMIUM') or shutil.which('chromium')
IN_CI = bool(os.environ.get('MMFASEG_NEEDS_CHROMIUM'))
SIZE = (96, 128)


@pytest.fixture(scope='module')
def browser():
    if CHROMIUM is None:
        assert not IN_CI, 'chromium is required but not installed'
        pytest.skip('chromium is not installed: apt-get install chromium')
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=['--no-sandbox']
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page; any error or warning of the browser fails the test."""
    errors = []
    page = browser.new_page(viewport=dict(width=1440, height=1000))
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.on(
        'console',
        lambda message: (
            errors.append(message.text)
            if message.type in ('error', 'warning')
            else None
        ),
    )
    page.on('requestfailed', lambda x: errors.append(x.url))
    yield page
    page.close()
    assert errors == []


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    for n in range(2):
        image = generate_shapes(n, 'test', SIZE)[0]
        cv2.imwrite(str(folder / f'shapes_{n}.png'), image)
    return folder


@pytest.fixture(scope='module')
def address(work_dir, baseline_dir, images, tmp_path_factory):
    """A server with two networks and two images."""
    log = tmp_path_factory.mktemp('server') / 'log.txt'
    with log.open('w') as file:
        process = subprocess.Popen(
            [
                *(sys.executable, '-m', 'mmfaseg.explore', str(work_dir)),
                *(str(images), '--compare', str(baseline_dir), '--serve'),
                *('--port', '0', '--device', 'cpu'),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    line = None
    while line is None:
        time.sleep(0.2)
        line = re.search(r'running on (http://\S+)', log.read_text())
        if process.poll() is not None:
            pytest.fail(log.read_text())
    yield f'{line[1]}/'
    process.terminate()
    process.wait(20)


def wait_until_drawn(page):
    """Waits until the latest state is drawn."""
    page.wait_for_function(
        'requested > 0 && document.body.dataset.drawn === String(requested)'
    )


def pixels(page, kind, model=0):
    """Returns the pixels of a canvas."""
    values = page.evaluate(
        """([kind, model]) => {
          const canvas = document.querySelectorAll('canvas.' + kind)[model];
          const { width, height } = canvas;
          const context = canvas.getContext('2d');
          const { data } = context.getImageData(0, 0, width, height);
          return [height, width, Array.from(data)];
        }""",
        [kind, model],
    )
    height, width, data = values
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def pressed(page, model=0):
    chips = page.locator('.model').nth(model).locator('.queries button')
    states = chips.evaluate_all('x => x.map((y) => y.ariaPressed)')
    return states.index('true')


def test_page_opens_from_a_file(work_dir, images, tmp_path, page):
    out = tmp_path / 'focus.html'
    subprocess.run(
        [
            *(sys.executable, '-m', 'mmfaseg.explore', str(work_dir)),
            *(str(images / 'shapes_0.png'), '--out', str(out)),
            *('--device', 'cpu'),
        ],
        check=True,
        capture_output=True,
    )
    page.context.set_offline(True)
    page.goto(out.as_uri())
    wait_until_drawn(page)
    assert page.locator('canvas').count() == 3
    assert not page.locator('#source').is_visible()
    assert page.locator('#layer').get_attribute('max') == '4'
    assert 'layer 0' in page.locator('figcaption').first.inner_text()


def test_page_shows_the_first_image_with_both_networks(address, page):
    page.goto(address)
    wait_until_drawn(page)
    assert page.locator('.model h2').all_inner_texts() == [
        'faseg_r18_1xb8-demo_shapes-128x128',
        'mask2former_r18_1xb8-1k_shapes-128x128',
    ]
    # three times as large, with an outline, a track and windows drawn on it
    shown = pixels(page, 'image')[1::3, 1::3].astype(int)
    image = generate_shapes(0, 'test', SIZE)[0][..., ::-1]
    same = (np.abs(shown - image).max(-1) <= 2).mean()
    assert shown.shape == image.shape and 0.5 < same < 1
    for kind in ('focus', 'preference'):
        assert pixels(page, kind).std() > 1


def test_scale_is_shown_and_uniform_attention_is_marked(address, page):
    page.goto(address)
    wait_until_drawn(page)
    ticks = page.locator('#scale .ticks span').all_inner_texts()
    assert ticks == ['0.1×', '1×', '10×', '100×']
    assert 'focus · at most ' in page.locator('figcaption').nth(1).inner_text()
    for threshold in (0, 2):
        page.evaluate('(x) => { DATA.nearlyUniform = x; draw(); }', threshold)
        wait_until_drawn(page)
        shown = page.locator('td.uniform').count()
        assert shown == (2 if threshold == 0 else 0)  # of each network


def test_slider_selects_layer(address, page):
    page.goto(address)
    wait_until_drawn(page)
    slider = page.locator('#layer')
    assert slider.get_attribute('max') == '8'  # the baseline has nine layers
    seen = []
    for layer in range(5):
        slider.fill(str(layer))
        wait_until_drawn(page)
        stride = (32, 16, 8, 4, 32)[layer]
        caption = page.locator('figcaption').first.inner_text()
        assert f'layer {layer} · stride {stride}' in caption
        assert ('windows' in caption) == (stride == 4)
        seen.append(pixels(page, 'focus').tobytes())
    assert len(set(seen)) == 5
    slider.press('ArrowRight')
    wait_until_drawn(page)
    # FASeg stays at its last layer, the baseline continues
    assert pixels(page, 'focus').tobytes() == seen[-1]
    captions = page.locator('figcaption').all_inner_texts()
    assert 'layer 4' in captions[0] and 'layer 5' in captions[3]


def test_click_selects_query_of_pixel(address, page):
    page.goto(address)
    wait_until_drawn(page)
    canvas = page.locator('canvas.image').first
    box = canvas.bounding_box()
    found = set()
    for share in (0.05, 0.3, 0.5, 0.7, 0.95):
        place = dict(x=share * box['width'], y=share * box['height'])
        canvas.click(position=place)
        wait_until_drawn(page)
        for model in range(2):
            (column, row), owner = page.evaluate(
                """(n) => {
                  const { marked, owners } = state.models[n];
                  return [marked, owners[4 * (marked[1] * 128 + marked[0])]];
                }""",
                model,
            )
            assert abs(row + 0.5 - share * SIZE[0]) <= 1.5
            assert abs(column + 0.5 - share * SIZE[1]) <= 1.5
            assert pressed(page, model) == owner
            found.add((model, owner))
    assert len(found) > 2


def test_chip_selects_query(address, page):
    page.goto(address)
    wait_until_drawn(page)
    before = pixels(page, 'focus').tobytes()
    chips = page.locator('.model').first.locator('.queries button')
    chips.nth(1).click()
    wait_until_drawn(page)
    assert pressed(page) == 1 and pressed(page, 1) == 0
    assert pixels(page, 'focus').tobytes() != before
    number = chips.nth(1).inner_text().split(' ')[0]
    assert (
        f'query {number} predicts'
        in page.locator('.prediction').first.inner_text()
    )


def test_upload_example_and_invalid_file(address, page, images, tmp_path):
    page.goto(address)
    wait_until_drawn(page)
    first = pixels(page, 'image').tobytes()
    page.locator('#examples').select_option('shapes_1.png')
    page.wait_for_function(
        'document.getElementById("message").textContent === ""'
    )
    wait_until_drawn(page)
    second = pixels(page, 'image').tobytes()
    assert second != first
    page.locator('#file').set_input_files(images / 'shapes_0.png')
    page.wait_for_function(
        'document.getElementById("message").textContent === ""'
    )
    wait_until_drawn(page)
    assert pixels(page, 'image').tobytes() == first
    page.locator('#examples').select_option('shapes_1.png')  # once more
    page.wait_for_function(
        'document.getElementById("message").textContent === ""'
    )
    wait_until_drawn(page)
    assert pixels(page, 'image').tobytes() == second
    upright = tmp_path / 'upright.jpg'
    cv2.imwrite(str(upright), generate_shapes(3, 'test', (160, 70))[0])
    page.locator('#file').set_input_files(upright)
    page.wait_for_function('state.models[0].data.size[0] === 160')
    wait_until_drawn(page)
    assert pixels(page, 'image').shape == (320, 140, 3)


def test_server_errors_are_shown(address, browser, tmp_path):
    """The browser logs the status 400, which is expected here."""
    page = browser.new_page()
    page.goto(address)
    wait_until_drawn(page)
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'no image')
    page.locator('#file').set_input_files(broken)
    page.wait_for_selector('#message.error')
    message = page.locator('#message').inner_text()
    assert message.startswith('broken.png cannot be read')
    assert page.locator('canvas').count() == 6  # the previous image stays
    page.close()


def test_switches_and_playback(address, page):
    page.goto(address)
    wait_until_drawn(page)
    smooth = pixels(page, 'focus').tobytes()
    page.locator('#smooth').uncheck()
    wait_until_drawn(page)
    assert pixels(page, 'focus').tobytes() != smooth
    plain = pixels(page, 'image').astype(int)
    page.locator('#classes').check()
    wait_until_drawn(page)
    assert np.abs(pixels(page, 'image') - plain).mean() > 5
    page.locator('#play').click()
    page.wait_for_function('state.layer >= 2', timeout=10_000)
    page.locator('#play').click()
    wait_until_drawn(page)
    layer = page.evaluate('state.layer')
    page.wait_for_timeout(1200)
    assert page.evaluate('state.layer') == layer


def test_click_on_border_selects_query(address, page):
    """Canvases may start between two pixels of the screen."""
    page.goto(address)
    wait_until_drawn(page)
    canvas = page.locator('canvas.image').first
    box = canvas.bounding_box()
    right, bottom = box['x'] + box['width'], box['y'] + box['height']
    for x, y in (
        (int(box['x']), int(box['y'])),
        (int(box['x']) + 9, int(box['y'])),
        (int(box['x']), int(box['y']) + 9),
        (int(right), int(bottom)),
    ):
        page.mouse.click(x, y)
        wait_until_drawn(page)
        assert pressed(page) >= 0
        assert 'predicts' in page.locator('.prediction').first.inner_text()


def test_arrow_keys_select_layer(address, page):
    page.goto(address)
    wait_until_drawn(page)
    page.locator('.queries button').nth(1).click()
    for key, layer in (('ArrowRight', 1), ('ArrowRight', 2), ('ArrowLeft', 1)):
        page.keyboard.press(key)
        wait_until_drawn(page)
        caption = page.locator('figcaption').first.inner_text()
        assert f'layer {layer} ' in caption
    page.keyboard.press('ArrowLeft')
    page.keyboard.press('ArrowLeft')
    wait_until_drawn(page)
    assert page.evaluate('state.layer') == 0


def test_large_image_is_downscaled(address, page, tmp_path):
    page.goto(address)
    wait_until_drawn(page)
    large = tmp_path / 'large.png'
    cv2.imwrite(str(large), generate_shapes(3, 'test', (96, 1312))[0])
    page.locator('#file').set_input_files(large)
    page.wait_for_function('state.models[0].data.size[1] === 1312')
    wait_until_drawn(page)
    assert pixels(page, 'image').shape == (75, 1024, 3)
    page.locator('canvas.image').first.click()
    wait_until_drawn(page)
    (column, row) = page.evaluate('state.models[0].marked')
    assert abs(column - 656) < 30 and abs(row - 48) < 10
