"""What spoils each suite: ``MUTATIONS`` of the module of its name."""
