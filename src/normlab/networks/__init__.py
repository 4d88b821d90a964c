"""Networks of the user: a class or function of any module as a model of the pipeline."""
