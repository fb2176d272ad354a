"""Versions are found, fetched, admitted, served and let go."""
