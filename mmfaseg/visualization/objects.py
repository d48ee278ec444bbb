"""Objects of an image, and which predicted one is of which true one.

Shapes:
    H, W: height and width of an image in pixels.
    n: number of objects.
    K: number of classes.
"""

from dataclasses import dataclass

import numpy as np

from .sheet import check_image

MIN_IOU = 0.5


@dataclass(frozen=True)
class Objects:
    """Objects of one image.

    Attributes:
        labels (np.ndarray): integers, shape (n,), in 0..K-1.
        masks (np.ndarray): bool, shape (n, H, W).
        scores (np.ndarray | None): 0 to 1, shape (n,); None for ground truth.
    """

    labels: np.ndarray
    masks: np.ndarray
    scores: np.ndarray | None = None

    def above(self, min_score: float) -> 'Objects':
        """Returns the objects with this score or more, best first."""
        if self.scores is None:
            return self
        order = np.argsort(-self.scores, kind='stable')
        order = order[self.scores[order] >= min_score]
        return Objects(
            self.labels[order], self.masks[order], self.scores[order]
        )


@dataclass(frozen=True)
class ObjectImage:
    """One image with its true and predicted objects.

    Attributes:
        image (np.ndarray): uint8, shape (H, W, 3), RGB.
        ground_truth (Objects): without scores.
        prediction (Objects): with scores.
    """

    image: np.ndarray
    ground_truth: Objects
    prediction: Objects

    def check(self, num_classes: int) -> None:
        """Raises ValueError or TypeError unless all parts fit together."""
        check_image(self.image)
        parts = {
            'ground truth': self.ground_truth,
            'prediction': self.prediction,
        }
        for name, objects in parts.items():
            wanted = (len(objects.labels), *self.image.shape[:2])
            if objects.masks.shape != wanted:
                raise ValueError(
                    f'the masks of the {name} have shape '
                    f'{objects.masks.shape} instead of {wanted}; bring them '
                    'to the size of the image'
                )
            labels = objects.labels
            if len(labels) and not (
                labels.min() >= 0 and labels.max() < num_classes
            ):
                raise ValueError(
                    f'the {name} holds labels {labels.min()} to '
                    f'{labels.max()}, but there are {num_classes} classes'
                )


def match_objects(
    ground_truth: Objects, prediction: Objects, min_iou: float = MIN_IOU
) -> np.ndarray:
    """Returns the true object that each prediction is of.

    As COCO matches: predictions in their order, each with the best true
    object of its class that is left.

    Args:
        ground_truth (Objects): n of them.
        prediction (Objects): best first.
        min_iou (float): below it nothing matches.

    Returns:
        np.ndarray: int64, numbers of true objects, -1 for none.
    """
    found = np.full(len(prediction.labels), -1)
    if not len(ground_truth.labels):
        return found
    ours = prediction.masks.astype(np.float32)
    theirs = ground_truth.masks.astype(np.float32)
    both = np.tensordot(ours, theirs, ((1, 2), (1, 2)))
    union = ours.sum((1, 2))[:, None] + theirs.sum((1, 2)) - both
    iou = both / np.maximum(union, 1)
    iou[prediction.labels[:, None] != ground_truth.labels] = 0
    for number, row in enumerate(iou):
        best = int(row.argmax())
        if row[best] >= min_iou:
            found[number] = best
            iou[:, best] = 0
    return found
