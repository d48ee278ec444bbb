"""Segments an image with an exported network, onnxruntime and NumPy.

This file does not use mmfaseg or PyTorch and can be copied. The image is a
.npy file with values from 0 to 255, (height, width, channels), at the size at
which the network was tested, with the channels in the order used in training
(RGB in all configs of mmfaseg). The labels are a .npy file, int64,
(height, width).
"""

import argparse

import numpy as np
import onnxruntime

STRIDE = 32


def label_image(
    session: onnxruntime.InferenceSession, image: np.ndarray
) -> np.ndarray:
    """Returns the class of each pixel, int64, (height, width).

    Args:
        session (InferenceSession): session of the exported file.
        image (np.ndarray): 0 to 255, shape (height, width, channels).
    """
    height, width, channels = image.shape
    bottom, right = -height % STRIDE, -width % STRIDE
    padded = np.empty((height + bottom, width + right, channels), np.float32)
    # as in the test pipelines
    mean = session.get_modelmeta().custom_metadata_map['mean']
    padded[:] = np.array(mean.split(), np.float32)
    padded[:height, :width] = image
    batch = padded.transpose(2, 0, 1)[None]
    (labels,) = session.run(['labels'], {'image': batch})
    return labels[0, :height, :width]


def main() -> None:
    """Segments the image given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('onnx', help='exported file')
    parser.add_argument('image', help='.npy, 0 to 255, (H, W, C)')
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
