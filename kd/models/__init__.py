"""Networks: an encoder per modality, a stand-in for what is absent, a fusion, a head; the tables that name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kd.registry import Entry, Registry

if TYPE_CHECKING:
    from kd.models.classifier import Classifier as Classifier
    from kd.models.package import load_package as load_package
    from kd.models.package import save_package as save_package

ENCODERS = Registry(
    "encoder",
    {
        "linear": Entry("kd.models.encoders:Linear", "one linear map of a feature vector", "ours"),
        "mlp": Entry(
            "kd.models.encoders:MLP",
            "Linear-ReLU-Dropout layers, then a linear map to the shared width",
            "Wang et al., KDD 2020 (released code)",
        ),
        "cnn": Entry(
            "kd.models.image:CNN",
            "residual 3x3 convolutions with group normalisation, the mean over the picture",
            "He et al. 2016, 1512.03385; Wu & He 2018, 1803.08494",
        ),
        "torchvision": Entry(
            "kd.models.backbone:Torchvision",
            "any classification network of torchvision, pre-trained or not",
            "torchvision.models; each network's own paper",
        ),
        "bag": Entry(
            "kd.models.text:Bag",
            "the mean of the tokens' embeddings, then Linear-ReLU-Dropout layers",
            "deep averaging network, Iyyer et al. 2015, ACL P15-1162",
        ),
        "words": Entry(
            "kd.models.text:Words",
            "a small transformer over tokens, from random weights",
            "Devlin et al. 2019, 1810.04805, as transformers builds it",
        ),
        "transformers": Entry(
            "kd.models.language:Transformers",
            "any encoder of transformers, pre-trained or of a configuration",
            "transformers; each model's own paper",
        ),
        "gru": Entry(
            "kd.models.sequence:GRU",
            "gated recurrent units over the steps that are there",
            "Cho et al. 2014, 1406.1078",
        ),
    },
)

FUSIONS = Registry(
    "fusion",
    {
        "concat": Entry(
            "kd.models.fusion.concat:Concat",
            "representations side by side, zeros where absent",
            "Wang et al., KDD 2020",
        ),
        "mean": Entry(
            "kd.models.fusion.mean:Mean", "mean over the modalities that are present", "HeMIS' first moment, 1607.05194"
        ),
        "gated": Entry(
            "kd.models.fusion.gated:Gated",
            "a learnt softmax gate over the modalities that are present",
            "GMU, Arevalo et al. 2017, 1702.01992, softmax over M",
        ),
        "attention": Entry(
            "kd.models.fusion.attention:Attention",
            "a learnt query attends to the tokens present, absent keys masked",
            "Vaswani et al. 2017, 1706.03762; pooling of 1810.00825",
        ),
        "hemis": Entry(
            "kd.models.fusion.hemis:HeMIS",
            "mean and variance over the modalities that are present, side by side",
            "HeMIS, Havaei et al. 2016, 1607.05194",
        ),
        "embracenet": Entry(
            "kd.models.fusion.embracenet:EmbraceNet",
            "every feature from one modality, drawn among those that are present",
            "EmbraceNet, Choi & Lee 2019, 1904.09078",
        ),
        "poe_vae": Entry(
            "kd.models.fusion.poe_vae:PoEVAE",
            "a product of Gaussian experts and a prior, with its own evidence bound",
            "MVAE, Wu & Goodman 2018, 1802.05335, on representations",
        ),
        "shaspec": Entry(
            "kd.models.fusion.shaspec:ShaSpec",
            "shared and specific features; an absent modality gets the mean of the shared ones",
            "ShaSpec, Wang et al. 2023, 2307.14126, on representations",
        ),
        "transformer": Entry(
            "kd.models.fusion.transformer:Transformer",
            "a learnt token reads the tokens present through layers of attention, absent keys masked",
            "Vaswani et al. 2017, 1706.03762; late fusion of 2512.22991",
        ),
        "prompts": Entry(
            "kd.models.fusion.prompts:Prompts",
            "the same transformer with learnt tokens for each missing pattern",
            "missing-aware prompts, Lee et al. 2023, 2303.03369",
        ),
    },
)

STAND_INS = Registry(
    "stand-in",
    {
        "nothing": Entry(
            "kd.models.absent.base:StandIn",
            "absent modalities stay absent: zeros in the fusion",
            "Wang et al., KDD 2020",
        ),
        "zero": Entry(
            "kd.models.absent.zero:Zero",
            "zeros handed to the encoder as if measured; padding in a text",
            "a usual baseline, e.g. of SMIL, Ma et al. 2021, 2103.05677",
        ),
        "mean": Entry(
            "kd.models.absent.mean:Mean",
            "the training mean of the input handed to the encoder as if measured",
            "Little & Rubin, Statistical Analysis with Missing Data",
        ),
        "token": Entry(
            "kd.models.absent.token:Token",
            "a learnt vector per modality in place of its representation",
            "mask tokens of 1810.04805 and 2111.06377, one per modality",
        ),
        "flags": Entry(
            "kd.models.absent.flags:Flags",
            "which modalities are there, as one more representation",
            "Cohen & Cohen 1975; Van Ness et al. 2023, 2211.09259",
        ),
        "knn": Entry(
            "kd.models.absent.knn:KNN",
            "a vector as the mean of the training rows nearest in the modalities present",
            "Troyanskaya et al. 2001, as scikit-learn's KNNImputer",
        ),
        "ridge": Entry(
            "kd.models.absent.ridge:Ridge",
            "a vector by ridge regression on those present, one for each pattern",
            "Hoerl & Kennard 1970; scikit-learn's RidgeCV",
        ),
        "iterative": Entry(
            "kd.models.absent.iterative:Iterative",
            "a vector by chained equations over principal components",
            "van Buuren & Groothuis-Oudshoorn 2011, as scikit-learn's IterativeImputer",
        ),
        "reconstruct": Entry(
            "kd.models.absent.reconstruct:Reconstruct",
            "the representation predicted from those present by a decoder per pair",
            "of the family of MMIN, Zhao et al. 2021, ACL 2021.acl-long.203",
        ),
    },
)


def __getattr__(name: str) -> Any:
    # Networks need torch; the tables do not, and `kd --help` reads the tables.
    if name == "Classifier":
        from kd.models.classifier import Classifier

        return Classifier
    if name in ("load_package", "save_package"):
        from kd.models import package

        return getattr(package, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
