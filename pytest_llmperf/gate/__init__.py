"""Is it good enough? Metrics, budgets and the verdict over them."""
