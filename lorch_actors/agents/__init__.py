"""Programs that are agents: they speak the wire protocol on stdin and stdout."""
