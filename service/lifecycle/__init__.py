"""The life of versions: found, fetched, admitted, served and unloaded."""
