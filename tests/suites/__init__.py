"""Does each acceptance suite fail when what it is about does nothing?"""
