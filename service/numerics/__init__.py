"""Noise, priors, calibration and rejection rules, on numpy alone."""
