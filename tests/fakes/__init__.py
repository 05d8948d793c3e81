"""Outside services on loopback. Each checks every field it is sent against the contract, with the rule beside the
check, keeps what it was given as the real one would, and fails when it is told to."""
