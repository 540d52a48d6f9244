# SPDX-License-Identifier: Apache-2.0
"""Draw docs/images/attention.png, the attention of the shipped model; `make docs` calls it."""

import cv2
import torch

from step_ros.encoders.base import TorchEncoder
from step_ros.model.bundle import load_bundle
from step_ros.resources import find_bundle
from step_ros.streaming.grid import NANOSECONDS, grid_indices
from step_ros.tabletop.simulator import render_clip
from step_ros.visualization.attention_map import attention_sheet

ACTION, SEED, SIZE = 'pick up bottle', 6, (240, 180)
TASK = 'action'


def main() -> None:
    """Draw frames, the attention of the global CLS token, and the attention's column means."""
    bundle = load_bundle(find_bundle('tabletop-tiny'))
    backbone, head = bundle.model.backbone, bundle.model.heads[TASK]
    clip = render_clip(ACTION, seed=SEED, split='test', size=SIZE, rate=10.0)
    period_ns = round(bundle.spec.frame_period * NANOSECONDS)
    chosen = grid_indices(clip.stamps_ns, frame_period_ns=period_ns)[: bundle.spec.frames]
    images = clip.frames_thwc[chosen]
    encoder = TorchEncoder(backbone, device=torch.device('cpu'))
    with torch.inference_mode():
        tokens_tnd = encoder.encode(list(images))
        maps = head.attention_maps(tokens_tnd[None])
        label = bundle.spec.tasks[0].labels[int(head(tokens_tnd[None]).argmax())]
    sheet = attention_sheet(
        images[::2],
        maps.cls_btn[0, ::2].unflatten(-1, backbone.token_grid).numpy(),
        maps.columns_btn[0, ::2].unflatten(-1, backbone.token_grid).numpy(),
        image_size=backbone.image_size,
    )
    cv2.imwrite('docs/images/attention.png', cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    print(f'docs/images/attention.png: {ACTION}, predicted {label}')


if __name__ == '__main__':
    main()
