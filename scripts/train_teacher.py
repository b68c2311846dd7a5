"""Train one teacher on every row that has its modality, with a plain Lightning Trainer.

python scripts/train_teacher.py fou out/fou
"""

import argparse

import pytorch_lightning as pl

import kd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modality", help="fou, zer or mor")
    parser.add_argument("folder", help="where the package is written")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    source = kd.load_source("mfeat", modalities=["fou", "zer", "mor"])
    # 50 rows have everything; of the others, 200 have each modality alone.
    data = kd.DataModule(source, mask=kd.masks.severe(complete=50, pool=200, seed=arguments.seed))
    teacher = kd.Distiller(kd.classifier(data, sees=[arguments.modality], seed=arguments.seed), seed=arguments.seed)
    trainer = pl.Trainer(max_epochs=arguments.epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(teacher, data)
    print(f"{arguments.folder}: {float(trainer.callback_metrics['validation_score']):.4f} validation accuracy")
    teacher.model.save_pretrained(arguments.folder)


if __name__ == "__main__":
    main()
