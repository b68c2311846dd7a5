"""torchdistill's losses on the same tensors: equal where it follows the paper, elsewhere off by what is stated."""

from __future__ import annotations

from typing import Any

import torch
from torchdistill.losses import mid_level

from kd.types import Output
from tests.objectives.examples import ROWS, answers, loss, prepared

STUDENT, TEACHER = answers(seed=1), answers(seed=2)


def theirs(criterion: Any, student: torch.Tensor, teacher: torch.Tensor, targets: Any = None) -> torch.Tensor:
    own, given = ({"x": {"output": x}} for x in (student, teacher))
    found: torch.Tensor = criterion(own, given, targets)
    return found


def ours(name: str, student: Output = STUDENT, teacher: Output = TEACHER, **settings: Any) -> torch.Tensor:
    return loss(prepared(name, settings=settings), student, teacher).mean().detach()


def same(mine: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def pictures(parts: torch.Tensor) -> torch.Tensor:
    """Return [B, D, P, 1]: channels second, as torchdistill reads positions."""
    return parts.transpose(1, 2).unsqueeze(-1)


def test_kl() -> None:
    # Without targets it leaves out T^2.
    criterion = mid_level.KDLoss("x", "output", "x", "output", temperature=3.0, alpha=0.0)
    same(ours("kl", temperature=3.0), 9 * theirs(criterion, STUDENT.logits, TEACHER.logits))


def test_dist() -> None:
    criterion = mid_level.DISTLoss("x", "output", "x", "output", beta=1.0, gamma=2.0, tau=2.0, eps=0.0)
    same(ours("dist", temperature=2.0, gamma=2.0, form="code"), theirs(criterion, STUDENT.logits, TEACHER.logits))


def test_attention_transfer() -> None:
    pair = {"a": {"teacher": {"path": "x", "io": "output"}, "student": {"path": "x", "io": "output"}}}
    own, given = pictures(STUDENT.parts), pictures(TEACHER.parts)  # type: ignore[arg-type]
    same(ours("at", form="code"), theirs(mid_level.ATLoss(pair, mode="code"), own, given))
    # The paper's half is left out.
    same(2 * ours("at"), theirs(mid_level.ATLoss(pair, mode="paper"), own, given))


def test_rkd() -> None:
    far, wide = (mid_level.RKDLoss("x", "x", d, a, reduction="mean") for d, a in ((1.0, None), (None, 1.0)))
    # Tuples that name a row twice are in its means, where they are 0.
    same(ours("rkd", angle=0.0) * (ROWS - 1) / ROWS, _one(far, 0))
    same(ours("rkd", distance=0.0, angle=1.0) * (ROWS - 1) * (ROWS - 2) / ROWS**2, _one(wide, 1))


def _one(criterion: Any, which: int) -> torch.Tensor:
    parts = (criterion.compute_rkd_distance_loss, criterion.compute_rkd_angle_loss)
    found: torch.Tensor = parts[which](TEACHER.feature, STUDENT.feature)
    return found


def test_sp_scales_rows_by_another_norm() -> None:
    criterion = mid_level.SPKDLoss("x", "x", reduction="batchmean")
    found = theirs(criterion, STUDENT.feature, TEACHER.feature)  # type: ignore[arg-type]

    def summed(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(x @ x.T, p=1, dim=1)

    same((summed(STUDENT.feature) - summed(TEACHER.feature)).square().sum() / ROWS**2, found)  # type: ignore[arg-type]
    assert not torch.isclose(ours("sp"), found)


def test_cc_takes_the_root_of_the_sum_and_does_not_scale_rows() -> None:
    config = {"type": "gaussian", "gamma": 0.4, "max_p": 2}
    criterion = mid_level.CCKDLoss("x", "x", config, reduction="batchmean")
    unit = [torch.nn.functional.normalize(x.feature, dim=1) for x in (STUDENT, TEACHER)]  # type: ignore[arg-type]
    same(ours("cc") * ROWS**2, (ROWS**2 * theirs(criterion, *unit)) ** 2)


def test_pkt_counts_a_row_as_its_own_neighbour() -> None:
    criterion = mid_level.PKTLoss("x", "output", "x", "output", eps=1e-15)
    found = theirs(criterion, STUDENT.feature, TEACHER.feature)  # type: ignore[arg-type]

    def neighbours(x: torch.Tensor) -> torch.Tensor:
        unit = torch.nn.functional.normalize(x, dim=1)
        kernel = (unit @ unit.T + 1) / 2
        return kernel / kernel.sum(dim=1, keepdim=True)

    own, given = neighbours(STUDENT.feature), neighbours(TEACHER.feature)  # type: ignore[arg-type]
    same((given * (given / own).log()).mean(), found)
    assert not torch.isclose(ours("pkt") / ROWS, found)


def test_logit_std() -> None:
    # It adds 1e-7 to every deviation, divides by C - 1 and, without targets, leaves out T^2.
    criterion = mid_level.LogitStdKDLoss("x", "output", "x", "output", temperature=2.0, eps=0.0, alpha=0.0)
    mine = ours("logit_std", loss={"name": "kl", "temperature": 2.0}, form="code")
    same(mine, 4 * theirs(criterion, STUDENT.logits, TEACHER.logits))


def test_vid() -> None:
    objective = prepared("vid", settings={"form": "code"})
    mean = objective.projection(STUDENT.feature).detach()  # type: ignore[operator]
    variance = (torch.nn.functional.softplus(objective.raw) + 1e-5).detach()  # type: ignore[arg-type, operator]
    pair = {"a": {"teacher": {"path": "x", "io": "output"}, "student": {"path": "x", "io": "output"}}}
    student = {"x": {"output": (mean, variance.expand_as(mean))}}
    found = mid_level.VIDLoss(pair)(student, {"x": {"output": TEACHER.feature}})
    same(loss(objective, STUDENT, TEACHER).mean().detach(), found)
