"""The picture of GAN methods on mixtures of Gaussians, drawn by `make figure`.

Every method trains the same generator for the same CPU time on the same points. A finished run is one JSON
file, so the picture and the table are drawn again in seconds.
"""
