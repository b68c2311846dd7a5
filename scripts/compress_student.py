"""Prune, export and quantise a student's package; every stage is a package beside the others.

python scripts/compress_student.py out/student --to out/small
"""

import argparse
from pathlib import Path

import kd
from kd.compress.package import Package
from kd.compress.pipeline import compress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", help="folder of a student")
    parser.add_argument("--to", required=True, help="parent folder of the stages")
    parser.add_argument("--macs", type=float, default=0.5, help="share of the multiply-accumulates that may remain")
    arguments = parser.parse_args()

    package = Package.load(arguments.package)
    data = kd.DataModule(kd.load_source("mfeat", modalities=package.modalities))
    training = data.source.batch(data.split.train, data.available[data.split.train])  # passes see no other rows
    passes = {
        "pruned": {"name": "structured", "macs": arguments.macs},
        "exported": {"name": "onnx"},
        "int8": {"name": "static_int8"},
    }
    for stage in compress(package.model(), training, passes):
        folder = Path(arguments.to) / stage.name
        package = Package.save(stage.model, folder, stage=stage.name, parent=package, evidence=stage.evidence)
        cost = package.cost()
        print(f"{folder}: {cost['bytes']} bytes, {cost['macs']} MACs, {stage.seconds:.1f} s")


if __name__ == "__main__":
    main()
