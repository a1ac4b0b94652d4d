"""Profiles: all that calibration needs of the images. They calibrate for every loss, alpha and split without maps."""

from conformask.profiles.base import Profiles
from conformask.profiles.binned import BinnedProfiles
from conformask.profiles.build import load_profiles, profile
from conformask.profiles.exact import Activation, ScoreProfiles

__all__ = ["Activation", "BinnedProfiles", "Profiles", "ScoreProfiles", "load_profiles", "profile"]


def __dir__() -> list[str]:
    return sorted(__all__)
