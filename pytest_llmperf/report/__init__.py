"""Who is told? The terminal, a JSON file, JUnit; all from one result."""
