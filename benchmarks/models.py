"""Models that bench_model.py compares, and their stages."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmfaseg.models.layers import HighResolutionCrossAttention
from mmfaseg.models.layers.mask_merge import merge_scores, merge_scores_plain
from mmfaseg.ops import use_backend

CONFIGS = Path(__file__).resolve().parent.parent / 'configs/_base_/models'
OURS = 'mmfaseg FASeg'
BASELINE = 'mmseg Mask2Former'
Stages = dict[str, Callable[[], Any]]


def build(
    name: str, num_classes: int, head: dict[str, Any] | None = None
) -> nn.Module:
    """Returns a model with random weights from a file of configs/_base_.

    Args:
        name: Name of the file in configs/_base_/models.
        num_classes: Number of classes.
        head: Settings of the head to override, by dotted keys.
    """
    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    for key, value in (head or {}).items():
        cfg.merge_from_dict({f'model.decode_head.{key}': value})
    model = cfg.model
    model.pop('data_preprocessor')
    model.backbone.init_cfg = None
    model.backbone.norm_cfg = dict(type='BN')
    model.decode_head.num_classes = num_classes
    if 'loss_cls' in model.decode_head:
        weights = [1.0] * num_classes + [0.1]
        model.decode_head.loss_cls.class_weight = weights
    torch.manual_seed(0)
    return MODELS.build(model).eval()


def build_pair(num_classes: int, device: torch.device) -> dict[str, nn.Module]:
    """Returns our FASeg and mmseg's Mask2Former with the same backbone."""
    ours = build('faseg_r50', num_classes)
    baseline = build('mask2former_r50', num_classes)
    baseline.backbone.load_state_dict(ours.backbone.state_dict())
    return {
        OURS: ours.to(device),
        BASELINE: baseline.to(device),
    }


def make_meta(size: tuple[int, ...]) -> dict:
    """Returns the metainfo that mmseg's heads need for an image."""
    names = ('img_shape', 'pad_shape', 'ori_shape', 'batch_input_shape')
    return dict.fromkeys(names, size)


def make_metas(image: Tensor) -> list[dict]:
    """Returns the metainfo of each image of a batch."""
    return [make_meta(tuple(image.shape[2:])) for _ in image]


def faseg_stages(model: nn.Module, image: Tensor) -> Stages:
    """Returns the stages of FASeg, each with the output of the previous."""
    head = model.decode_head
    feats = model.extract_feat(image)
    decoded = head.pixel_decoder(feats)
    classes, masks = head._last_prediction(feats)
    size = tuple(image.shape[2:])
    only_decoder = _replace_pixel_decoder(head, decoded)
    return {
        'backbone': lambda: model.extract_feat(image),
        'pixel decoder': lambda: head.pixel_decoder(feats),
        # includes the mask product, as in the baseline's decoder
        'decoder': lambda: only_decoder._last_prediction(feats),
        'post-processing': lambda: merge_scores(classes, masks, size),
        'whole': lambda: model.encode_decode(image, make_metas(image)),
        'label map': lambda: predict_labels(model, image),
    }


def mask2former_stages(model: nn.Module, image: Tensor) -> Stages:
    """Returns the stages of mmseg's Mask2Former."""
    feats = model.extract_feat(image)
    about = make_metas(image)
    samples = [SegDataSample(metainfo=x) for x in about]
    head = model.decode_head
    only_decoder = _replace_pixel_decoder(head, head.pixel_decoder(feats))
    only_merge = copy.copy(head)
    given = head(feats, samples)
    only_merge.forward = lambda *_: given
    return {
        'backbone': lambda: model.extract_feat(image),
        'pixel decoder': lambda: head.pixel_decoder(feats),
        'decoder': lambda: only_decoder(feats, samples),
        'post-processing': lambda: only_merge.predict(feats, about, {}),
        'whole': lambda: model.encode_decode(image, make_metas(image)),
        'label map': lambda: predict_labels(model, image),
    }


def predict_labels(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Returns the label maps that ``tools/test.py`` evaluates."""
    samples = [SegDataSample(metainfo=x) for x in make_metas(image)]
    return [x.pred_sem_seg.data for x in model.predict(image, samples)]


def _replace_pixel_decoder(head: nn.Module, result: Any) -> nn.Module:
    """Returns a head whose pixel decoder returns a given result."""
    other = copy.copy(head)
    other._modules = dict(head._modules)
    other.pixel_decoder = _Constant(result)
    return other


class _Constant(nn.Module):
    """Returns a constant for any input."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, *_: Any) -> Any:
        return self.result


def hrca_stage(model: nn.Module, image: Tensor) -> Callable[[], None]:
    """Returns a function that runs only the HRCA cross-attentions."""
    head = model.decode_head
    calls: list[tuple[nn.Module, tuple]] = []
    hooks = [
        attention.register_forward_pre_hook(
            lambda module, args: calls.append((module, args))
        )
        for attention in head.transformer_decoder.cross_attentions()
        if isinstance(attention, HighResolutionCrossAttention)
    ]
    head.transformer_decoder(*head.pixel_decoder(model.extract_feat(image)))
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for module, args in calls:
            module(*args)

    return run


def reference_scores(model: nn.Module, image: Tensor) -> Tensor:
    """Returns float64 scores computed with the reference implementations."""
    exact = copy.deepcopy(model).double()
    exact.channels_last = False
    with use_backend('reference'):
        feats = exact.extract_feat(image.double())
        classes, masks = exact.decode_head._last_prediction(feats)
    return merge_scores_plain(classes, masks, tuple(image.shape[2:]))


def scores_match(found: Tensor, expected: Tensor) -> bool:
    """Returns whether scores agree up to rounding.

    Rounding may move a mask across the threshold of the next decoder layer,
    which changes that query, so the median error and labels are compared.
    """
    error = (found.double() - expected.double()).abs()
    tolerance = 1e-4 if found.dtype == torch.float32 else 5e-2
    scale = expected.abs().median().clamp(min=1e-6)
    labels = (found.argmax(1) == expected.argmax(1)).double().mean()
    if not error.isfinite().all() or error.median() > tolerance * scale:
        return False
    # with random weights, half precision changes many labels
    return found.dtype != torch.float32 or bool(labels > 0.995)


def make_samples(
    batch: int, size: tuple[int, int], classes: int, device: torch.device
) -> Sequence[SegDataSample]:
    """Returns label maps of 4 x 4 squares, about 15 classes per image."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(batch):
        blocks = torch.randint(classes, (1, 1, 4, 4), generator=generator)
        labels = nn.functional.interpolate(blocks.float(), size).long()[0]
        data = PixelData(data=labels.to(device))
        samples.append(
            SegDataSample(gt_sem_seg=data, metainfo=make_meta(size))
        )
    return samples


def training_step(
    model: nn.Module, image: Tensor, samples: Sequence[SegDataSample]
) -> Tensor:
    """Runs the forward and backward pass and returns the loss.

    Gradients are released at the end, so that the peak of the next step
    includes them.
    """
    total, _ = model.parse_losses(model.loss(image, samples))
    total.backward()
    model.zero_grad(set_to_none=True)
    return total.detach()
