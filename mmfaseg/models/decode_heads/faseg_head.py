"""Decode head of FASeg for MMSegmentation.

Shapes: B batch size, Q queries, K classes.
"""

from collections.abc import Sequence

from torch import Tensor

from mmfaseg.registry import MODELS
from mmfaseg.utils.mask2former_arguments import SEMANTIC_HEAD, check_train_cfg
from mmfaseg.utils.misplaced_arguments import reject_misplaced

from ..layers.mask_merge import MergedScores, merge_scores
from ..mask_classification_head import MaskClassificationHead
from ..task_modules import targets_from_label_map
from .label_maps import predict_label_map


@MODELS.register_module()
class FASegHead(MaskClassificationHead):
    """Decode head of FASeg for semantic segmentation.

    Args:
        in_channels (Sequence[int]): channels of the backbone stages with
            stride 4, 8, 16, 32.
        num_classes (int): number of classes, K, without "no object".
        feat_channels (int): channels of both decoders.
        num_queries (int): number of queries, Q.
        pixel_decoder (dict): config of the pixel decoder, without
            ``in_channels`` and ``embed_dims``; ``num_levels`` follows from
            ``high_res_attention`` unless it is given.
        transformer_decoder (dict): config of the transformer decoder, without
            ``embed_dims``, ``num_classes`` and ``num_queries``.
        loss (dict): config of the loss, without ``num_classes``.
        ignore_index (int): label of pixels that belong to no class.
        align_corners (bool): ``align_corners`` with which mmseg resizes the
            scores to the original image size.
        train_cfg (dict, optional): must be empty; Mask2Former's settings
            belong in ``loss``.
        init_cfg (dict, optional): initialization config of
            :class:`mmengine.model.BaseModule`.

    Raises:
        TypeError: if ``num_classes`` or ``num_queries`` is not an integer, or
            ``in_channels`` is not a sequence.
        ValueError: if there are fewer than two classes or no queries, or
            ``train_cfg`` is not empty.
    """

    @reject_misplaced(SEMANTIC_HEAD)
    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        feat_channels: int,
        num_queries: int,
        pixel_decoder: dict,
        transformer_decoder: dict,
        loss: dict,
        ignore_index: int = 255,
        align_corners: bool = False,
        train_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        check_train_cfg(train_cfg, type(self).__name__)
        super().__init__(
            in_channels,
            num_classes,
            feat_channels,
            num_queries,
            pixel_decoder,
            transformer_decoder,
            loss,
            ignore_index,
            init_cfg,
        )
        if num_classes < 2:
            raise ValueError(
                f'num_classes={num_classes} must be at least 2, as mmseg '
                'requires; add a background class'
            )
        self.out_channels = num_classes
        self.align_corners = align_corners
        self.threshold = None  # mmseg: used with one output channel only

    def loss(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: Sequence,
        train_cfg: dict | None = None,
    ) -> dict[str, Tensor]:
        """Returns the losses of all predictions, in evaluation mode the last.

        Args:
            feats (Sequence[Tensor]): backbone stages, strides 4, 8, 16, 32.
            batch_data_samples (Sequence[SegDataSample]): samples with
                ``gt_sem_seg``, int64, shape (1, H, W).
            train_cfg (dict, optional): passed by mmseg; must be empty.

        Raises:
            ValueError: if ``train_cfg`` is not empty, or a label is invalid.
        """
        check_train_cfg(train_cfg, type(self).__name__)
        targets = [
            targets_from_label_map(
                sample.gt_sem_seg.data.squeeze(0),
                self.num_classes,
                self.ignore_index,
            )
            for sample in batch_data_samples
        ]
        return self._compute_loss(feats, targets)

    def predict(
        self,
        feats: Sequence[Tensor],
        batch_img_metas: Sequence[dict],
        test_cfg: dict | None = None,
    ) -> Tensor:
        """Returns the class scores of every pixel of the padded input.

        Args:
            feats (Sequence[Tensor]): backbone stages, strides 4, 8, 16, 32.
            batch_img_metas (Sequence[dict]): meta information with
                ``img_shape`` and, if the input is padded, ``pad_shape``.
            test_cfg (dict, optional): ``test_cfg`` of the model. The input
                has the size ``img_shape`` in mode "slide".

        Returns:
            Tensor: sum over queries of class probability times mask
            probability, shape (B, K, H, W).
        """
        classes, masks = self._last_prediction(feats)
        size = _input_size(batch_img_metas[0], test_cfg)
        return merge_scores(classes, masks, size)

    def predict_labels(
        self,
        feats: Sequence[Tensor],
        batch_img_metas: Sequence[dict],
        test_cfg: dict | None = None,
    ) -> list[Tensor]:
        """Returns the label map of each image at its original size.

        Equivalent to :meth:`predict` followed by mmseg's post-processing, but
        without a tensor of all classes at all pixels. The arguments are those
        of :meth:`predict`, with the meta information that
        :func:`predict_label_map` uses.

        Returns:
            list[Tensor]: int64, each with the ``ori_shape`` of its image.
        """
        classes, masks = self._last_prediction(feats)
        size = _input_size(batch_img_metas[0], test_cfg)
        images = zip(classes, masks, strict=True)
        return [
            predict_label_map(MergedScores(*image, size), meta)
            for image, meta in zip(images, batch_img_metas, strict=True)
        ]

    def _last_prediction(
        self, feats: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Returns class probabilities (B, Q, K), mask logits (B, h, w, Q)."""
        output = self.decode(feats)
        masks = output.mask_preds.pixels(-1)
        return output.cls_scores[-1].softmax(-1)[..., :-1], masks


def _input_size(meta: dict, test_cfg: dict | None) -> tuple[int, int]:
    """Returns the size (H, W) of the backbone input.

    In mode "slide", mmseg sets ``img_shape`` to the window size, while
    ``pad_shape`` remains that of the whole image.

    Raises:
        ValueError: if the size is unknown.
    """
    is_slide = test_cfg is not None and test_cfg.get('mode') == 'slide'
    key = 'pad_shape' if 'pad_shape' in meta and not is_slide else 'img_shape'
    if meta[key] is None:  # set by mmseg's stack_batch in training
        raise ValueError(
            f'{key} of an image without labels is None: call the '
            'data_preprocessor with training=False for predictions'
        )
    height, width = meta[key][:2]
    return height, width
