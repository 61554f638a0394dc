"""Does it fit, and how fast will it be? Decided before anything is loaded."""
