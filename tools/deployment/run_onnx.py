"""Segments an image with an exported network, onnxruntime and NumPy.

This file does not use mmfaseg or PyTorch and can be copied. The image is a
.npy file, RGB, uint8, (height, width, 3), at the size at which the network was
tested. The labels are a .npy file, int64, (height, width).
"""

import argparse

import numpy as np
import onnxruntime

STRIDE = 32
# padding value of the test pipelines: the mean color
MEAN = np.array([123.675, 116.28, 103.53], np.float32)


def label_image(
    session: onnxruntime.InferenceSession, image: np.ndarray
) -> np.ndarray:
    """Returns the class of each pixel, int64, (height, width).

    Args:
        session (InferenceSession): session of the exported file.
        image (np.ndarray): RGB, uint8, shape (height, width, 3).
    """
    height, width = image.shape[:2]
    bottom, right = -height % STRIDE, -width % STRIDE
    padded = np.empty((height + bottom, width + right, 3), np.float32)
    padded[:] = MEAN
    padded[:height, :width] = image
    batch = padded.transpose(2, 0, 1)[None]
    (labels,) = session.run(['labels'], {'image': batch})
    return labels[0, :height, :width]


def main() -> None:
    """Segments the image given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('onnx', help='exported file')
    parser.add_argument('image', help='.npy, uint8, (H, W, 3), RGB')
    parser.add_argument('labels', help='output, .npy')
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(
        args.onnx, providers=['CPUExecutionProvider']
    )
    labels = label_image(session, np.load(args.image))
    np.save(args.labels, labels)
    classes, counts = np.unique(labels, return_counts=True)
    for label, count in zip(classes, counts, strict=True):
        print(f'class {label}: {count / labels.size:.1%} of the pixels')


if __name__ == '__main__':
    main()
