from tests.fitted import digits, model, problem, recipe, watched

__all__ = ["digits", "model", "problem", "recipe", "watched"]
