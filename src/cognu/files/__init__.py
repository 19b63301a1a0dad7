"""Files: the contract every service fills in, chans, namespaces, and the one dispatch that all operations pass."""
