"""Bulk work: operations over files of any size, without a service."""
