# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure whether jova-nano still says its words with a LoRA of one person, and whether the person came nearer.

python training/nano/measure_lora.py --model jova-nano --lora lora/ --identity 10007 --voice slt

Clips say combinations of digits that no training clip says, with the captions of that person; base and LoRAs have the
same noise. Needs flite, and the extras faces and eval. About two minutes on two cores for each of base and LoRAs.
"""

import argparse
import sys

from diffusers_jova.command import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jova-nano", help="(default: %(default)s)")
    parser.add_argument("--lora", nargs="*", default=(), help="folders that train-lora wrote")
    parser.add_argument("--identity", type=int, help="of the clips: see make_corpus.py")
    parser.add_argument("--voice", help="of the clips: see make_corpus.py")
    parser.add_argument("--num_clips", type=int, default=40, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the clips' words (default: %(default)s)")
    parser.add_argument("--noise_seed", type=int, default=1000, help="of the first clip (default: %(default)s)")
    parser.add_argument("--num_workers", type=int, default=2, help="processes that find lips (default: %(default)s)")
    return parser.parse_args()


def measure_row(pipe, plans, seed, num_workers):
    """Return one line of the table: words wrong with their 95 % interval, lips, faces, distance to the person."""
    import numpy as np  # late, here and below: they take seconds

    from diffusers_jova.nano.faces import Pose, draw_face
    from diffusers_jova.nano.measuring import generate, measure
    from diffusers_jova.nano.pictures import identity_distance
    from diffusers_jova.nano.report import captioned

    clips = generate(pipe, [captioned(plan) for plan in plans], seed)
    m = measure(clips, num_workers)
    low, high = m.word_error_interval
    face = np.asarray(draw_face(plans[0].face(), Pose(), 64))
    distance = np.mean([identity_distance(frames, face) for frames in clips.frames])
    return (
        f"{m.word_error_rate:.3f} | {low:.3f}–{high:.3f} | {m.lips_in_time:.2f} | {100 * m.faces_found:.1f} % "
        f"| {distance:.4f} |"
    )


def main(args: argparse.Namespace) -> None:
    from diffusers_jova import JoVAPipeline
    from diffusers_jova.nano.corpus import plan_clip

    plans = [plan_clip("held_out", index, args.seed, args.identity, args.voice) for index in range(args.num_clips)]
    words = sum(len(plan.digits) for plan in plans)
    print(f"{len(plans)} clips, {words} words, noise seeds {args.noise_seed} and up\n", flush=True)
    print(
        "| | words wrong | 95 % interval | lips: r at lag −1…1 | face found | picture distance |\n" + "|---" * 6 + "|"
    )
    pipe = JoVAPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    for lora in (None, *args.lora):
        if lora is not None:
            pipe.load_lora_weights(lora)
        row = measure_row(pipe, plans, args.noise_seed, args.num_workers)
        print(f"| {lora or 'base'} | {row}", flush=True)
        pipe.unload_lora_weights()


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
