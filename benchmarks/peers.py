"""Other implementations that bench_model.py compares.

Each function of :data:`PEERS` takes our model, an image, the reference scores
of our model and a folder for files. It returns a function without arguments
that computes the class scores of the image, and the scores that are expected.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from models import build, reference_scores
from torch import Tensor, nn

from mmfaseg.checkpoints import to_hugging_face
from mmfaseg.export import ExportedNetwork, export_program, write_onnx
from mmfaseg.export.onnx_file import open_session
from mmfaseg.models.layers.mask_merge import merge_scores_plain

Peer = tuple[Callable[[], Tensor], Tensor]
MASK2FORMER = {
    'pixel_decoder.positional_encoding': dict(
        _delete_=True, type='mmfaseg.SinePositionalEncoding'
    ),
    'transformer_decoder.positional_query': dict(
        _delete_=True, type='mmfaseg.LearnedPositionalQuery'
    ),
    'transformer_decoder.high_res_attention': None,
    'transformer_decoder.num_layers': 9,
    'transformer_decoder.masked_attention.mask_threshold': 0.5,
}


def hugging_face(
    model: nn.Module, image: Tensor, reference: Tensor, folder: str
) -> Peer:
    """Returns Hugging Face's Mask2Former, with a ResNet-50.

    Its weights are those of our Mask2Former, whose scores are expected.
    """
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        ResNetConfig,
    )

    num_classes = model.decode_head.num_classes
    ours = build('faseg_r50', num_classes, MASK2FORMER).to(image.device)
    state = ours.state_dict()
    shapes = {key: value.shape for key, value in state.items()}
    backbone = ResNetConfig(out_features=[f'stage{x}' for x in range(1, 5)])
    theirs = Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(backbone_config=backbone, num_labels=num_classes)
    )
    theirs.load_state_dict(to_hugging_face(state, shapes).state, strict=False)
    theirs.to(image.device).eval()

    def run() -> Tensor:
        result = theirs(image, output_auxiliary_logits=False)
        classes = result.class_queries_logits.softmax(-1)[..., :-1]
        size = tuple(image.shape[2:])
        masks = result.masks_queries_logits.permute(0, 2, 3, 1)
        return merge_scores_plain(classes, masks, size)

    return run, reference_scores(ours, image)


def onnxruntime(
    model: nn.Module, image: Tensor, reference: Tensor, folder: str
) -> Peer:
    """Returns our ONNX file in ONNX Runtime."""
    session = open_session(_write_scores(model, image, folder))
    feed = {'image': image.numpy()}

    def run() -> Tensor:
        return torch.from_numpy(session.run(['scores'], feed)[0])

    return run, reference


def openvino(
    model: nn.Module, image: Tensor, reference: Tensor, folder: str
) -> Peer:
    """Returns our ONNX file in OpenVINO, in float32."""
    import openvino

    compiled = openvino.Core().compile_model(
        _write_scores(model, image, folder),
        'CPU',
        {
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'INFERENCE_PRECISION_HINT': 'f32',
            'PERFORMANCE_HINT': 'LATENCY',
        },
    )
    array = image.numpy()

    def run() -> Tensor:
        return torch.from_numpy(compiled([array])['scores'])

    return run, reference


def _write_scores(model: nn.Module, image: Tensor, folder: str) -> str:
    """Returns an ONNX file for the size of the image, without the labels.

    It is written once for all peers.
    """
    import onnx

    whole, scores = (str(Path(folder) / x) for x in ('all.onnx', 'one.onnx'))
    if Path(scores).is_file():
        return scores
    preprocessor = dict(mean=[0.0] * 3, std=[1.0] * 3)
    model.data_preprocessor = MODELS.build(
        dict(type='mmseg.SegDataPreProcessor', **preprocessor)
    )
    model.cfg = Config(dict(model=dict(data_preprocessor=preprocessor)))
    batch, _, height, width = image.shape
    network = ExportedNetwork(model)
    write_onnx(export_program(network, (batch, height, width)), whole)
    onnx.utils.extract_model(whole, scores, ['image'], ['scores'])
    return scores


PEERS: dict[str, Callable[[nn.Module, Tensor, Tensor, str], Peer]] = dict(
    huggingface=hugging_face, onnxruntime=onnxruntime, openvino=openvino
)
OTHER_MEMORY = ('onnxruntime', 'openvino')  # not seen by PyTorch's profiler
