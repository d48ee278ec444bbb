"""Explorer pages: from the command line and from a server."""

import importlib
import json
import re
import shutil
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmfaseg.apis import FASegInferencer
from mmfaseg.datasets.shapes_generator import generate_shapes
from mmfaseg.explore import load_models, main, parse_args
from mmfaseg.visualization.explorer import describe

uvicorn = pytest.importorskip('uvicorn')
FASEG = 'faseg_r18_1xb8-demo_shapes-128x128'
BASELINE = 'mask2former_r18_1xb8-1k_shapes-128x128'


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp('image') / 'shapes.png'
    cv2.imwrite(str(path), generate_shapes(1, 'test', (64, 96))[0])
    return path


def content_of(path):
    page = path.read_text(encoding='utf-8')
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])['content']


# one page


def test_command_line_writes_a_page(work_dir, baseline_dir, image, tmp_path):
    out = tmp_path / 'focus.html'
    command = [work_dir, image, '--compare', baseline_dir, '--out', out]
    main([*map(str, command), '--device', 'cpu', '--max-queries', '3'])
    models = content_of(out)['models']
    assert [x['name'] for x in models] == [FASEG, BASELINE]
    assert [len(x['layers']) for x in models] == [5, 9]
    assert all(1 <= len(x['queries']) <= 3 for x in models)


def test_command_line_page_equals_library_page(work_dir, image, tmp_path):
    out = tmp_path / 'focus.html'
    main([str(work_dir), str(image), '--out', str(out), '--device', 'cpu'])
    view = FASegInferencer(work_dir, device='cpu').explore(image)
    assert content_of(out) == describe({FASEG: view})
    assert view.image.shape == (64, 96, 3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{work_dir}', 'no.png'], r'there is no file no\.png'),
        (['{work_dir}', '{image}', '--out', 'x.png'], r'end in \.html'),
        (['nowhere', '{image}'], 'nowhere is not a config file'),
        (['{work_dir}', '{image}', '--max-queries', '0'], 'got 0'),
        (['{work_dir}', '{work_dir}'], 'there is no file'),
        (['{work_dir}'], 'got 0 images'),
        (['{work_dir}', '{image}', '{image}'], 'got 2 images'),
        (
            ['{work_dir}', '{image}', '--compare-weights', 'x'],
            'requires --compare',
        ),
    ],
)
def test_invalid_arguments_exit_with_message(
    work_dir, image, arguments, message
):
    filled = [x.format(work_dir=work_dir, image=image) for x in arguments]
    with pytest.raises(SystemExit, match=rf'^error: .*{message}'):
        main([*filled, '--device', 'cpu'])


def test_equal_models_get_unique_names(work_dir, image):
    args = [str(work_dir), str(image), '--compare', str(work_dir)]
    found = load_models(parse_args([*args, '--device', 'cpu']))
    assert list(found) == [FASEG, f'{FASEG} (2)']


def test_statistics_are_means_over_layers_of_a_stride(
    work_dir, root, monkeypatch, tmp_path
):
    monkeypatch.syspath_prepend(root / 'tools/analysis_tools')
    tool = importlib.import_module('focus_statistics')
    file = tmp_path / 'new/means.json'
    options = ['--num-images', '2', '--json', str(file)]
    found = tool.main([str(work_dir), *options])[str(work_dir)]
    assert list(found) == [32, 16, 8, 4]
    written = json.loads(file.read_text())[str(work_dir)]
    assert list(written.values()) == list(found.values())
    network = FASegInferencer(work_dir, device='cpu')
    views = [
        network.explore(generate_shapes(n, 'test', (128, 128))[0])
        for n in range(2)
    ]
    layers = [layer for view in views for layer in view.layers]
    for stride, numbers in found.items():
        for name, value in numbers.items():
            parts = [getattr(x, name) for x in layers if x.stride == stride]
            known = np.concatenate(parts)
            known = known[~np.isnan(known)]
            if len(known):
                assert value == pytest.approx(known.mean(), abs=1e-4)
            else:
                assert value is None and (stride, name) == (4, 'turn')
    with pytest.raises(SystemExit):
        tool.main([str(work_dir), '--num-images', '0'])
    with pytest.raises(SystemExit, match='error: nowhere is not a config'):
        tool.main(['nowhere'])


# the server


@pytest.fixture(scope='module')
def server(work_dir, image, serve):
    """The address of the page."""
    from mmfaseg.apis.explorer_server import make_app

    networks = {'FASeg': FASegInferencer(work_dir, device='cpu')}
    with serve(make_app(networks, [image, image.parent / 'gone.png'])) as url:
        yield url


