"""Complete systems on real data, one file each: the known result beside the obtained one, and pictures."""

from widemax.recipes.base import Recipe, Results, recipes
from widemax.recipes.known import Known
from widemax.recipes.run import RecipeResult, run_recipe

__all__ = ["Known", "Recipe", "RecipeResult", "Results", "recipes", "run_recipe"]
