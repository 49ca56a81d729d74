# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Zero the mouth in a clip's latents, decode, and see what changed (paper, Appendix A):

diffusers-jova validate-mouth-mask --video clip.mp4 --model jova-nano --output mouth.png
"""

import argparse

from ..command import start_logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--video", required=True, help="a clip with a face")
    parser.add_argument("--model", required=True, help="folder of the pipeline whose video VAE is tested")
    parser.add_argument(
        "--output", default="mouth_mask.png", help="the figure: above the frames with their boxes, below the result"
    )
    parser.add_argument("--height", type=int, help="pixels (default: the model's own)")
    parser.add_argument("--width", type=int, help="pixels (default: the model's own)")
    parser.add_argument("--num_frames", type=int, help="frames at most, 4k + 1 (default: the model's own)")
    parser.add_argument("--frame_rate", type=float, help="frames per second (default: the model's own)")
    parser.add_argument("--landmarks", help="dlib's landmark file (default: that of face_recognition_models)")
    parser.add_argument("--device", help="cpu, cuda, mps ... (default: a GPU if there is one)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="(default: bfloat16 on a GPU)")


def main(args: argparse.Namespace) -> None:
    from ..data.validate_mouth_mask import validate_mouth_mask  # late: it takes seconds

    start_logging("%(levelname)s: %(message)s")
    test = validate_mouth_mask(**vars(args))
    print(f"mean change of a pixel, of 255: inside the mouth {test.inside:.2f}, outside {test.outside:.2f}")
    print(f"Wrote {args.output}.")
