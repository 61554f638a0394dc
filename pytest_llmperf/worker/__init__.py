"""Where does the engine run? In a process of its own, behind typed messages.

Nothing is imported here, because the worker process itself starts through this package.
"""
