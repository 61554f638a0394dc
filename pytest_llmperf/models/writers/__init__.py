"""How are a synthetic model's files written? All of this runs in the builder's own process.

numpy, gguf, llama_cpp, torch and transformers are imported below this package only, so that
pytest's process never loads an engine and survives whatever happens to one.
"""
