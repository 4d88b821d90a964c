"""A stranger's Lightning project, in the style of public examples: no line of it knows normlab."""
