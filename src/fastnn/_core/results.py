"""What calls of compiled modules return, where it has arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class LanesResult(NamedTuple):
    """What epochs of training with validation after each have given, of members side by side.

    Attributes
    ----------
    figures : ndarray (5, epochs, members)
        Losses, shares of rows classified correctly, penalties; losses and accuracies of the validation rows.
    steps : ndarray (epochs,)
        Updates done by the end of each epoch.
    epochs : ndarray (members,)
        How many count; 0: something was not finite.
    best : ndarray (members,)
        As in :class:`fastnn.plan.CourseResult`.
    theta : ndarray (members, P)
        At the end of the last epoch that counts.
    best_theta : ndarray (members, P) or None
        At the end of the best one.
    error : BaseException or None
        What has interrupted the call within an epoch.
    """

    figures: np.ndarray
    steps: np.ndarray
    epochs: np.ndarray
    best: np.ndarray
    theta: np.ndarray
    best_theta: np.ndarray | None
    error: BaseException | None = None
