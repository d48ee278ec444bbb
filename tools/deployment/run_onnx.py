"""Labels an image with an exported network: onnxruntime and NumPy alone.

Copy what you need from here: nothing of mmfaseg or PyTorch is used. The
image is a .npy file, uint8, (height, width, 3), RGB, of the size that the
network was tested at; labels are a .npy file, int64, (height, width).
"""

import argparse

import numpy as np
import onnxruntime

STRIDE = 32
# what a network of mmfaseg sees beside an image: the mean of all colours
MEAN = np.array([123.675, 116.28, 103.53], np.float32)


def label_image(
    session: onnxruntime.InferenceSession, image: np.ndarray
) -> np.ndarray:
    """Return the class of each pixel, int64, (height, width).

    Args:
        session: of the exported file.
        image: uint8, (height, width, 3), RGB, of any size.
    """
    height, width = image.shape[:2]
    below, beside = -height % STRIDE, -width % STRIDE
    padded = np.empty((height + below, width + beside, 3), np.float32)
    padded[:] = MEAN
    padded[:height, :width] = image
    batch = padded.transpose(2, 0, 1)[None]
    (labels,) = session.run(['labels'], {'image': batch})
    return labels[0, :height, :width]


def main() -> None:
    """Label the image of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('onnx', help='exported file')
    parser.add_argument('image', help='.npy, uint8, (H, W, 3), RGB')
    parser.add_argument('labels', help='.npy to write')
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(
        args.onnx, providers=['CPUExecutionProvider']
    )
    labels = label_image(session, np.load(args.image))
    np.save(args.labels, labels)
    names, counts = np.unique(labels, return_counts=True)
    for name, count in zip(names, counts, strict=True):
        print(f'class {name}: {count / labels.size:.1%} of the pixels')


if __name__ == '__main__':
    main()
