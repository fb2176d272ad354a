"""Noise, priors, calibration and the rules of filtered sampling, in numpy."""
