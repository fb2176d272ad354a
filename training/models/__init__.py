"""Models: VAEs, GANs, their priors, networks and likelihoods."""
