"""What the note says of the printed ADE20K rows, computed from the exact law of the binary loss."""

from __future__ import annotations

import math

from conformask.reproduction.paper import LOW_NOTE, PUBLISHED

N_CALIBRATION, N_TEST, N_SPLITS = 500, 1500, 10


def test_how_far_below_the_law_the_printed_risks_lie() -> None:
    """Errors of a new image are Beta(m, n + 1 - m) for the m-th largest critical value; the test images add theirs."""
    distances = []
    for row in PUBLISHED:
        if row.dataset == "ade20k" and row.tau is not None:
            m = math.floor((N_CALIBRATION + 1) * row.alpha + 1e-9)
            mean = m / (N_CALIBRATION + 1)
            of_calibration = mean * (1 - mean) / (N_CALIBRATION + 2)
            of_test = mean * (1 - mean) * (N_CALIBRATION + 1) / (N_CALIBRATION + 2) / N_TEST
            distances.append((mean - row.risk) / math.sqrt((of_calibration + of_test) / N_SPLITS))
    assert len(distances) == 3
    assert f"{min(distances):.1f} to {max(distances):.1f}" in LOW_NOTE
