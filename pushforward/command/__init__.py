"""The command `pushforward`."""
