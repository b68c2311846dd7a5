"""Distil teachers made by train_teacher.py into one student, as KDD 2020 does: on the complete rows.

python scripts/distill_student.py out/fou out/zer out/mor --to out/student
python scripts/distill_student.py out/fou out/zer out/mor --to out/student --devices 2 --strategy ddp --batch-size 16
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
    parser.add_argument(
        "--rows", choices=("any", "complete", "labelled"), default="complete", help="what the student learns from"
    )
    parser.add_argument("--drop", type=float, default=0.0, help="probability that a modality is hidden in training")
    parser.add_argument("--dropout", type=float, default=0.5, help="of the student's layers")
    parser.add_argument("--optimizer", choices=("adam", "adamw", "sgd"), default="adam")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32, help="rows per step and process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", type=int, default=1, help="processes that train together")
    parser.add_argument("--strategy", default="auto", help="ddp for several processes")
    arguments = parser.parse_args()

    source = kd.load_source("mfeat", modalities=["fou", "zer", "mor"])
    mask = kd.masks.severe(complete=50, pool=200, seed=arguments.seed)
    data = kd.DataModule(source, mask=mask, batch_size=arguments.batch_size, rows=arguments.rows)
    edges = [
        kd.Edge(kd.Classifier.from_pretrained(folder), kd.KL(temperature=arguments.temperature), arguments.weight)
        for folder in arguments.teachers
    ]
    encoder = {"name": "mlp", "dropout": arguments.dropout}
    student = kd.Distiller(
        kd.classifier(data, rows=arguments.rows, seed=arguments.seed, encoder=encoder),
        edges=edges,
        rows=arguments.rows,
        drop=arguments.drop,
        optimizer={"name": arguments.optimizer},
        seed=arguments.seed,
    )
    trainer = pl.Trainer(
        max_epochs=arguments.epochs,
        accelerator="cpu",
        devices=arguments.devices,
        strategy=arguments.strategy,
        logger=False,
        enable_checkpointing=False,
    )
    trainer.fit(student, data)
    if trainer.is_global_zero:
        print(f"{arguments.to}: {float(trainer.callback_metrics['validation_score']):.4f} validation accuracy")
        student.model.save_pretrained(arguments.to)


if __name__ == "__main__":
    main()
