# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Zero the mouth in a clip's latents, decode, and see what changed (paper, Appendix A):

python training/validate_mouth_mask.py --video clip.mp4 --model nano/ --output mouth.png
"""

import argparse
import sys

from diffusers_jova.command import run, start_logging


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", required=True, help="a clip with a face")
    parser.add_argument("--model", required=True, help="folder of the pipeline whose video VAE is tried")
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
    return parser.parse_args(args)


def measure(args: argparse.Namespace) -> None:
    from diffusers_jova.training.preprocessing import validate_mouth_mask  # late: it takes seconds

    start_logging("%(levelname)s: %(message)s")
    test = validate_mouth_mask(**vars(args))
    print(f"mean change of a pixel, of 255: inside the mouth {test.inside:.2f}, outside {test.outside:.2f}")
    print(f"Wrote {args.output}.")


def main(args: argparse.Namespace) -> int:
    return run(measure, args)


if __name__ == "__main__":
    sys.exit(main(parse_args()))
