"""From a hardened model to a server that runs it: folders for servers, and the adapters that servers import."""
