"""What a study says of robustness, patterns and cost, from the networks it trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kd.config import Baseline, Ensemble
from kd.study.answers import Answers
from kd.study.cost import needed
from kd.study.evidence import Rows, results_digest
from kd.study.robustness import Ground, Scored, robustness_tables
from kd.study.run import run


@pytest.fixture(scope="module")
def folder(small_study_folder) -> Path:
    return small_study_folder
