"""One process or several: the server, its protocol, ports and supervisor."""
