"""Breaks each rule of the method once and says which tests notice.

Run it from the root of the repository, where shared numbers are found too:
    python tests/flip_rules.py [PART_OF_A_RULE ...]
It works on a copy and prints the table of docs/parity.md. It is no test, as
it takes ten minutes; test_flip_rules.py keeps the list in step with the code.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SMALL_CASES = (
    'test_golden.py',
    'test_parity.py::test_tiny_decoder',
    'test_parity.py::test_gradients_of_the_tiny_decoder',
    'test_parity_losses.py::test_losses_matching_and_gradients_of_random_'
    'predictions',
)
CASE_A = (
    'test_parity.py::test_backbone_and_pixel_decoder[A]',
    'test_parity.py::test_final_prediction_in_float64[A]',
    'test_parity.py::test_label_map[torch.float64-A]',
)
COPIED = ('mmfaseg', 'configs', 'tests', 'setup.cfg')

DECODER = 'mmfaseg/models/layers/faseg_decoder.py'
LAYER = 'mmfaseg/models/layers/dfpq_decoder_layer.py'
DFPQ = 'mmfaseg/models/layers/dfpq.py'
HRCA = 'mmfaseg/models/layers/hrca.py'
GATHER = 'mmfaseg/ops/reference.py'
ATTENTION = 'mmfaseg/models/layers/attention.py'
PREDICTOR = 'mmfaseg/models/layers/mask_predictor.py'
PIXEL = 'mmfaseg/models/pixel_decoders/faseg_pixel_decoder.py'
ENCODER = 'mmfaseg/models/layers/deformable_encoder.py'
POSITION = 'mmfaseg/models/layers/positional_encoding.py'
DEFORMABLE = 'mmfaseg/ops/reference.py'
HEAD = 'mmfaseg/models/decode_heads/faseg_head.py'
LOSS = 'mmfaseg/models/losses/mask_classification_loss.py'
MERGE = 'mmfaseg/models/layers/mask_merge.py'
MATCHER = 'mmfaseg/models/task_modules/mask_matcher.py'

# rule, file, text that holds it, text that breaks it
FLIPS = [
    (
        'K_p is made of the projected feature',
        PIXEL,
        'self.positional_encodings, sources, strict',
        'self.positional_encodings, [x.relu() for x in sources], strict',
    ),
    (
        'K_p: zero padding',
        POSITION,
        'return self.conv(feature)',
        "self.conv.padding_mode = 'replicate'\n"
        '        self.conv._reversed_padding_repeated_twice = [1] * 4\n'
        '        return self.conv(feature)',
    ),
    (
        'the encoder sees K_p',
        PIXEL,
        'self.encoder(projected[encoded], positions[encoded])',
        'self.encoder(projected[encoded], [0 * x for x in positions[:3]])',
    ),
    (
        'the encoder sees level embeddings',
        ENCODER,
        'transpose(1, 2) + self.level_embed.weight[level]',
        'transpose(1, 2) + 0 * self.level_embed.weight[level]',
    ),
    (
        'encoder positions go into queries only',
        ENCODER,
        'value = self.value_proj(tokens)',
        'value = self.value_proj(query)',
    ),
    (
        'deformable attention: pixel centres',
        DEFORMABLE,
        'align_corners=False',
        'align_corners=True',
    ),
    (
        'FPN: lateral plus upsampled',
        PIXEL,
        'self.output_conv(upsampled.add_(lateral))',
        'self.output_conv(lateral)',
    ),
    (
        'FPN: upsampling without aligned corners',
        PIXEL,
        'align_corners=False',
        'align_corners=True',
    ),
    (
        'FPN: ReLU at the end',
        PIXEL,
        '            nn.ReLU(inplace=True),\n',
        '            nn.Identity(),\n',
    ),
    (
        'level embeddings go into values too',
        DECODER,
        'levels.append(TokenMemory(key, value))',
        'levels.append(TokenMemory(key, value - embed))',
    ),
    (
        'K_p goes into keys only',
        DECODER,
        'levels.append(TokenMemory(key, value))',
        'levels.append(TokenMemory(key, key))',
    ),
    (
        'block i works on level i mod 4',
        DECODER,
        '        for block, layer in enumerate(self.layers):\n'
        '            level = block % self.num_levels\n',
        '        for block, layer in enumerate(self.layers):\n'
        '            level = (0, 2, 1, 3)[block % 4]\n',
    ),
    (
        'a pixel is blocked below 0.15',
        DECODER,
        'mask_threshold: float = 0.15',
        'mask_threshold: float = 0.5',
    ),
    (
        'a wholly blocked row is opened',
        DECODER,
        'return blocked & ~blocked.all(-1, keepdim=True)',
        'return blocked & ~(blocked.all(-1, keepdim=True)\n'
        '            & (blocked.cumsum(-1) == 1))',
    ),
    (
        'masks are resized bilinearly',
        DECODER,
        "mode='bilinear', align_corners=False",
        "mode='nearest'",
    ),
    (
        'masks are squashed before the threshold',
        DECODER,
        'multiply_masks(embed, features).sigmoid_()',
        'multiply_masks(embed, features)',
    ),
    (
        'the first pool is the background',
        DFPQ,
        "if self.initial_pool == 'background'",
        "if self.initial_pool == 'foreground'",
    ),
    (
        'the first pool ends at 0.5',
        DFPQ,
        'flatten(2) < 0.5',
        'flatten(2) < 0.15',
    ),
    (
        'the first pool is an average',
        DFPQ,
        'weights.sum(-1, keepdim=True) + 1e-6',
        'weights.sum(-1, keepdim=True) + 1',
    ),
    (
        'dyn: h(A K_p + static), static inside',
        DFPQ,
        'return self.mlp(focus + static)',
        'return self.mlp(focus) + static',
    ),
    (
        'the gradient flows through A',
        DFPQ,
        'focus = attention @ ',
        'focus = attention.detach() @ ',
    ),
    (
        'A is the mean over heads',
        ATTENTION,
        'total / heads',
        'total',
    ),
    (
        'an HRCA block leaves dyn as it was',
        DECODER,
        'if level != HIGH_RESOLUTION and block < last:',
        'if level < 2 and block < last:',
    ),
    (
        'dyn of a block uses its own K_p',
        DECODER,
        'static, positions[level], focus, read_masks\n',
        'static, positions[level].flip(1), focus, read_masks\n',
    ),
    (
        'HRCA: the query position is static',
        DECODER,
        'cross_pos, guide = static, importance',
        'cross_pos, guide = query_pos, importance',
    ),
    (
        'self-attention of HRCA blocks sees dyn',
        DECODER,
        '                cross_pos,\n                query_pos,\n',
        '                cross_pos,\n                cross_pos,\n',
    ),
    (
        'importance is of the latest stride-32 block',
        DECODER,
        'if level == self.importance_level and block < last:',
        'if block == 0:',
    ),
    (
        'importance is summed over queries',
        HRCA,
        'attention.sum(1).unflatten',
        'attention.amax(1).unflatten',
    ),
    (
        'one of omega windows',
        HRCA,
        'max(1, scores.size(1) // self.omega)',
        'max(1, scores.size(1) // self.omega + 1)',
    ),
    (
        'the most important windows',
        HRCA,
        'scores.topk(num_windows, dim=1)',
        'scores.topk(num_windows, dim=1, largest=False)',
    ),
    (
        'a window is the place of its stride-32 pixel',
        GATHER,
        'rows = (row * window_size)',
        'rows = (row * (window_size - 1))',
    ),
    (
        'HRCA: the level embedding is in keys and values',
        HRCA,
        '            memory.level_embed,\n',
        '            None,\n',
    ),
    (
        'HRCA: K_p goes into keys only',
        HRCA,
        'self.attn(query, key, value, blocked, need_focus)',
        'self.attn(query, key, key, blocked, need_focus)',
    ),
    (
        'HRCA: no mask over the windows of a query',
        HRCA,
        '= self.attn(query, key, value, blocked, need_focus)',
        '= (\n'
        '            self.attn(query, key[:, 1:], value[:, 1:], blocked)[0],\n'
        '            None,\n'
        '        )',
    ),
    (
        'cross-attention before self-attention',
        LAYER,
        'query = self.cross_norm(query + attended)\n'
        '        with_pos = query + self_pos',
        'with_pos = query + self_pos\n'
        '        query = self.cross_norm(query + attended)',
    ),
    (
        'positions stay out of self-attention values',
        LAYER,
        'self.self_attn(with_pos, with_pos, query)',
        'self.self_attn(with_pos, with_pos, with_pos)',
    ),
    (
        'post-norm',
        LAYER,
        'return self.ffn_norm(query + self.ffn(query)), focus',
        'return query + self.ffn(self.ffn_norm(query)), focus',
    ),
    (
        'the predictor normalizes queries',
        PREDICTOR,
        'self.mask_embed(self.norm(query))',
        'self.mask_embed(query)',
    ),
    (
        'prediction: no object takes part in the softmax',
        HEAD,
        'cls_scores[-1].softmax(-1)[..., :-1]',
        'cls_scores[-1][..., :-1].softmax(-1)',
    ),
    (
        'prediction: upsampled logits are squashed',
        MERGE,
        'resized = resize_rows(masks, masks.size(0), 0, size, rows)\n'
        '    pixels = resized.sigmoid_()',
        'masks = masks.sigmoid()\n'
        '    resized = resize_rows(masks, masks.size(0), 0, size, rows)\n'
        '    pixels = resized',
    ),
    (
        'loss: no object weighs 0.1',
        LOSS,
        'no_object_weight: float = 0.1',
        'no_object_weight: float = 0.2',
    ),
    (
        'loss: dice of sums plus one',
        LOSS,
        '1 - (overlap + 1) / (total + 1)',
        '1 - overlap / (total + 1)',
    ),
    (
        'loss: three quarters of the points are uncertain',
        LOSS,
        'index = uncertainty.topk(self.num_uncertain, dim=1).indices',
        'index = (-uncertainty).topk(self.num_uncertain, dim=1).indices',
    ),
    (
        'loss: every prediction is matched anew',
        LOSS,
        'targets = self._targets(scores, pairs, segments)',
        'pairs = [len(x) * [x[-1]] for x in pairs]\n'
        '            targets = self._targets(scores, pairs, segments)',
    ),
    (
        'loss: divided by the number of masks',
        LOSS,
        'numbers[0].clamp(min=1)',
        'numbers[0].clamp(min=1) ** 0.5',
    ),
    (
        'matching: class weight 2',
        MATCHER,
        'self.class_weight * classes',
        '5 * classes',
    ),
    (
        'matching: mean over points',
        MATCHER,
        'entropy / weight.sum(-1, keepdim=True).clamp(min=1)',
        'entropy',
    ),
]


def break_rule(copy: Path, file: str, old: str, new: str) -> str:
    """Break one rule in a copy and return the file as it was."""
    source = (copy / file).read_text()
    if source.count(old) != 1:
        raise ValueError(f'{file} holds {source.count(old)} times: {old}')
    (copy / file).write_text(source.replace(old, new))
    return source


def failing_tests(copy: Path, parity: str, file: str) -> set[str]:
    """Return the tests that fail in a copy where a file was changed.

    The decoder and the losses are in the small cases, the rest is in case A.
    """
    tests = SMALL_CASES
    if file in (PIXEL, ENCODER, POSITION, DEFORMABLE, HEAD, MERGE):
        tests += CASE_A
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider']
        + [f'tests/{name}' for name in tests],
        cwd=copy,
        env={
            **os.environ,
            'MMFASEG_PARITY_DIR': parity,
            'MMFASEG_OPS_BACKEND': 'reference',  # where the rules stand
        },
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(
        r'^(?:FAILED|ERROR) tests/(\w+)\.py::(\w+)', done.stdout, re.M
    )
    if not found and done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return {f'{file}::{test}' for file, test in found}


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + '\n')
    sys.stdout.flush()


def main() -> None:
    """Print a table, rule by rule, and fail if a rule was not noticed."""
    wanted = sys.argv[1:]
    parity = os.environ.get(
        'MMFASEG_PARITY_DIR', ROOT.parent / 'shared/parity'
    )
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name)
            else:
                shutil.copy(source, copy / name)
        clean = failing_tests(copy, str(parity), PIXEL)
        if clean:
            sys.exit(f'fails without any flip: {sorted(clean)}')
        say('| rule | golden | parity |\n|---|---|---|')
        for rule, *flip in FLIPS:
            if wanted and not any(part in rule for part in wanted):
                continue
            source = break_rule(copy, *flip)
            caught = failing_tests(copy, str(parity), flip[0])
            (copy / flip[0]).write_text(source)
            golden = [x for x in caught if x.startswith('test_golden')]
            others = sorted(
                x.split('::test_')[1] for x in caught if x not in golden
            )
            column = ', '.join(others) or '-'
            noticed = 'yes' if golden else '-'
            say(f'| {rule} | {noticed} | {column} |')
            if not caught:
                survivors.append(rule)
    if survivors:
        sys.exit(f'nobody noticed: {survivors}')


if __name__ == '__main__':
    main()