def post(url, content=b'', **headers):
    request = urllib.request.Request(
        url, content, headers=headers, method='POST'
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        is_json = error.headers['content-type'] == 'application/json'
        return error.code, json.loads(text) if is_json else text


def test_page_lists_examples(server):
    with urllib.request.urlopen(server, timeout=60) as answer:
        page = answer.read().decode()
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(data)['examples'] == ['shapes.png', 'gone.png']


def test_upload_and_example_are_explored(server, work_dir, image):
    view = FASegInferencer(work_dir, device='cpu').explore(image)
    expected = 200, describe({'FASeg': view})
    assert post(f'{server}/explore/0') == expected
    assert post(f'{server}/explore', image.read_bytes()) == expected


def test_invalid_image_returns_error(server):
    status, answer = post(f'{server}/explore', b'GIF89a but not really')
    assert status == 400
    assert 'the uploaded file cannot be read as an image' in answer['error']
    assert post(f'{server}/explore', b'')[0] == 400
    status, answer = post(f'{server}/explore?name=a%20b.png', b'no image')
    assert status == 400 and answer['error'].startswith('a b.png cannot be')
    assert post(f'{server}/explore?name=a.%00', b'no image')[0] == 400


def test_missing_example_or_page_returns_error(server):
    for number in (1, 2):  # deleted, and never there
        error = f'example {number} cannot be read'
        found = post(f'{server}/explore/{number}')
        assert found == (404, {'error': error})
    assert post(f'{server}/other') == (404, {'error': 'Not Found'})


def test_large_upload_is_rejected(server, monkeypatch):
    """Before decoding: a small file may have many pixels."""
    name = 'mmfaseg.apis.explorer_server'
    monkeypatch.setattr(FASegInferencer, 'explore', lambda *_: pytest.fail())
    large = cv2.imencode('.png', np.zeros((2049, 2048), np.uint8))[1]
    status, answer = post(f'{server}/explore', large.tobytes())
    assert status == 400
    assert 'has 2048x2049 pixels; the limit is' in answer['error']
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', 100)
    status, answer = post(f'{server}/explore', large.tobytes())
    assert status == 400 and 'decompression bomb' in answer['error']
    monkeypatch.setattr(f'{name}.MAX_BYTES', 2**20)
    status, answer = post(f'{server}/explore', bytes(2**20 + 1))
    assert status == 413 and 'larger than 1 MiB' in answer['error']


def test_model_failure_returns_error(server, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError('CUDA out of memory.\nTraceback ...')

    monkeypatch.setattr(FASegInferencer, 'explore', fail)
    status, answer = post(f'{server}/explore/0')
    assert status == 500
    assert answer['error'] == (
        'the server failed: OutOfMemoryError: CUDA out of memory.'
    )


@pytest.mark.parametrize(
    'headers',
    [
        {'Sec-Fetch-Site': 'cross-site'},
        {'Sec-Fetch-Site': 'same-site'},
        {'Origin': 'https://evil.example'},
        {'Origin': 'null'},
    ],
    ids=str,
)
def test_cross_origin_request_is_rejected(server, image, headers):
    for url in (f'{server}/explore', f'{server}/explore/0'):
        status, answer = post(url, image.read_bytes(), **headers)
        assert status == 403 and 'cross-origin' in answer['error']
    own = {'Sec-Fetch-Site': 'same-origin', 'Origin': server}
    assert post(f'{server}/explore/0', **own)[0] == 200


def test_unknown_host_is_rejected(server):
    """DNS rebinding: another host name that resolves to this address."""
    status, answer = post(f'{server}/explore/0', Host='evil.example')
    assert status == 400 and 'Invalid host' in answer


def test_invalid_server_arguments_exit_with_message(work_dir, tmp_path):
    with pytest.raises(SystemExit, match='nowhere is not a config file'):
        main(['nowhere', '--serve'])
    (tmp_path / 'clip.mp4').touch()
    with pytest.raises(SystemExit, match='contains no file that ends in'):
        main([str(work_dir), str(tmp_path), '--device', 'cpu', '--serve'])


def test_server_applies_the_options(work_dir, image, monkeypatch):
    monkeypatch.setattr(
        'mmfaseg.apis.explorer_server.make_app', lambda *x, **y: (x, y)
    )
    apps = []
    monkeypatch.setattr(uvicorn, 'run', lambda app, **_: apps.append(app))
    options = ['--serve', '--device', 'cpu', '--host', '::1']
    main([str(work_dir), str(image), *options, '--max-queries', '2'])
    ((networks, examples, hosts), others) = apps[0]
    assert list(networks) == [FASEG]
    assert (examples, others) == ([image], dict(max_queries=2))
    assert '[::1]' in hosts  # as in the header of a request


def test_server_applies_hosts_and_query_limit(work_dir, image, serve):
    from mmfaseg.apis.explorer_server import make_app

    networks = {'FASeg': FASegInferencer(work_dir, device='cpu')}
    app = make_app(networks, [image], hosts=['[::1]'], max_queries=2)
    with serve(app) as address:
        status, answer = post(f'{address}/explore/0', Host='[::1]:7860')
    assert status == 200
    assert len(answer['models'][0]['queries']) == 2


def test_examples_may_have_the_suffix_of_the_model(
    work_dir, tmp_path, monkeypatch
):
    cfg = Config.fromfile(work_dir / f'{FASEG}.py')
    cfg.test_dataloader.dataset.img_suffix = '.npy'
    cfg.dump(str(tmp_path / f'{FASEG}.py'))
    shutil.copy(work_dir / 'iter_20.pth', tmp_path)
    example = tmp_path / 'images/a.npy'
    example.parent.mkdir()
    example.touch()
    monkeypatch.setattr(
        'mmfaseg.apis.explorer_server.make_app', lambda *x, **_: x
    )
    apps = []
    monkeypatch.setattr(uvicorn, 'run', lambda app, **_: apps.append(app))
    options = ['--serve', '--device', 'cpu']
    main([str(tmp_path), str(example.parent), *options])
    assert apps[0][1] == [example]
