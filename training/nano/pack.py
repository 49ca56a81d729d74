# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Put a trained transformer and the other components into one folder, with weights in 16 bits.

python training/nano/pack.py --base outputs/nano/base --transformer outputs/nano/joint/transformer \\
    --output_dir outputs/nano/jova-nano
"""

import argparse
from pathlib import Path

from diffusers_jova import JoVAPipeline, JoVATransformer3DModel
from diffusers_jova.nano.assemble import pack


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="folder that train_components.py wrote")
    parser.add_argument("--transformer", required=True, help="folder that train.py wrote")
    parser.add_argument("--output_dir", required=True, help="folder of the pipeline")
    args = parser.parse_args()
    pipe = JoVAPipeline.from_pretrained(
        args.base, transformer=JoVATransformer3DModel.from_pretrained(args.transformer)
    )
    pack(pipe, Path(args.output_dir))
