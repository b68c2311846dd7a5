"""Distil teachers made by train_teacher.py into one student, as KDD 2020 does: on the complete rows.

python scripts/distill_student.py out/fou out/zer out/mor --to out/student
"""

import argparse

import pytorch_lightning as pl

import kd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teachers", nargs="+", help="packages of trained teachers")
    parser.add_argument("--to", required=True, help="where the student's package is written")
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--weight", type=float, default=1.0, help="alpha of every teacher")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    source = kd.load_source("mfeat", modalities=["fou", "zer", "mor"])
    data = kd.DataModule(source, mask=kd.masks.severe(complete=50, pool=200, seed=arguments.seed))
    edges = [
        kd.Edge(kd.Classifier.from_pretrained(folder), kd.KL(temperature=arguments.temperature), arguments.weight)
        for folder in arguments.teachers
    ]
    student = kd.Distiller(
        kd.classifier(data, rows="complete", seed=arguments.seed), edges=edges, rows="complete", seed=arguments.seed
    )
    trainer = pl.Trainer(max_epochs=arguments.epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(student, data)
    print(f"{arguments.to}: {float(trainer.callback_metrics['validation_score']):.4f} validation accuracy")
    student.model.save_pretrained(arguments.to)


if __name__ == "__main__":
    main()
