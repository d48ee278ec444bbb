import numpy as np

from mmfaseg.evaluation.class_count_metric import find_uniform_windows


def test_uniform_windows_are_inside_the_image(image_pairs):
    for labels, _ in image_pairs:
        for size in (1, 2, 3, 4):
            windows = find_uniform_windows(labels.astype(np.uint16), size)
            padded = np.pad(labels, size, constant_values=-1)
            start = size - size // 2
            for y, x in np.ndindex(*labels.shape):
                rows = slice(y + start, y + start + size)
                columns = slice(x + start, x + start + size)
                same = padded[rows, columns] == labels[y, x]
                assert windows[y, x] == same.all()
